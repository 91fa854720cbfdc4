use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::host::{Host, PATIENCE, guests, probe, words};

/// Those that run after a boot, and those that do not.
const AFTER: [(&str, &str); 8] = [
    ("app", "running"),
    // It cannot: enabled, with a machine that there is not.
    ("bad", "failed"),
    // It had failed before.
    ("crashed", "running"),
    // Not enabled, but `app` requires it.
    ("db", "running"),
    ("debian", "running"),
    // It ran before, but is disabled.
    ("off", "stopped"),
    ("saver", "running"),
    ("stubborn", "running"),
];

const COUNTING: &str = "probe.write=1";

/// A disk on which the probe can count.
fn disk(name: &str) -> String {
    // Counting takes as much of a processor as there is; others have to boot meanwhile.
    format!(
        "[disk.data]\nfile = \"{name}.raw\"\nformat = \"raw\"\nsize = \"1M\"\n[unit]\nNice = 19\n"
    )
}

fn add_all(host: &Host) {
    host.install_template();
    let probes = [
        (
            "db",
            probe("") + "[ready]\nlevel = \"console:/probe: ready/\"",
        ),
        ("app", "requires = [\"db\"]\n".to_owned() + &probe("")),
        (
            "saver",
            probe(COUNTING) + &disk("saver") + "[stop]\naction = \"save\"",
        ),
        (
            "stubborn",
            probe("probe.button=ignore") + "[stop]\ntimeout = \"3s\"",
        ),
        ("off", probe(COUNTING) + &disk("off")),
        ("crashed", probe("")),
        (
            "bad",
            "qemu.args = [\"-machine\", \"no-such-machine\"]".to_owned(),
        ),
    ];
    for (name, definition) in probes {
        host.add(name, &definition);
    }
    let guest = guests().join("debian");
    let guest = guest.display();
    host.ok(&format!(
        "qemu-img create -q -f qcow2 -F qcow2 -b {guest}/root.qcow2 ~/debian.qcow2"
    ));
    host.add(
        "debian",
        &format!(
            "memory = \"512M\"\naccel = \"tcg\"\nkernel = \"{guest}/kernel\"\ninitrd = \"{guest}/initrd\"\n\
             append = \"root=/dev/vda rw quiet cryptomgr.notests console=ttyS0\"\n\
             [disk.root]\nfile = \"debian.qcow2\"\n[ready]\nlevel = \"console:/maqet login:/\"\n\
             timeout = \"10m\"\n[stop]\ntimeout = \"100s\""
        ),
    );
}

/// Waits until the boot has come to its end for every VM.
#[track_caller]
fn wait_for_states(host: &Host, expected: &[(&str, &str)]) {
    let own = |(name, state): &(&str, &str)| ((*name).to_owned(), (*state).to_owned());
    let expected: BTreeMap<String, String> = expected.iter().map(own).collect();
    let deadline = Instant::now() + PATIENCE;
    // No job is left: what does not run now never will.
    host.wait_until(
        "the user manager has nothing to do",
        "test -z \"$(systemctl --user list-jobs --no-legend)\"",
    );
    while host.states() != expected {
        assert!(Instant::now() < deadline, "{:?}", host.states());
        thread::sleep(Duration::from_millis(200));
    }
}

/// Asserts that `app` began when the guest of `db` was up, and not before.
#[track_caller]
fn assert_in_order(host: &Host) {
    host.ok("t() { systemctl --user show -P $2 maqet-$1; }; \
         test $(t db ActiveEnterTimestampMonotonic) -lt $(t app ExecMainStartTimestampMonotonic)");
    host.wait_until_ready("db");
    host.wait_until_ready("app");
}

/// The number that a counting guest wrote last.
fn count(host: &Host, name: &str) -> u64 {
    let said = host.ok(&format!("head -c 20 ~/{name}.raw"));
    said.parse()
        .unwrap_or_else(|_| panic!("no number: {said:?}"))
}

#[track_caller]
fn wait_until_it_counts_on(host: &Host, name: &str, then: u64) {
    let deadline = Instant::now() + PATIENCE;
    while count(host, name) <= then {
        assert!(Instant::now() < deadline, "{name} does not count");
        thread::sleep(Duration::from_millis(100));
    }
}

/// The disk of the Debian guest, of a host that is off.
struct Root(tempfile::TempDir);

impl Root {
    fn of(host: &Host) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Self(dir);
        run(
            "qemu-img",
            &[
                "convert".as_ref(),
                "-Oraw".as_ref(),
                &host.file("debian.qcow2"),
                &root.image(),
            ],
        );
        root
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("root")
    }

    /// What the file system's superblock says of it.
    fn superblock(&self) -> String {
        run("dumpe2fs", &["-h".as_ref(), &self.image()])
    }

    /// Whether every mount had its end, and nothing is left to replay.
    fn is_clean(&self) -> bool {
        let superblock = self.superblock();
        let is_clean = superblock
            .lines()
            .any(|line| line.starts_with("Filesystem state:") && line.ends_with(" clean"));
        is_clean && !superblock.contains("needs_recovery")
    }

    /// The end of the guest's own journal.
    fn journal(&self) -> String {
        let to = self.0.path().join("journal");
        std::fs::create_dir(&to).unwrap();
        let request = format!("rdump /var/log/journal {}", to.display());
        run("debugfs", &["-R".as_ref(), request.as_ref(), &self.image()]);
        let directory = format!("--directory={}", to.join("journal").display());
        run(
            "journalctl",
            &[
                directory.as_ref(),
                "--no-pager".as_ref(),
                "-ocat".as_ref(),
                "-n100".as_ref(),
            ],
        )
    }
}

#[track_caller]
fn run(program: &str, args: &[&Path]) -> String {
    let ran = Command::new(program)
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .args(args)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{program}: {}", words(&ran));
    words(&ran)
}

#[test]
fn after_a_reboot_and_after_a_power_cut_exactly_the_right_vms_run() {
    let host = Host::start("proof", &[]);
    add_all(&host);
    host.ok("maqet enable app saver stubborn crashed bad debian off && maqet disable off");
    let started = host.run("", "maqet start --all");
    assert_eq!(started.status.code(), Some(1), "{}", words(&started));
    host.ok("systemctl --user kill -s KILL maqet-crashed");
    for name in ["app", "saver", "stubborn", "off"] {
        host.wait_until_ready(name);
    }
    host.wait_until("the VM has failed", "maqet ls crashed | grep -q failed");
    wait_until_it_counts_on(&host, "saver", 5);

    host.control("off", &[]);
    let root = Root::of(&host);
    assert!(root.is_clean(), "{}", root.superblock());
    run("e2fsck", &["-fn".as_ref(), &root.image()]);
    let journal = root.journal();
    assert!(
        journal.contains("Reached target poweroff.target"),
        "{journal}"
    );
    assert!(journal.trim_end().ends_with("Journal stopped"), "{journal}");

    host.control("on", &[]);
    wait_for_states(&host, &AFTER);
    assert_in_order(&host);
    // It did not boot, and goes on.
    let console = host.ok("maqet logs --console saver");
    assert!(!console.contains("probe:"), "{console}");
    wait_until_it_counts_on(&host, "saver", count(&host, "saver"));
    // How each of them had ended.
    for (name, said) in [
        ("saver", "saved its state"),
        (
            "stubborn",
            "the guest did not power down within 3 s: cutting the power",
        ),
        ("crashed", "status=9/KILL"),
    ] {
        let logs = host.ok(&format!("maqet logs --run -1 {name}"));
        assert!(logs.contains(said), "{name}: {logs}");
    }
    for name in ["app", "db", "debian"] {
        let logs = host.ok(&format!("maqet logs --run -1 {name}"));
        assert!(!logs.contains("cutting the power"), "{name}: {logs}");
        let events = host.ok(&format!("journalctl --user -o cat -u maqet-{name}"));
        assert!(
            events.contains("\"reason\": \"guest-shutdown\""),
            "{name}: {events}"
        );
    }

    // Something is always being written when the power goes.
    host.ok("maqet start off");
    host.wait_until_ready("off");
    wait_until_it_counts_on(&host, "off", count(&host, "off"));
    host.ok("maqet save off");
    // What is left of a state when the power goes while it is written.
    host.ok("echo half >~/.local/share/maqet/saved/saver.unfinished");
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            host.run(
                "",
                "while maqet add --name new --memory 64M && maqet rm new; do touch ~/written; done",
            )
        });
        host.wait_until("the database is written to", "test -e ~/written");
        host.control("cut", &[]);
        let wrote = writer.join().unwrap();
        assert!(!wrote.status.success(), "{}", words(&wrote));
    });
    // What a cut leaves, or nothing was shown above.
    let root = Root::of(&host);
    assert!(!root.is_clean(), "{}", root.superblock());

    host.control("on", &[]);
    host.ok("maqet rm new || true");
    wait_for_states(
        &host,
        &AFTER.map(|(name, state)| match name {
            "off" => (name, "saved"),
            _ => (name, state),
        }),
    );
    assert_in_order(&host);
    // No state was saved that it could go on from: it has booted.
    host.wait_until_ready("saver");
    let console = host.ok("maqet logs --console saver");
    let from = console.split("counting from ").nth(1).expect(&console);
    assert!(
        !from.starts_with("0\n") && !from.starts_with("0\r"),
        "{console}"
    );
    let kept = host.ok("ls ~/.local/share/maqet/saved");
    assert_eq!(kept, "off.json\noff.state\n");
    let then = count(&host, "off");
    let said = host.ok("maqet start off");
    assert!(said.contains("goes on where it was saved"), "{said}");
    wait_until_it_counts_on(&host, "off", then);
    let found = host.ok("maqet doctor --all || true");
    assert!(found.contains("ok       database:"), "{found}");
    host.wait_until(
        "Debian is up again",
        "maqet logs --console debian | grep -q 'maqet login:'",
    );
    host.ok("maqet stop --force --all");
}
