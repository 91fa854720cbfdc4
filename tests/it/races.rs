use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::sandbox::{Ran, Sandbox, signal, wait_until};

/// When commands are killed, in microseconds after their start: before they have
/// done anything, at each of their steps, and after the last.
const MOMENTS: [u64; 16] = [
    200, 500, 1_000, 2_000, 3_000, 5_000, 8_000, 12_000, 16_000, 20_000, 30_000, 40_000, 60_000,
    80_000, 120_000, 200_000,
];

/// Starts a command and kills it after so many microseconds.
fn killed_after(sandbox: &Sandbox, args: &[&str], micros: u64) {
    let mut child = sandbox.spawn(args);
    thread::sleep(Duration::from_micros(micros));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Waits until systemd does nothing with the VM any more; whether it is up then.
#[track_caller]
fn settled(sandbox: &Sandbox, short: &str) -> bool {
    let mut state = String::new();
    wait_until("the unit comes to rest", || {
        state = sandbox.property(short, "ActiveState");
        matches!(&*state, "active" | "inactive" | "failed")
    });
    state == "active"
}

/// Up with one QEMU that answers, then down with nothing left.
#[track_caller]
fn works_and_ends(sandbox: &Sandbox, short: &str) {
    let vm = format!("@{short}");
    assert_eq!(sandbox.qemus(short), [sandbox.pid(short)]);
    sandbox.maqet(&["qmp", &vm, "query-status"]).ok();
    sandbox.maqet(&["stop", "--force", &vm]).ok();
    assert!(sandbox.qemus(short).is_empty());
    // systemd removes it just after it has told of the stop.
    wait_until("its sockets are gone", || !sandbox.runtime(short).exists());
    assert_eq!(sandbox.state(short), "stopped");
}

/// Starts at once, of which exactly one starts the VM.
#[track_caller]
fn start_at_once(sandbox: &Sandbox, commands: usize) {
    let children: Vec<_> = (0..commands)
        .map(|_| sandbox.spawn(&["start", "@web"]))
        .collect();
    let said: Vec<String> = children
        .into_iter()
        .map(|child| Ran::of(child).ok().stderr)
        .collect();
    let started = format!("VM `{}` started\n", sandbox.name("web"));
    let already = format!("VM `{}` is already running\n", sandbox.name("web"));
    let count = |line: &String| said.iter().filter(|said| *said == line).count();
    assert_eq!(count(&started), 1, "{said:?}");
    assert_eq!(count(&already), commands - 1, "{said:?}");
    works_and_ends(sandbox, "web");
}

#[test]
fn of_two_starts_at_once_one_starts_the_vm_and_the_other_finds_it_running() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    for _ in 0..20 {
        start_at_once(&sandbox, 2);
    }
}

#[test]
fn of_ten_starts_at_once_one_starts_the_vm() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    start_at_once(&sandbox, 10);
}

#[test]
fn a_start_that_is_killed_leaves_a_vm_that_is_up_or_down() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    for micros in MOMENTS {
        killed_after(&sandbox, &["start", "@web"], micros);
        settled(&sandbox, "web");
        assert!(sandbox.qemus("web").len() <= 1);
        sandbox.maqet(&["start", "@web"]).ok();
        works_and_ends(&sandbox, "web");
    }
}

#[test]
fn the_next_start_need_not_wait_for_what_a_killed_one_has_begun() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    for micros in MOMENTS {
        killed_after(&sandbox, &["start", "@web"], micros + micros / 5);
        sandbox.maqet(&["start", "@web"]).ok();
        works_and_ends(&sandbox, "web");
    }
}

#[test]
fn a_stop_that_is_killed_leaves_a_vm_that_is_up_or_down() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    for (round, micros) in MOMENTS.into_iter().enumerate() {
        sandbox.maqet(&["start", "@web"]).ok();
        let options = [&["stop", "@web"][..], &["stop", "--force", "@web"]];
        killed_after(&sandbox, options[round % 2], micros);
        if settled(&sandbox, "web") {
            // What was asked of systemd may come to pass only now.
            let again = sandbox.maqet(&["stop", "@web"]);
            assert!(matches!(again.status, 0 | 3), "{}", again.stderr);
        }
        assert_eq!(sandbox.state("web"), "stopped");
        assert!(sandbox.qemus("web").is_empty());
    }
}

#[test]
fn a_guest_that_was_asked_powers_down_also_when_the_asking_stop_is_killed() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle");
    for micros in [1_000, 500_000] {
        sandbox.maqet(&["start", "@web"]).ok();
        sandbox.wait_for_console("web", "probe: ready");
        killed_after(&sandbox, &["stop", "@web"], micros);
        // Killed before it has asked, or the guest is on its way down, or it is down.
        let again = sandbox.maqet(&["stop", "@web"]);
        assert!(matches!(again.status, 0 | 3), "{}", again.stderr);
        assert_eq!(sandbox.state("web"), "stopped");
        assert!(sandbox.qemus("web").is_empty());
    }
}

#[test]
fn an_add_that_is_killed_adds_the_vm_with_its_disk_or_not_at_all() {
    let sandbox = Sandbox::new();
    for (round, micros) in MOMENTS.into_iter().enumerate() {
        let short = format!("vm{round}");
        let name = sandbox.name(&short);
        let disk = sandbox.path(&format!("{short}.qcow2"));
        let disk_arg = format!("{}:8M", disk.display());
        let add = [
            "add",
            "--name",
            &name,
            "--memory",
            "64M",
            "--accel",
            "tcg",
            "--disk",
            &disk_arg,
            "--qemu-arg=-S",
        ];
        killed_after(&sandbox, &add, micros);
        let known = sandbox.maqet(&["show", &name]).status == 0;
        if known {
            assert!(disk.exists(), "{name}");
        } else {
            sandbox.maqet(&add).ok();
        }
        sandbox.maqet(&["start", &name]).ok();
        works_and_ends(&sandbox, &short);
    }
}

#[test]
fn of_two_adds_of_one_name_one_wins_and_its_disk_stays() {
    let sandbox = Sandbox::new();
    for round in 0..12 {
        let name = sandbox.name(&format!("vm{round}"));
        let disk = sandbox.path(&format!("{round}.qcow2"));
        let disk_arg = format!("{}:8M", disk.display());
        let add = [
            "add",
            "--name",
            &name,
            "--disk",
            &disk_arg,
            "--qemu-arg=-S",
            "--accel=tcg",
        ];
        let first = sandbox.spawn(&add);
        thread::sleep(Duration::from_millis(round * 3));
        let second = sandbox.spawn(&add);
        let both = [Ran::of(first), Ran::of(second)];
        let mut statuses = both.each_ref().map(|ran| ran.status);
        statuses.sort();
        assert_eq!(statuses, [0, 1], "{}{}", both[0].stderr, both[1].stderr);
        let loser = both.into_iter().find(|ran| ran.status == 1).unwrap();
        loser
            .fails(1)
            .saying(&format!("there is a VM `{name}` already"));
        assert!(disk.exists());
        sandbox.maqet(&["rm", "--disks", &name]).ok();
        assert!(!disk.exists(), "the winner has made it");
    }
    let left: Vec<_> = fs::read_dir(sandbox.dir.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .filter(|file| file.to_string_lossy().contains("unfinished"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn starts_and_stops_at_once_all_end_and_systemd_has_the_last_word() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    for round in 0..10 {
        let children: Vec<_> = [
            &["start", "@web"][..],
            &["stop", "@web"],
            &["start", "@web"],
            &["stop", "--force", "@web"],
        ]
        .into_iter()
        .map(|args| {
            thread::sleep(Duration::from_millis(round * 4));
            sandbox.spawn(args)
        })
        .collect();
        for child in children {
            let ran = Ran::of(child);
            assert!(matches!(ran.status, 0 | 1 | 3), "{}", ran.stderr);
            // Nothing is broken here, some are only too late.
            for wrong in ["panicked", "is gone", "connection"] {
                assert!(!ran.stderr.contains(wrong), "{}", ran.stderr);
            }
        }
        if settled(&sandbox, "web") {
            assert_eq!(sandbox.state("web"), "prelaunch");
            assert_eq!(sandbox.qemus("web"), [sandbox.pid("web")]);
        } else {
            assert!(matches!(&*sandbox.state("web"), "stopped" | "failed"));
            assert!(sandbox.qemus("web").is_empty());
        }
    }
    sandbox.maqet(&["start", "@web"]).ok();
    works_and_ends(&sandbox, "web");
}

#[test]
fn a_vm_that_ends_by_itself_can_be_started_while_it_does() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    for round in 0..15 {
        // No one asks systemd for this end: it has no job that could be waited for.
        let pid = sandbox.pid("web");
        signal(pid, libc::SIGTERM);
        thread::sleep(Duration::from_millis(round * 2));
        let start = sandbox.spawn(&["start", "@web"]);
        Ran::of(start).ok();
        // It may have found that QEMU still running, which was true then.
        wait_until("that QEMU has ended", || {
            !sandbox.qemus("web").contains(&pid)
        });
        settled(&sandbox, "web");
        sandbox.maqet(&["start", "@web"]).ok();
    }
    works_and_ends(&sandbox, "web");
}

#[test]
fn those_who_look_on_while_a_vm_comes_and_goes_get_answers() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for looker in 0..8 {
            let (sandbox, over) = (&sandbox, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let (args, expected): (&[&str], &[i32]) = match looker % 3 {
                        0 => (&["ls"], &[0]),
                        1 => (&["status", "@web"], &[0, 3]),
                        // 1 is a connection that QEMU closes as it ends.
                        _ => (
                            &["qmp", "@web", "query-status", "--timeout=60s"],
                            &[0, 1, 3],
                        ),
                    };
                    let ran = Ran::of(sandbox.spawn(args));
                    if !expected.contains(&ran.status) || ran.stderr.contains("panicked") {
                        over.store(true, Ordering::Relaxed);
                        panic!("{args:?}: {} {}", ran.status, ran.stderr);
                    }
                }
            });
        }
        for _ in 0..5 {
            for args in [["start", "@web"], ["stop", "@web"]] {
                let ran = Ran::of(sandbox.spawn(&args));
                if ran.status != 0 {
                    over.store(true, Ordering::Relaxed);
                    ran.ok();
                    return;
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn twenty_who_ask_the_monitor_at_once_all_get_its_answer() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let children: Vec<_> = (0..20)
        .map(|_| sandbox.spawn(&["qmp", "--json", "--timeout=60s", "@web", "query-status"]))
        .collect();
    for child in children {
        assert_eq!(Ran::of(child).json()["status"], "prelaunch");
    }
}

#[test]
fn a_command_that_is_killed_leaves_the_monitor_to_the_next() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    for micros in MOMENTS {
        // The longest answer: it can be killed while it reads.
        killed_after(&sandbox, &["qmp", "@web", "query-qmp-schema"], micros);
        let answer = sandbox.maqet(&["qmp", "@web", "query-status", "--json"]);
        assert_eq!(answer.json()["status"], "prelaunch");
    }
}

#[test]
fn twenty_who_ask_a_qemu_that_is_killed_all_get_an_answer_or_a_reason() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    for micros in [5_000, 15_000, 30_000, 60_000, 120_000] {
        sandbox.maqet(&["start", "@web"]).ok();
        let qemu = sandbox.pid("web");
        let children: Vec<_> = (0..20)
            .map(|_| sandbox.spawn(&["qmp", "--json", "--timeout=60s", "@web", "query-status"]))
            .collect();
        thread::sleep(Duration::from_micros(micros));
        signal(qemu, libc::SIGKILL);
        for child in children {
            let ran = Ran::of(child);
            match ran.status {
                0 => assert_eq!(ran.json()["status"], "prelaunch"),
                // It ended before it answered, or had ended before it was asked.
                status @ (1 | 3) => {
                    let ran = ran.fails(status).saying("error: ");
                    assert_eq!(ran.stdout, "");
                }
                other => panic!("exit status {other}: {}", ran.stderr),
            }
        }
        // systemd hears of it in its own time.
        sandbox.wait_for_state("web", "failed");
        assert!(!settled(&sandbox, "web"));
    }
}
