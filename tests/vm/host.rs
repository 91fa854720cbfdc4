//! Commands of the machine's users.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longer than anything takes on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A user with a user manager.
#[derive(Clone, Copy)]
pub struct User {
    name: &'static str,
    uid: u32,
}

/// Has the controllers that systemd delegates.
pub const TESTER: User = User {
    name: "tester",
    uid: 1500,
};

/// Has all of them, once its user manager is started.
pub const KEEPER: User = User {
    name: "keeper",
    uid: 1501,
};

/// What a shell command said, and how it ended.
pub struct Ran {
    what: String,
    said: String,
    status: Option<i32>,
}

impl User {
    /// Runs a shell command, in which `maqet` is the one under test.
    pub fn run(self, command: &str) -> Ran {
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        assert_eq!(
            host.trim(),
            "maqet-vm",
            "these tests are for the host of tests/host/vm: run tests/host/test as root"
        );
        let maqet = env!("CARGO_BIN_EXE_maqet");
        let ran = Command::new("setpriv")
            .args(["--reuid", self.name, "--regid", self.name, "--init-groups"])
            .args(["--reset-env", "bash", "-c"])
            .arg(format!(
                "cd; export XDG_RUNTIME_DIR=/run/user/{uid} RUST_BACKTRACE=1 \
                 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{uid}/bus; \
                 maqet() {{ {maqet} \"$@\"; }}; {command}",
                uid = self.uid
            ))
            .output()
            .unwrap();
        Ran::new(command, &ran)
    }

    /// Starts the user's manager, unless it is up.
    pub fn begin(self) {
        let unit = format!("user@{}.service", self.uid);
        let started = Command::new("systemctl").args(["start", &unit]).status();
        assert!(started.unwrap().success());
    }

    /// Runs a command in the background.
    pub fn spawn(self, command: &str) -> JoinHandle<Ran> {
        let command = command.to_owned();
        thread::spawn(move || self.run(&command))
    }

    /// Runs a command that must succeed, and returns what it said.
    #[track_caller]
    pub fn ok(self, command: &str) -> String {
        self.run(command).fails(0).said
    }

    #[track_caller]
    pub fn wait_until(self, what: &str, command: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.run(command).status != Some(0) {
            assert!(
                Instant::now() < deadline,
                "waited in vain until {what}: {}",
                self.run("maqet ls; journalctl --user -n 50 --no-pager")
                    .said
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Adds a VM without KVM and network.
    #[track_caller]
    pub fn add(self, name: &str, lines: &str) {
        self.ok(&format!(
            "cat >{name}.toml <<'END'\naccel = \"tcg\"\nnet = {{}}\n{lines}\nEND\nmaqet add {name}.toml"
        ));
    }

    /// Adds one of 64 MiB whose guest never runs an instruction.
    #[track_caller]
    pub fn add_prelaunch(self, name: &str, lines: &str) {
        self.add(
            name,
            &format!("memory = \"64M\"\nqemu.args = [\"-S\"]\n{lines}"),
        );
    }

    /// A number of one of the files of a unit's cgroup that have several.
    #[track_caller]
    pub fn count(self, unit: &str, file: &str, key: &str) -> u64 {
        let text = self.cgroup(unit, file);
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(name, _)| *name == key);
        found
            .unwrap_or_else(|| panic!("{key} is not in {file}: {text}"))
            .1
            .parse()
            .unwrap()
    }

    /// A file of a unit's cgroup.
    #[track_caller]
    pub fn cgroup(self, unit: &str, file: &str) -> String {
        let group = self.ok(&format!("systemctl --user show -P ControlGroup {unit}"));
        let path = PathBuf::from(format!("/sys/fs/cgroup{}", group.trim())).join(file);
        let text = std::fs::read_to_string(&path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_owned()
    }
}

impl Ran {
    fn new(what: &str, output: &Output) -> Self {
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        Self {
            what: what.to_owned(),
            said: String::from_utf8_lossy(&said).into_owned(),
            status: output.status.code(),
        }
    }

    /// It must have ended with this exit status.
    #[track_caller]
    pub fn fails(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{}\n{}", self.what, self.said);
        self
    }

    /// What it said, on stdout and then on stderr.
    pub fn said(self) -> String {
        self.said
    }

    /// It must have said this.
    #[track_caller]
    pub fn saying(self, text: &str) -> Self {
        let Self { what, said, .. } = &self;
        assert!(said.contains(text), "{what} does not say {text:?}\n{said}");
        self
    }
}
