use std::process::Child;
use std::thread;
use std::time::Duration;

use crate::sandbox::{Ran, Sandbox, signal, wait_until, wait_until_open};

fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
}

fn wait(sandbox: &Sandbox, args: &[&str]) -> Child {
    sandbox.spawn(&[&["wait", "@web", "--timeout", "5m"], args].concat())
}

/// Lets the guest go and stops it, until the command has ended.
fn go_and_stop_until(sandbox: &Sandbox, mut child: Child) -> Ran {
    while child.try_wait().unwrap().is_none() {
        sandbox.maqet(&["qmp", "@web", "cont"]).ok();
        sandbox.maqet(&["qmp", "@web", "stop"]).ok();
    }
    Ran::of(child)
}

#[test]
fn an_event_from_now_on_is_waited_for() {
    let sandbox = running();
    let ran = go_and_stop_until(&sandbox, wait(&sandbox, &["--for", "STOP"]));
    assert_eq!(ran.ok().stdout, "STOP\n");
    let ran = go_and_stop_until(&sandbox, wait(&sandbox, &["--for", "resum*", "--json"]));
    let came = ran.json();
    assert_eq!(came["came"], "event");
    assert_eq!(came["event"], "RESUME");
    assert_eq!(came["vm"], *sandbox.name("web"));
    // What is past does not count, unless it is asked for.
    let args = ["wait", "@web", "--for", "STOP", "--timeout", "1s"];
    sandbox.maqet(&args).fails(7).saying("`STOP` did not come");
    let ran = sandbox.maqet(&[&args[..], &["--since", "-1h"]].concat());
    assert_eq!(ran.ok().stdout, "STOP\n");
}

#[test]
fn what_qemu_cannot_say_is_not_waited_for() {
    let sandbox = running();
    for (what, said) in [
        ("RESTE", "QEMU has no event `RESTE`, did you mean `RESET`?"),
        ("NO_SUCH_*", "QEMU has no event `NO_SUCH_*`"),
        ("state=runing", "did you mean `running`?"),
    ] {
        // The first time it is asked, then it is known.
        for _ in 0..2 {
            let args = ["wait", "@web", "--timeout", "20s", "--for", what];
            let mut ran = sandbox.maqet(&args);
            // One that has not answered within a second is asked again the next time.
            wait_until("QEMU says which names it knows", || {
                if ran.status == 7 {
                    ran = sandbox.maqet(&args);
                }
                ran.status != 7
            });
            ran.fails(2).saying(said);
        }
    }
    // Whoever holds the monitor keeps nobody from listening.
    let lock = std::fs::File::create(sandbox.runtime("web").join("qmp.lock")).unwrap();
    lock.lock().unwrap();
    let args = ["wait", "@web", "--timeout", "1s", "--for", "BLOCK_*"];
    sandbox.maqet(&args).fails(7);
}

#[test]
fn a_state_that_is_true_already_counts() {
    let sandbox = running();
    let ran = sandbox.maqet(&["wait", "@web", "--for", "state=prelaunch"]);
    assert_eq!(ran.ok().stdout, "prelaunch\n");
    sandbox.maqet(&["qmp", "@web", "cont"]).ok();
    sandbox.maqet(&["qmp", "@web", "stop"]).ok();
    let ran = sandbox.maqet(&["wait", "@web", "--for", "state=paused", "--json"]);
    assert_eq!(ran.json()["state"], "paused");
    sandbox
        .maqet(&["wait", "@web", "--for", "state=running", "--timeout", "1s"])
        .fails(7);
}

#[test]
fn nothing_is_missed_between_listening_and_looking() {
    let sandbox = running();
    for round in 0..40 {
        let waiting = wait(&sandbox, &["--for", "state=running"]);
        // At another of its steps each time.
        thread::sleep(Duration::from_micros(round * 500));
        sandbox.maqet(&["qmp", "@web", "cont"]).ok();
        assert_eq!(Ran::of(waiting).ok().stdout, "running\n");

        let before = jiff::Timestamp::now().to_string();
        let waiting = wait(&sandbox, &["--for", "STOP", "--since", &before]);
        thread::sleep(Duration::from_micros(round * 500));
        sandbox.maqet(&["qmp", "@web", "stop"]).ok();
        assert_eq!(Ran::of(waiting).ok().stdout, "STOP\n");
    }
}

#[test]
fn the_first_of_several_ends_the_wait() {
    let sandbox = running();
    let waiting = wait(
        &sandbox,
        &[
            "--for",
            "BLOCK_JOB_COMPLETED",
            "--for",
            "shutdown",
            "--for",
            "state=running",
        ],
    );
    sandbox.maqet(&["qmp", "@web", "cont"]).ok();
    assert_eq!(Ran::of(waiting).ok().stdout, "running\n");
}

#[test]
fn a_shutdown_says_how_it_came() {
    let sandbox = running();
    let waiting = wait(&sandbox, &["--for", "shutdown"]);
    wait_until_open(&waiting, &sandbox.runtime("web").join("events.log"));
    sandbox.maqet(&["qmp", "@web", "quit"]).ok();
    assert_eq!(Ran::of(waiting).ok().stdout, "shutdown: host-qmp-quit\n");
    sandbox.wait_for_state("web", "stopped");
    // So does one that was before.
    wait_until("the journal knows it", || {
        let ran = sandbox.maqet(&["wait", "@web", "--for", "shutdown"]);
        ran.ok().stdout == "shutdown: host-qmp-quit\n"
    });
    for what in ["STOP", "state=running", "panicked", "job=b"] {
        sandbox.maqet(&["wait", "@web", "--for", what]).fails(3);
    }
}

#[test]
fn what_cannot_come_any_more_is_not_waited_for() {
    let sandbox = running();
    // Afterwards it is known what this QEMU can say, and it is not asked.
    let names = ["events", "@web", "--filter", "STOP"];
    sandbox.maqet(&names).ok();
    let event = wait(&sandbox, &["--for", "STOP"]);
    let state = wait(&sandbox, &["--for", "state=paused"]);
    let end = wait(&sandbox, &["--for", "shutdown", "--json"]);
    for waiting in [&event, &state, &end] {
        wait_until_open(waiting, &sandbox.runtime("web").join("events.log"));
    }
    signal(sandbox.pid("web"), libc::SIGKILL);
    let vm = sandbox.name("web");
    for (waiting, what) in [(event, "STOP"), (state, "state=paused")] {
        Ran::of(waiting).fails(8).saying(&format!(
            "VM `{vm}` has ended, and `{what}` cannot come any more"
        ));
    }
    let end = Ran::of(end).json();
    assert_eq!(end["came"], "shutdown");
    assert!(end["reason"].is_null());
    assert_eq!(end["result"], "signal");
}

#[test]
fn a_panic_is_waited_for() {
    let sandbox = Sandbox::new();
    sandbox.add_probe_with("web", "probe.act=panic", &["--qemu-arg=-S"]);
    sandbox.maqet(&["start", "@web"]).ok();
    let waiting = wait(&sandbox, &["--for", "panicked"]);
    wait_until_open(&waiting, &sandbox.runtime("web").join("events.log"));
    sandbox.maqet(&["resume", "@web"]).ok();
    assert_eq!(Ran::of(waiting).ok().stdout, "panicked\n");
}

#[test]
fn what_makes_no_sense_is_exit_status_2() {
    let sandbox = running();
    for what in ["", "state=", "status=paused", "["] {
        sandbox.maqet(&["wait", "@web", "--for", what]).fails(2);
    }
    sandbox.maqet(&["wait", "@web"]).fails(2);
    sandbox
        .maqet(&["wait", "@wbe", "--for", "shutdown"])
        .fails(4);
}

#[test]
fn a_vm_that_never_ran_is_down_and_nothing_is_made_up() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let came = sandbox.maqet(&["wait", "@web", "--for", "shutdown"]).ok();
    assert_eq!(
        came.stdout,
        "shutdown: it does not run, and nothing is known of an earlier run\n"
    );
}
