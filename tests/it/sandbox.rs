//! One user's world: directories of its own, VM names of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything takes on a busy machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Directories of their own for definitions and disks, under the real user manager.
///
/// Its VMs have names that no other test uses, and end with it.
pub struct Sandbox {
    pub dir: tempfile::TempDir,
    prefix: String,
}

/// What a command said and how it ended.
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub status: i32,
    what: String,
}

impl Sandbox {
    pub fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// One in this directory.
    pub fn within(dir: tempfile::TempDir) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let sandbox = Self {
            dir,
            prefix: format!("t{}x{count}", std::process::id()),
        };
        let answer = systemctl(&["is-system-running"]);
        assert!(
            matches!(answer.stdout.trim(), "running" | "degraded" | "starting"),
            "no systemd user manager here ({}{}): run the tests with tests/host/test",
            answer.stdout,
            answer.stderr
        );
        sandbox
    }

    /// One with a VM `web` that runs, and whose guest never runs an instruction.
    pub fn running() -> Self {
        let sandbox = Self::new();
        sandbox.add_prelaunch("web");
        sandbox.maqet(&["start", "@web"]).ok();
        sandbox
    }

    /// The name that `short` has in this sandbox.
    pub fn name(&self, short: &str) -> String {
        format!("{}-{short}", self.prefix)
    }

    pub fn unit(&self, short: &str) -> String {
        format!("maqet-{}.service", self.name(short))
    }

    /// The runtime directory of a VM.
    pub fn runtime(&self, short: &str) -> PathBuf {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").unwrap();
        Path::new(&runtime).join("maqet").join(self.name(short))
    }

    /// The data directory of a VM.
    pub fn vm_dir(&self, short: &str) -> PathBuf {
        self.dir
            .path()
            .join("data/maqet/vms")
            .join(self.name(short))
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// The maqet command with this sandbox's directories.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maqet"));
        command
            .args(args)
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// The same, in whose arguments `@web` is the sandbox's VM `web`.
    pub fn command_of(&self, args: &[&str]) -> Command {
        let args = self.expand(args);
        self.command(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs maqet; `@web` in an argument is the sandbox's VM `web`.
    #[must_use = "say what is expected of it: `.ok()` or `.fails(STATUS)`"]
    pub fn maqet(&self, args: &[&str]) -> Ran {
        let args = self.expand(args);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Ran::new(
            format!("maqet {}", args.join(" ")),
            self.command(&args).output().unwrap(),
        )
    }

    /// Starts maqet and does not wait for it.
    pub fn spawn(&self, args: &[&str]) -> Child {
        let args = self.expand(args);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.command(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Puts `maqet@.service` where the manager finds it, until the user logs out.
    pub fn install_template(&self) {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            if systemctl(&["cat", "maqet@.service"]).status == 0 {
                return;
            }
            let runtime = std::env::var_os("XDG_RUNTIME_DIR").unwrap();
            let dir = Path::new(&runtime).join("systemd/user");
            let template = concat!(env!("CARGO_MANIFEST_DIR"), "/units/maqet@.service.in");
            let bin = Path::new(env!("CARGO_BIN_EXE_maqet")).parent().unwrap();
            let text = std::fs::read_to_string(template).unwrap();
            std::fs::create_dir_all(&dir).unwrap();
            let text = text.replace("@BINDIR@", bin.to_str().unwrap());
            std::fs::write(dir.join("maqet@.service"), text).unwrap();
            systemctl(&["daemon-reload"]).ok();
        });
    }

    fn expand(&self, args: &[&str]) -> Vec<String> {
        args.iter()
            .map(|arg| match arg.strip_prefix('@') {
                Some(short) => self.name(short),
                None => (*arg).to_owned(),
            })
            .collect()
    }

    /// Adds a VM whose guest never runs an instruction: up in a tenth of a second.
    pub fn add_prelaunch(&self, short: &str) {
        self.add(short, &["--qemu-arg=-S"]);
    }

    /// Adds a small VM with further options.
    pub fn add(&self, short: &str, options: &[&str]) {
        let name = format!("@{short}");
        let name = self.expand(&[&name]).remove(0);
        let mut args = vec!["add", "--name", &name, "--memory", "64M", "--accel", "tcg"];
        args.extend(options);
        self.maqet(&args).ok();
    }

    /// Adds a VM with further lines in its definition, in which `@db` is a VM of the sandbox.
    pub fn add_lines(&self, short: &str, lines: &str) {
        self.try_lines(short, lines).ok();
    }

    /// The same, for what may be refused.
    pub fn try_lines(&self, short: &str, lines: &str) -> Ran {
        let lines = lines.replace('@', &self.name(""));
        let file = self.path(&format!("{}.toml", self.name(short)));
        let text = format!("memory = \"64M\"\naccel = \"tcg\"\nqemu.args = [\"-S\"]\n{lines}\n");
        std::fs::write(&file, text).unwrap();
        self.maqet(&["add", file.to_str().unwrap()])
    }

    /// Adds the probe guest, which does what its kernel command line tells it.
    ///
    /// The kernel's tests of its cryptography are a fifth of the time that it takes to boot.
    pub fn add_probe(&self, short: &str, words: &str) {
        self.add_probe_with(short, words, &[]);
    }

    /// The same with further options.
    pub fn add_probe_with(&self, short: &str, words: &str, options: &[&str]) {
        let guests = guests();
        let kernel = guests.join("probe/kernel");
        let initrd = guests.join("probe/initrd");
        let name = self.name(short);
        let append = format!("console=ttyS0 quiet cryptomgr.notests {words}");
        let mut args = vec!["add", "--name", &name, "--memory", "128M", "--accel", "tcg"];
        args.extend(["--kernel", kernel.to_str().unwrap()]);
        args.extend(["--initrd", initrd.to_str().unwrap()]);
        args.extend(["--append", &append]);
        args.extend(options);
        self.maqet(&args).ok();
    }

    /// Adds a VM that boots Debian, with qemu-ga and an SSH server, from a disk of its own.
    ///
    /// `lines` are further ones of its definition.
    pub fn add_debian(&self, short: &str, lines: &str) {
        let guest = guests().join("debian");
        let image = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .args([guest.join("root.qcow2"), self.path("root.qcow2")])
            .status();
        assert!(image.unwrap().success());
        let guest = guest.display();
        let text = format!(
            "memory = \"512M\"\naccel = \"tcg\"\n\
             kernel = \"{guest}/kernel\"\ninitrd = \"{guest}/initrd\"\n\
             append = \"root=/dev/vda rw quiet cryptomgr.notests console=ttyS0\"\n{lines}\n\
             [disk.root]\nfile = \"root.qcow2\"\n"
        );
        let file = format!("{}.toml", self.name(short));
        std::fs::write(self.path(&file), text).unwrap();
        self.maqet(&["add", &file]).ok();
    }

    /// Waits until the guest has printed `text` on its console.
    pub fn wait_for_console(&self, short: &str, text: &str) {
        let log = self.vm_dir(short).join("console.log");
        wait_until(&format!("console of {short} says {text:?}"), || {
            std::fs::read(&log).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
        });
    }

    /// The VM as `ls --json` shows it.
    pub fn listed(&self, short: &str) -> Value {
        let name = self.name(short);
        let list: Value = self.maqet(&["ls", "--json", &name]).json();
        list[0].clone()
    }

    pub fn state(&self, short: &str) -> String {
        self.listed(short)["state"]
            .as_str()
            .unwrap_or("not listed")
            .to_owned()
    }

    /// Waits until `ls` gives the VM this state.
    #[track_caller]
    pub fn wait_for_state(&self, short: &str, state: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is = self.state(short);
            if is == state {
                break;
            }
            if Instant::now() > deadline {
                let status = self.maqet(&["status", &self.name(short)]).stdout;
                panic!("waited in vain for {state}: {is}\n{status}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A property of the VM's unit, as `systemctl show` prints it.
    pub fn property(&self, short: &str, property: &str) -> String {
        let unit = self.unit(short);
        let ran = systemctl(&["show", "--value", "--property", property, &unit]).ok();
        ran.stdout.trim().to_owned()
    }

    /// QEMU's process.
    pub fn pid(&self, short: &str) -> u32 {
        self.property(short, "MainPID").parse().unwrap()
    }

    /// The QEMU processes whose VM is this one.
    pub fn qemus(&self, short: &str) -> Vec<u32> {
        let guest = format!("guest={},", self.name(short));
        let mut found = Vec::new();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = process.file_name().to_string_lossy().parse() else {
                continue;
            };
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&guest) {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let pattern = format!("maqet-{}-*.service", self.prefix);
        for args in [
            &["kill", "--signal=KILL", &pattern][..],
            &["stop", &pattern],
            &["reset-failed", &pattern],
        ] {
            let _ = systemctl(args);
        }
        // Links to maqet@.service that a test has left.
        let config = std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
        let wants = config.map(|config| config.join("systemd/user/default.target.wants"));
        for link in wants.iter().flat_map(std::fs::read_dir).flatten().flatten() {
            let ours = format!("maqet@{}-", self.prefix);
            if link.file_name().to_string_lossy().starts_with(&ours) {
                let _ = std::fs::remove_file(link.path());
            }
        }
    }
}

impl Ran {
    fn new(what: String, output: Output) -> Self {
        Self {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status.code().unwrap_or(-1),
            what,
        }
    }

    /// Waits for what [`Sandbox::spawn`] started, but not for ever.
    #[track_caller]
    pub fn of(mut child: Child) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("a command hangs: {:?}", child.wait_with_output());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Self::new(
            "a maqet in the background".to_owned(),
            child.wait_with_output().unwrap(),
        )
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        self.fails(0)
    }

    /// It must have ended with this exit status.
    #[track_caller]
    pub fn fails(self, status: i32) -> Self {
        assert_eq!(
            self.status, status,
            "{}\n--- stdout\n{}--- stderr\n{}",
            self.what, self.stdout, self.stderr
        );
        self
    }

    /// It must have said this on stderr.
    #[track_caller]
    pub fn saying(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "{} does not say {text:?}\n--- stdout\n{}--- stderr\n{}",
            self.what,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Its answer, which must be one JSON document.
    #[track_caller]
    pub fn json(self) -> Value {
        let ran = self.ok();
        serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", ran.what, ran.stdout))
    }
}

/// `systemctl --user`.
pub fn systemctl(args: &[&str]) -> Ran {
    let mut command = Command::new("systemctl");
    let command = command.arg("--user").args(args);
    let mut output = command.output().unwrap();
    // It gives up where maqet does not: a test has the manager execute itself anew.
    let deadline = Instant::now() + Duration::from_secs(30);
    let gave_up = |output: &Output| {
        let words = String::from_utf8_lossy(&output.stderr);
        let all = [
            "without replying",
            "connect to bus",
            "Connection",
            "Transport",
        ];
        all.iter().any(|wrong| words.contains(wrong))
    };
    while gave_up(&output) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        output = command.output().unwrap();
    }
    Ran::new(format!("systemctl --user {}", args.join(" ")), output)
}

/// Where the test guests are.
pub fn guests() -> PathBuf {
    std::env::var_os("MAQET_TEST_GUESTS")
        .expect("$MAQET_TEST_GUESTS: run the tests with tests/host/test")
        .into()
}

/// Waits for something that must become true.
#[track_caller]
pub fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a process has opened this file: by then it listens.
#[track_caller]
pub fn wait_until_open(process: &Child, file: &Path) {
    let descriptors = format!("/proc/{}/fd", process.id());
    wait_until(&format!("{} is open", file.display()), || {
        let all = std::fs::read_dir(&descriptors).into_iter().flatten();
        all.flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|open| open == file))
    });
}

/// Sends a signal to a process that this test knows to be its own, unless it has ended.
pub fn signal(pid: u32, signal: i32) {
    assert!(pid > 1, "not a process of a test: {pid}");
    // SAFETY: kill(2) touches no memory.
    let sent = unsafe { libc::kill(pid as i32, signal) };
    let error = std::io::Error::last_os_error();
    let has_ended = error.raw_os_error() == Some(libc::ESRCH);
    assert!(sent == 0 || has_ended, "kill {pid}: {error}");
}

/// Two ports of the host that nobody listens on.
pub fn free_ports() -> [u16; 2] {
    let bind = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let both = [(), ()].map(bind);
    both.map(|listener| listener.local_addr().unwrap().port())
}
