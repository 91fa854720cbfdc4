//! A host that can be rebooted and have its power cut.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A host that ends with the test.
pub struct Host(pub String);

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(600);

impl Host {
    pub fn start(name: &str, options: &[&str]) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "only root can boot a test host: run tests/host/test as root"
        );
        let host = Self(format!("boot-{}-{name}", std::process::id()));
        // Of another Debian than the machine's, when tests/host/test says so.
        let tree = std::env::var("MAQET_TEST_TREE").ok();
        let tree: Vec<&str> = tree.iter().flat_map(|tree| ["--tree", tree]).collect();
        host.control("start", &[options, &tree].concat());
        host
    }

    /// Runs `host VERB NAME OPTIONS…`.
    #[track_caller]
    pub fn control(&self, verb: &str, options: &[&str]) {
        let ran = script()
            .arg(verb)
            .arg(&self.0)
            .args(options)
            .output()
            .unwrap();
        assert!(ran.status.success(), "host {verb}: {}", words(&ran));
    }

    /// Runs a shell command in the host; WHO is empty (tester), `--root` or `--bare`.
    pub fn run(&self, who: &str, command: &str) -> Output {
        let mut script = script();
        script.arg("exec").arg(&self.0);
        if !who.is_empty() {
            script.arg(who);
        }
        let maqet = env!("CARGO_BIN_EXE_maqet");
        script.args([
            "--",
            "bash",
            "-c",
            &format!("maqet() {{ {maqet} \"$@\"; }}; {command}"),
        ]);
        script.output().unwrap()
    }

    /// Runs a shell command of the machine, as root, in the host's network.
    pub fn in_network(&self, command: &str) -> Output {
        let pid = std::fs::read_to_string(self.state().join("pid")).unwrap();
        Command::new("nsenter")
            .args(["-t", pid.trim(), "-n", "sh", "-c", command])
            .output()
            .unwrap()
    }

    /// The same, and it must succeed.
    #[track_caller]
    pub fn network(&self, command: &str) {
        let ran = self.in_network(command);
        assert!(ran.status.success(), "{command}: {}", words(&ran));
    }

    /// Where `tests/host/host` keeps what it has of the host.
    fn state(&self) -> PathBuf {
        let base = std::env::var_os("MAQET_TEST_DIR").unwrap_or("/var/tmp/maqet-test".into());
        PathBuf::from(base).join("hosts").join(&self.0)
    }

    /// Runs a command that must succeed, and returns what it said.
    #[track_caller]
    pub fn ok(&self, command: &str) -> String {
        let ran = self.run("", command);
        assert!(ran.status.success(), "{command}: {}", words(&ran));
        words(&ran)
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, command: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.run("", command).status.success() {
            assert!(
                Instant::now() < deadline,
                "waited in vain until {what}: {}",
                self.ok("maqet ls")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Puts `maqet@.service` where `make install` for one user puts it; its program is
    /// the one under test.
    pub fn install_template(&self) {
        let maqet = env!("CARGO_BIN_EXE_maqet");
        let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/units/maqet@.service.in");
        self.ok(&format!(
            "mkdir -p ~/.config/systemd/user && \
             sed 's|@BINDIR@/maqet|{maqet}|' {unit} > ~/.config/systemd/user/maqet@.service && \
             systemctl --user daemon-reload"
        ));
    }

    /// Adds a VM.
    #[track_caller]
    pub fn add(&self, name: &str, definition: &str) {
        self.ok(&format!(
            "cat >~/{name}.toml <<'END'\n{definition}\nEND\nmaqet add ~/{name}.toml"
        ));
    }

    /// Adds and starts the probe guest as `web`, and waits until it is up.
    #[track_caller]
    pub fn start_probe(&self) {
        self.add("web", &probe("probe.act=idle"));
        self.ok("maqet start web");
        self.wait_until_ready("web");
    }

    /// Waits until a probe has booted.
    #[track_caller]
    pub fn wait_until_ready(&self, name: &str) {
        self.wait_until(
            &format!("the guest of {name} is up"),
            // Once it runs, its console's log is that of this run.
            &format!(
                "maqet ls {name} | grep -q running && \
                 maqet logs --console {name} | grep -q 'probe: ready'"
            ),
        );
    }

    /// The state of each VM.
    #[track_caller]
    pub fn states(&self) -> BTreeMap<String, String> {
        let vms: serde_json::Value =
            serde_json::from_str(&self.ok("maqet ls --json 2>/dev/null")).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let vms = vms.as_array().unwrap().iter();
        vms.map(|vm| (text(&vm["name"]), text(&vm["state"])))
            .collect()
    }

    /// A file that was written in tester's home, as the machine sees it.
    pub fn file(&self, path: &str) -> PathBuf {
        self.state().join("disk/upper/home/tester").join(path)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = script().args(["stop", &self.0]).output();
    }
}

fn script() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/host"))
}

/// The beginning of a definition: the probe, with words for its command line.
pub fn probe(words: &str) -> String {
    let guest = guests().join("probe");
    format!(
        "memory = \"128M\"\naccel = \"tcg\"\nkernel = \"{0}/kernel\"\ninitrd = \"{0}/initrd\"\n\
         append = \"console=ttyS0 quiet cryptomgr.notests {words}\"\n",
        guest.display()
    )
}

pub fn guests() -> PathBuf {
    std::env::var_os("MAQET_TEST_GUESTS")
        .expect("$MAQET_TEST_GUESTS: run the tests with tests/host/test")
        .into()
}

pub fn words(ran: &Output) -> String {
    String::from_utf8_lossy(&[&ran.stdout[..], &ran.stderr[..]].concat()).into_owned()
}
