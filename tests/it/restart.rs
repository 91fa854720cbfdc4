//! Policies of `[unit] Restart`: what brings a VM back, and what does not.

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::sandbox::{Ran, Sandbox, signal, systemctl, wait_until};

/// Adds a VM that is restarted at once, however often it fails.
fn add_restarting(sandbox: &Sandbox, short: &str, more: &[&str]) {
    let options = [
        "--unit=Restart=on-failure",
        "--unit=RestartSec=0",
        "--unit=StartLimitIntervalSec=0",
    ];
    sandbox.add(short, &[&options[..], more].concat());
}

fn restarts(sandbox: &Sandbox, short: &str) -> u32 {
    sandbox.property(short, "NRestarts").parse().unwrap()
}

/// Kills QEMU, and waits until the VM is up again.
fn kill_and_wait(sandbox: &Sandbox, short: &str) {
    let before = restarts(sandbox, short);
    signal(sandbox.pid(short), libc::SIGKILL);
    wait_until("systemd has restarted it", || {
        restarts(sandbox, short) > before && sandbox.property(short, "ActiveState") == "active"
    });
}

#[test]
fn a_killed_qemu_comes_back_each_time_with_fresh_sockets_and_its_disk_locked() {
    let sandbox = Sandbox::new();
    let disk = sandbox.path("disk.qcow2");
    let disk = format!("{}:8M", disk.display());
    add_restarting(&sandbox, "web", &["--qemu-arg=-S", "--disk", &disk]);
    sandbox.maqet(&["start", "@web"]).ok();
    // Moments that are not in step with anything: the first ones hit a QEMU that starts.
    for round in 0..20u64 {
        std::thread::sleep(Duration::from_millis(round * 7919 % 190));
        let before = restarts(&sandbox, "web");
        // The launcher that is to become QEMU is as good; between two there is none.
        let mut pid = 0;
        wait_until("there is a process", || {
            pid = sandbox.pid("web");
            pid != 0
        });
        signal(pid, libc::SIGKILL);
        wait_until("it is restarted", || restarts(&sandbox, "web") > before);
    }
    wait_until("the last one is up", || {
        sandbox.property("web", "ActiveState") == "active"
    });
    assert!(restarts(&sandbox, "web") >= 20);
    let answer = sandbox.maqet(&["qmp", "@web", "query-status"]).json();
    assert_eq!(answer["status"], "prelaunch");
    for socket in ["ctl", "qmp", "user", "serial", "agent"] {
        UnixStream::connect(sandbox.runtime("web").join(format!("{socket}.sock")))
            .unwrap_or_else(|error| panic!("{socket}: {error}"));
    }
    assert_eq!(sandbox.qemus("web"), [sandbox.pid("web")]);
    // The kernel's lock and QEMU's own are held by this one.
    let lock = fs::File::open(sandbox.vm_dir("web").join("lock")).unwrap();
    assert!(lock.try_lock().is_err(), "nobody holds the VM's lock");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    assert!(lock.try_lock().is_ok());
}

#[test]
fn status_tells_why_a_vm_was_restarted_with_the_words_of_the_failed_run() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle");
    sandbox
        .maqet(&["set", "@web", "Restart=on-abnormal", "--persist"])
        .ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe:");
    kill_and_wait(&sandbox, "web");

    wait_until("the journal has its last lines", || {
        let status = sandbox.maqet(&["status", "--json", "@web"]).json();
        status["last_lines"].to_string().contains("Failed with")
    });
    let status = sandbox.maqet(&["status", "--json", "@web"]).json();
    assert_eq!(status["restarts"], 1);
    assert_eq!(status["failure"]["result"], "signal");
    assert_eq!(status["failure"]["process"], "code=killed, status=9/KILL");
    assert_eq!(status["failure"]["gave_up"], false);
    let lines = status["last_lines"].to_string();
    assert!(lines.contains("Failed with result 'signal'"), "{lines}");
    let console = status["last_console_lines"].to_string();
    assert!(console.contains("probe:"), "{console}");
    let text = sandbox.maqet(&["status", "@web"]).ok().stdout;
    assert!(text.contains("restarts  1, after a failure at"), "{text}");
    assert!(text.contains("of the run that failed"), "{text}");
}

#[test]
fn a_guest_that_panics_is_restarted_and_one_that_powers_off_is_not() {
    let sandbox = Sandbox::new();
    // Neither ends before systemd has looked after its start.
    sandbox.add_probe("panics", "probe.act=panic probe.delay=5");
    sandbox.add_probe_with("off", "probe.act=poweroff", &["--qemu-arg=-S"]);
    sandbox
        .maqet(&[
            "set",
            "@panics",
            "Restart=on-failure",
            "StartLimitBurst=2",
            "StartLimitIntervalSec=1h",
            "--persist",
        ])
        .ok();
    sandbox
        .maqet(&["set", "@off", "Restart=always", "--persist"])
        .ok();
    sandbox.maqet(&["start", "@panics", "@off"]).ok();
    sandbox.maqet(&["resume", "@off"]).ok();
    sandbox.wait_for_state("panics", "failed");
    let status = || -> serde_json::Value {
        let ran = sandbox.maqet(&["status", "--json", "@panics"]);
        serde_json::from_str(&ran.fails(3).stdout).unwrap()
    };
    wait_until("the journal has its end", || {
        let failure = &status()["failure"];
        failure["gave_up"] == true && !failure["reason"].is_null()
    });
    let status = status();
    assert_eq!(status["failure"]["result"], "exit-code");
    assert_eq!(status["failure"]["reason"], "guest-panic");
    assert_eq!(status["failure"]["gave_up"], true);
    let text = sandbox.maqet(&["status", "@panics"]).fails(3).stdout;
    assert!(text.contains("systemd gave up"), "{text}");

    sandbox.wait_for_state("off", "stopped");
    wait_until("the journal has its start", || {
        let runs = sandbox.maqet(&["logs", "--all", "@off"]).ok().stdout;
        let starts = runs.matches(": Started").count();
        assert!(starts <= 1, "{runs}");
        starts == 1
    });
}

#[test]
fn a_first_start_that_fails_is_told_once_and_not_tried_again() {
    let sandbox = Sandbox::new();
    add_restarting(
        &sandbox,
        "web",
        &["--qemu-arg=-device", "--qemu-arg=no-such"],
    );
    let ran = sandbox.maqet(&["start", "@web"]).fails(1);
    let words = "is not a valid device model name";
    assert_eq!(ran.stderr.matches(words).count(), 1, "{}", ran.stderr);
    assert_eq!(sandbox.state("web"), "failed");
    let status = sandbox.maqet(&["status", "--json", "@web"]).fails(3).stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["result"], "exit-code", "{status}");
    assert_eq!(status["restarts"], 0, "{status}");
    let was_started = |times: usize| {
        wait_until("the journal has each start", || {
            let runs = sandbox.maqet(&["logs", "--all", "@web"]).ok().stdout;
            let starts = runs.matches(": Starting").count();
            assert!(starts <= times, "{runs}");
            starts == times
        });
    };
    was_started(1);

    // Nor is one that fails before there is a QEMU.
    add_restarting(&sandbox, "early", &["--qemu", "/bin/false"]);
    sandbox.maqet(&["start", "@early"]).fails(1);
    assert_eq!(sandbox.state("early"), "failed");
    let lock = sandbox.vm_dir("web").join("lock");
    let held = fs::File::open(lock).unwrap();
    held.lock().unwrap();
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying(&format!("process {}", std::process::id()));
    assert_eq!(sandbox.state("web"), "failed");
    was_started(2);
}

#[test]
fn a_restart_uses_the_definition_of_that_time() {
    let sandbox = Sandbox::new();
    add_restarting(&sandbox, "web", &["--qemu-arg=-S"]);
    sandbox.maqet(&["start", "@web"]).ok();
    let uuid = sandbox.maqet(&["show", "--json", "@web"]).json()["uuid"].clone();
    // As `rm` and `add` with another definition would leave it.
    sandbox.maqet(&["set", "@web", "Nice=3", "--persist"]).ok();
    let pending = |sandbox: &Sandbox| {
        sandbox.maqet(&["status", "--json", "@web"]).json()["definition_changed"].clone()
    };
    assert_eq!(pending(&sandbox), true);
    sandbox.maqet(&["set", "@web", "memory=96M"]).ok();
    let command_line = || fs::read_to_string(format!("/proc/{}/cmdline", sandbox.pid("web")));
    assert!(!command_line().unwrap().contains("\0size=96M"));
    kill_and_wait(&sandbox, "web");
    assert!(command_line().unwrap().contains("\0size=96M"));
    assert_eq!(pending(&sandbox), false);
    assert_eq!(
        sandbox.maqet(&["show", "--json", "@web"]).json()["uuid"],
        uuid
    );
}

#[test]
fn a_vm_that_waits_for_its_restart_can_be_stopped_and_is_shown_as_what_it_is() {
    let sandbox = Sandbox::new();
    sandbox.add(
        "web",
        &[
            "--qemu-arg=-S",
            "--unit=Restart=on-failure",
            "--unit=RestartSec=1h",
        ],
    );
    sandbox.maqet(&["start", "@web"]).ok();
    signal(sandbox.pid("web"), libc::SIGKILL);
    sandbox.wait_for_state("web", "restarting");
    wait_until("the journal has its failure", || {
        let status = sandbox.maqet(&["status", "--json", "@web"]).json();
        status["failure"]["result"] == "signal"
    });
    sandbox
        .maqet(&["stop", "@web"])
        .ok()
        .saying("it was waiting to be started again");
    assert_eq!(sandbox.state("web"), "stopped");
    assert!(sandbox.qemus("web").is_empty());
}

#[test]
fn the_manager_may_be_reloaded_and_reexecuted_in_the_middle_of_a_start() {
    let sandbox = Sandbox::new();
    for (verb, short) in [("daemon-reload", "a"), ("daemon-reexec", "b")] {
        add_restarting(&sandbox, short, &["--qemu-arg=-S"]);
        for _ in 0..3 {
            let start = sandbox.spawn(&["start", &format!("@{short}")]);
            systemctl(&[verb]).ok();
            Ran::of(start).ok();
            assert_eq!(sandbox.property(short, "ActiveState"), "active");
            assert_eq!(sandbox.qemus(short), [sandbox.pid(short)]);
            // What the restart policy was, it still is.
            kill_and_wait(&sandbox, short);
            sandbox
                .maqet(&["stop", "--force", &format!("@{short}")])
                .ok();
        }
    }
}
