use std::process::Child;
use std::time::{Duration, Instant};

use crate::sandbox::{Ran, Sandbox, signal, wait_until};

fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
}

/// A command whose answer is this number and no other.
fn print(sandbox: &Sandbox, number: usize, limit: &str) -> Child {
    let arguments = format!("{{\"command-line\": \"print {number}\"}}");
    let command = ["qmp", "@web", "human-monitor-command", &arguments];
    sandbox.spawn(&[&command[..], &["--json", "--timeout", limit]].concat())
}

#[test]
fn two_hundred_at_once_each_get_their_own_answer() {
    let sandbox = running();
    let numbers = 1000..1200;
    let children: Vec<Child> = numbers
        .clone()
        .map(|number| print(&sandbox, number, "5m"))
        .collect();
    for (number, child) in numbers.zip(children) {
        let answer = Ran::of(child).json();
        assert_eq!(answer.as_str().unwrap().trim(), format!("{number:#x}"));
    }
}

#[test]
fn one_that_is_stopped_in_the_middle_delays_others_until_their_deadline_and_is_named() {
    let sandbox = running();
    // The command is on its way when both ends of it are stopped.
    let qemu = sandbox.pid("web");
    signal(qemu, libc::SIGSTOP);
    let stopped = print(&sandbox, 4711, "60s");
    let lock = sandbox.runtime("web").join("qmp.lock");
    let holder = format!("{} maqet qmp", stopped.id());
    wait_until("the monitor is held", || {
        std::fs::read_to_string(&lock).is_ok_and(|text| text == holder)
    });
    signal(stopped.id(), libc::SIGSTOP);
    signal(qemu, libc::SIGCONT);

    let begin = Instant::now();
    let others: Vec<Child> = (0..5).map(|number| print(&sandbox, number, "1s")).collect();
    for other in others {
        Ran::of(other).fails(6).saying(&format!(
            "is busy: process {} (`maqet qmp`) holds it",
            stopped.id()
        ));
    }
    assert!(begin.elapsed() >= Duration::from_secs(1));

    signal(stopped.id(), libc::SIGCONT);
    let answer = Ran::of(stopped).json();
    assert_eq!(answer.as_str().unwrap().trim(), "0x1267");
    let after = Ran::of(print(&sandbox, 2, "60s")).json();
    assert_eq!(after.as_str().unwrap().trim(), "0x2");
}

#[test]
fn one_that_is_killed_in_the_middle_delays_nobody() {
    let sandbox = running();
    for round in 0..10 {
        let mut killed = print(&sandbox, 4711, "60s");
        std::thread::sleep(Duration::from_millis(round));
        let waiting = print(&sandbox, 8000 + round as usize, "60s");
        killed.kill().unwrap();
        killed.wait().unwrap();
        let answer = Ran::of(waiting).json();
        assert_eq!(
            answer.as_str().unwrap().trim(),
            format!("{:#x}", 8000 + round)
        );
    }
}
