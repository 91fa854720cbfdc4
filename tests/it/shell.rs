use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::sandbox::{PATIENCE, Ran, Sandbox};

/// A command on a terminal.
pub struct Terminal {
    keys: File,
    screen: Arc<Mutex<String>>,
    shell: Option<Child>,
}

impl Terminal {
    /// `maqet qmp web`, with its prompt.
    fn open(sandbox: &Sandbox) -> Self {
        let name = sandbox.name("web");
        let terminal = Self::run(sandbox, &["qmp", &name]);
        terminal.shows(&format!("{name}> "));
        terminal
    }

    /// Any command.
    pub fn run(sandbox: &Sandbox, args: &[&str]) -> Self {
        let (mut keys, mut terminal) = (-1, -1);
        let nothing = std::ptr::null_mut();
        let size = libc::winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: openpty(3) writes the two numbers and reads the size; the other pointers
        // it takes for absent.
        let opened =
            unsafe { libc::openpty(&mut keys, &mut terminal, nothing, nothing.cast(), &size) };
        assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: they are open, and nobody else's.
        let [keys, terminal] = [keys, terminal].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        fcntl_setfd(&keys, FdFlags::CLOEXEC).unwrap();
        let shell = sandbox
            .command(args)
            .env("TERM", "xterm")
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal)
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, text) = (File::from(keys.try_clone().unwrap()), screen.clone());
        // Until the terminal has no other end.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let said = String::from_utf8_lossy(&bytes[..count]).into_owned();
                text.lock().unwrap().push_str(&said);
            }
        });
        Self {
            keys: keys.into(),
            screen,
            shell: Some(shell),
        }
    }

    fn types(&mut self, keys: &str) {
        self.screen.lock().unwrap().clear();
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// It must come to show this since the last keys.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        self.waits(text, |screen| screen.contains(text));
    }

    /// It must come to show this, and then the prompt again: not before does it take
    /// keys as they are.
    #[track_caller]
    fn answers(&self, text: &str) {
        self.waits(text, |screen| {
            screen
                .rsplit_once(text)
                .is_some_and(|(_, rest)| rest.contains("-web> "))
        });
    }

    #[track_caller]
    fn waits(&self, text: &str, is_shown: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_shown(&self.screen.lock().unwrap()) {
            assert!(
                Instant::now() < deadline,
                "no {text:?} among {:?}",
                self.screen.lock().unwrap()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    pub fn ends(mut self) {
        Ran::of(self.shell.take().unwrap()).ok();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(shell) = &mut self.shell {
            // It may have ended already.
            let _ = shell.kill();
            let _ = shell.wait();
        }
    }
}

#[test]
fn commands_are_answered_and_a_refused_one_ends_nothing() {
    let sandbox = Sandbox::running();
    let mut terminal = Terminal::open(&sandbox);
    terminal.types("query-status\r");
    terminal.answers("\"status\": \"prelaunch\"");
    terminal.types("query-statsu\r");
    terminal.shows("QEMU refused `query-statsu`");
    terminal.answers("did you mean `query-status`");
    terminal.types("balloon value=lots\r");
    terminal.answers("expected a whole number");
    terminal.types("{\"execute\": \"query-name\"}\r");
    terminal.answers(&format!("\"name\": \"{}\"", sandbox.name("web")));
    terminal.types("help balloon\r");
    terminal.answers("value     yes");
    terminal.types("help\r");
    terminal.answers("ctrl-D");
    // A line that ctrl-C cleared is not executed.
    terminal.types("nonsense\x03");
    terminal.answers("nonsense");
    terminal.types("query-kvm\r");
    terminal.answers("\"present\": ");
    assert!(!terminal.screen.lock().unwrap().contains("refused"));
    // What ends QEMU is asked about first.
    terminal.types("quit\r");
    terminal.shows("[y/N]");
    terminal.types("n\r");
    terminal.answers("n");
    terminal.types("\x04");
    terminal.ends();
    sandbox.maqet(&["qmp", "@web", "query-status"]).ok();

    let history = sandbox.path("data/maqet/qmp_history");
    let mode = history.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = std::fs::read_to_string(&history).unwrap();
    assert!(kept.contains("\nquery-status\nquery-statsu\nballoon value=lots\n"));
    // It is there the next time: up, up, …
    let mut terminal = Terminal::open(&sandbox);
    terminal.types("\x1b[A\x1b[A\x1b[A\r");
    terminal.answers("ctrl-D");
    terminal.types("exit\r");
    terminal.ends();
}

#[test]
fn words_are_completed_from_the_schema() {
    let sandbox = Sandbox::running();
    let mut terminal = Terminal::open(&sandbox);
    terminal.types("query-nam\t\r");
    terminal.answers("\"name\": ");
    terminal.types("blockdev-add driver=null-c\tnode-n\tn1 read-o\ton\r");
    terminal.answers("{}");
    let nodes = sandbox
        .maqet(&["qmp", "@web", "query-named-block-nodes", "--json"])
        .json();
    assert_eq!(nodes[0]["node-name"], "n1");
    assert_eq!(nodes[0]["drv"], "null-co");
    assert_eq!(nodes[0]["ro"], true);
    // Two ways to go on: both are shown.
    terminal.types("query-stat\t\t");
    terminal.shows("query-stats-schemas");
}

#[test]
fn events_are_shown_while_others_use_the_monitor() {
    let sandbox = Sandbox::running();
    let mut terminal = Terminal::open(&sandbox);
    terminal.types("half a li");
    terminal.shows("half a li");
    sandbox.maqet(&["qmp", "@web", "cont"]).ok();
    terminal.shows("RESUME");
    // The line is still there.
    terminal.types("\x15stop\r");
    terminal.answers("STOP");
    sandbox.maqet(&["qmp", "@web", "query-status"]).ok();
}

#[test]
fn the_end_of_qemu_ends_the_shell() {
    let sandbox = Sandbox::running();
    let terminal = Terminal::open(&sandbox);
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    terminal.shows("has ended");
    terminal.ends();

    sandbox.maqet(&["start", "@web"]).ok();
    let mut terminal = Terminal::open(&sandbox);
    terminal.types("quit\r");
    terminal.shows("[y/N]");
    terminal.types("y\r");
    terminal.shows("SHUTDOWN");
    terminal.shows("has ended");
    terminal.ends();
    // There is nothing to talk to, once systemd knows that.
    sandbox.wait_for_state("web", "stopped");
    sandbox.maqet(&["qmp", "@web", "query-status"]).fails(3);
}
