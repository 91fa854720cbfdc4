use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use serde_json::Value;

use crate::sandbox::{Sandbox, signal, systemctl, wait_until};

/// The journal's entries that match.
fn entries(matches: &[&str]) -> Vec<Value> {
    let output = Command::new("journalctl")
        .args(["--user", "--output=json", "--quiet"])
        .args(matches)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Those of a VM's console, by the words that the manual gives for it.
fn console_entries(sandbox: &Sandbox, short: &str) -> Vec<Value> {
    let vm = format!("MAQET_VM={}", sandbox.name(short));
    entries(&["MAQET_STREAM=console", &vm])
}

fn messages(entries: &[Value]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| entry["MESSAGE"].as_str().unwrap())
        .collect()
}

/// The lines of the console log, as far as they are to be in the journal.
fn printed(sandbox: &Sandbox, short: &str) -> Vec<String> {
    let log = fs::read(sandbox.vm_dir(short).join("console.log")).unwrap();
    let escapes = |line: &str| line.contains('\u{1b}');
    String::from_utf8_lossy(&log)
        .lines()
        .map(|line| line.trim_end_matches('\r').to_owned())
        // The firmware's, of which the unit tests take care.
        .filter(|line| !line.trim().is_empty() && !escapes(line))
        .collect()
}

/// Adds the probe guest with a kernel that tells all.
fn add_talkative(sandbox: &Sandbox, short: &str, words: &str) {
    // The last one wins, and is above all levels of messages.
    sandbox.add_probe(short, &format!("loglevel=8 {words}"));
}

/// What systemd does every half minute. It complains of a VM that another test deletes
/// meanwhile.
fn trim(sandbox: &Sandbox) {
    wait_until("all is trimmed", || {
        sandbox.maqet(&["internal", "trim"]).status == 0
    });
}

#[test]
fn a_whole_boot_log_is_in_the_journal_after_qemu_was_killed() {
    let sandbox = Sandbox::new();
    add_talkative(&sandbox, "web", "probe.act=idle");
    sandbox.maqet(&["start", "@web"]).ok();
    let log = sandbox.vm_dir("web").join("console.log");
    wait_until("some is printed", || {
        fs::metadata(&log).is_ok_and(|log| log.len() > 4096)
    });
    // Some of it while it runs, the rest at its end. Another VM may be before it.
    wait_until("some is in the journal", || {
        trim(&sandbox);
        !console_entries(&sandbox, "web").is_empty()
    });
    sandbox.wait_for_console("web", "probe: ready");
    signal(sandbox.pid("web"), libc::SIGKILL);
    sandbox.wait_for_state("web", "failed");
    let printed = printed(&sandbox, "web");
    assert!(printed.len() > 300, "{} lines", printed.len());
    wait_until("journald has all of it", || {
        let entries = console_entries(&sandbox, "web");
        messages(&entries).last() == printed.last().map(|line| &**line).as_ref()
    });
    let entries = console_entries(&sandbox, "web");
    let messages = messages(&entries);
    let copied: Vec<&str> = printed.iter().map(|line| &**line).collect();
    assert_eq!(messages[messages.len() - copied.len()..], copied);
}

#[test]
fn fields_tell_the_console_from_qemu_s_own_words_of_the_same_unit() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle");
    sandbox.maqet(&["start", "@web"]).ok();
    let run = sandbox.property("web", "InvocationID");
    sandbox.wait_for_console("web", "probe: ready");
    sandbox.maqet(&["stop", "@web"]).ok();
    let name = sandbox.name("web");
    let unit = sandbox.unit("web");
    wait_until("the console is in the journal", || {
        messages(&console_entries(&sandbox, "web")).contains(&"probe: ready")
    });
    for entry in console_entries(&sandbox, "web") {
        assert_eq!(entry["SYSLOG_IDENTIFIER"], format!("maqet-{name}.console"));
        assert_eq!(entry["USER_UNIT"], *unit);
        assert_eq!(entry["USER_INVOCATION_ID"], *run);
        assert_eq!(entry["PRIORITY"], "6");
    }
    let of_unit = entries(&["--unit", &unit]);
    assert!(messages(&of_unit).contains(&"probe: ready"));
    let identifier = format!("maqet-{name}");
    wait_until("QEMU's last event is in the journal", || {
        let of_qemu = entries(&["--unit", &unit, "--identifier", &identifier]);
        assert!(!messages(&of_qemu).contains(&"probe: ready"));
        messages(&of_qemu)
            .iter()
            .any(|line| line.contains("SHUTDOWN"))
    });
    // What maqet shows of the unit is as it was, and so is what it knows of its end.
    let logs = sandbox.maqet(&["logs", "@web"]).ok().stdout;
    assert!(
        logs.contains("Started") && !logs.contains("probe: ready"),
        "{logs}"
    );
    let status = sandbox.maqet(&["status", "--json", "@web"]).fails(3).stdout;
    assert!(status.contains("\"guest-shutdown\""), "{status}");
}

#[test]
fn what_qemu_says_is_told_from_what_systemd_says_of_it() {
    let sandbox = Sandbox::new();
    sandbox.add(
        "web",
        &["--qemu-arg=-machine", "--qemu-arg=no-such-machine"],
    );
    sandbox.maqet(&["start", "@web"]).fails(1);
    wait_until("QEMU's words are in the journal", || {
        let qemu = sandbox.maqet(&["logs", "@web", "--qemu"]).ok().stdout;
        assert!(!qemu.contains("systemd"), "{qemu}");
        qemu.contains("unsupported machine type")
    });
    wait_until("systemd's words are in the journal", || {
        let all = sandbox.maqet(&["logs", "@web"]).ok().stdout;
        all.contains("systemd")
    });
    sandbox
        .maqet(&["logs", "@web", "--qemu", "--console"])
        .fails(2);
}

#[test]
fn consoles_of_runs_long_ago_are_told_apart() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle probe.print=3");
    let mut runs = Vec::new();
    for _ in 0..3 {
        sandbox.maqet(&["start", "@web"]).ok();
        runs.push(sandbox.property("web", "InvocationID"));
        sandbox.wait_for_console("web", "probe: ready");
        sandbox.maqet(&["stop", "@web"]).ok();
    }
    wait_until("the last is in the journal", || {
        let entries = console_entries(&sandbox, "web");
        let last = entries
            .iter()
            .filter(|entry| entry["USER_INVOCATION_ID"] == *runs[2]);
        last.filter(|entry| entry["MESSAGE"] == "probe: ready")
            .count()
            == 1
    });
    for (back, run) in ["-2", "-1", "0"].iter().zip(&runs) {
        let lines: Vec<Value> = sandbox
            .maqet(&["logs", "@web", "--console", "--json", "--boot", back])
            .ok()
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(lines.iter().all(|line| line["run"] == **run), "{lines:?}");
        let ready = lines.iter().filter(|line| line["line"] == "probe: ready");
        assert_eq!(ready.count(), 1, "{lines:?}");
        // Files have no times.
        assert_eq!(lines[0]["time"].is_string(), *back == "-2");
    }
    let all = sandbox
        .maqet(&["logs", "@web", "--console", "--all"])
        .ok()
        .stdout;
    assert_eq!(all.matches("probe: ready").count(), 3, "{all}");
    let last = sandbox
        .maqet(&["logs", "@web", "--console", "--run", "-2", "-n", "1"])
        .ok()
        .stdout;
    assert_eq!(last.lines().count(), 1, "{last}");
    sandbox
        .maqet(&["logs", "@web", "--console", "--run", "-7"])
        .fails(1)
        .saying("has no run -7");
}

#[test]
fn lines_since_a_moment_are_those_of_the_journal_and_what_is_not_yet_there() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle probe.print=3");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    let since = |moment: &str| {
        let args = ["logs", "@web", "--console", "--since", moment];
        sandbox.maqet(&args).ok().stdout
    };
    for _ in 0..2 {
        // journald may not have written yet what others have copied meanwhile.
        wait_until("it is shown once", || {
            let lines = since("-1h");
            let count = lines.matches("probe: ready").count();
            assert!(count <= 1, "{lines}");
            count == 1
        });
        trim(&sandbox);
        wait_until("it is in the journal", || {
            messages(&console_entries(&sandbox, "web")).contains(&"probe: ready")
        });
    }
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    // All of it is in the journal, and comes to be older.
    wait_until("it is older", || since("-1s").is_empty());
    let args = ["logs", "@web", "--since", "-1h"];
    let unit = sandbox.maqet(&args).ok().stdout;
    assert!(unit.contains("Started"), "{unit}");
    let args = ["logs", "@web", "--since", "2200-01-01"];
    assert_eq!(sandbox.maqet(&args).ok().stdout, "");
}

#[test]
fn a_run_that_systemd_restarted_and_the_one_before_are_both_in_the_journal() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle");
    sandbox
        .maqet(&["set", "@web", "Restart=on-abnormal", "--persist"])
        .ok();
    sandbox.maqet(&["start", "@web"]).ok();
    let first = sandbox.property("web", "InvocationID");
    sandbox.wait_for_console("web", "probe: ready");
    signal(sandbox.pid("web"), libc::SIGKILL);
    let log_of_first = sandbox.vm_dir("web").join("console.log.1");
    wait_until("it was restarted", || log_of_first.exists());
    sandbox.wait_for_console("web", "probe: ready");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let mut runs = BTreeSet::new();
    wait_until("both are in the journal", || {
        let entries = console_entries(&sandbox, "web");
        let ready = entries
            .iter()
            .filter(|entry| entry["MESSAGE"] == "probe: ready");
        runs = ready
            .map(|entry| entry["USER_INVOCATION_ID"].to_string())
            .collect();
        runs.len() == 2
    });
    assert!(runs.contains(&format!("{first:?}")));
}

#[test]
fn what_a_crash_of_the_host_left_is_copied_by_the_next_start_and_nothing_twice() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle");
    sandbox.maqet(&["start", "@web"]).ok();
    let run = sandbox.property("web", "InvocationID");
    let mark = sandbox.vm_dir("web").join("console.shipped");
    let nothing_copied = fs::read(&mark).unwrap();
    sandbox.wait_for_console("web", "probe: ready");
    let trims: Vec<_> = (0..8)
        .map(|_| sandbox.spawn(&["internal", "trim"]))
        .collect();
    for trim in trims {
        let ran = crate::sandbox::Ran::of(trim);
        // Another test may have deleted its VM meanwhile.
        let is_ours = ran.stderr.contains(&sandbox.name("web"));
        assert!(ran.status == 0 || !is_ours, "{}", ran.stderr);
    }
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let ready = || {
        let entries = console_entries(&sandbox, "web");
        let of_run = entries
            .iter()
            .filter(|entry| entry["USER_INVOCATION_ID"] == *run);
        of_run
            .filter(|entry| entry["MESSAGE"] == "probe: ready")
            .count()
    };
    wait_until("it is in the journal", || ready() > 0);
    assert_eq!(ready(), 1);
    // As if none of those had come to it.
    fs::write(&mark, nothing_copied).unwrap();
    sandbox.maqet(&["start", "@web"]).ok();
    wait_until("it was copied", || ready() == 2);
}

#[test]
fn a_run_s_lines_are_those_of_qemu_and_systemd_without_events() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["stop", "@web"]).ok();
    wait_until("both lines are in the journal", || {
        let logs = sandbox.maqet(&["logs", "@web"]).ok();
        assert!(!logs.stdout.contains("\"timestamp\""), "{}", logs.stdout);
        logs.stdout.contains("Started") && logs.stdout.contains("Stopped")
    });
}

#[test]
fn each_run_can_be_told_from_the_others() {
    let sandbox = Sandbox::new();
    sandbox.add(
        "web",
        &["--qemu-arg=-machine", "--qemu-arg=no-such-machine"],
    );
    sandbox.maqet(&["start", "@web"]).fails(1);
    let name = sandbox.name("web");
    sandbox.maqet(&["rm", &name]).ok();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    wait_until("both are in the journal", || {
        let all = sandbox.maqet(&["logs", "@web", "--all"]).ok().stdout;
        all.contains("unsupported machine type") && all.contains("Started")
    });
    let this = sandbox.maqet(&["logs", "@web"]).ok().stdout;
    assert!(!this.contains("unsupported machine type"), "{this}");
    let last = sandbox.maqet(&["logs", "@web", "--run", "-1"]).ok().stdout;
    assert!(last.contains("unsupported machine type"), "{last}");
    sandbox
        .maqet(&["logs", "@web", "--run", "-7"])
        .fails(1)
        .saying("has no run -7");
    let one = sandbox
        .maqet(&["logs", "@web", "--all", "-n", "1"])
        .ok()
        .stdout;
    assert_eq!(one.lines().count(), 1, "{one}");
}

#[test]
fn the_console_is_kept_over_the_end_of_the_run_and_for_the_one_before() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=poweroff probe.print=3");
    for _ in 0..2 {
        sandbox.maqet(&["start", "@web"]).ok();
        sandbox.wait_for_state("web", "stopped");
    }
    for run in ["0", "-1"] {
        let console = sandbox
            .maqet(&["logs", "@web", "--console", "--run", run])
            .ok()
            .stdout;
        assert!(console.contains("probe line 000003"), "{console}");
    }
}

#[test]
fn following_prints_lines_as_they_come() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle probe.print=5");
    sandbox.maqet(&["start", "@web"]).ok();
    let mut following = sandbox.spawn(&["logs", "@web", "--console", "-f"]);
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("probe: ready")));
    // Whoever stops reading ends it, though the guest prints no more.
    drop(lines);
    wait_until("the follower is gone", || {
        following.try_wait().unwrap().is_some()
    });
}

#[test]
fn a_guest_that_prints_without_end_fills_neither_disk_nor_journal_and_is_not_stalled() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=print");
    sandbox.maqet(&["start", "@web"]).ok();
    let log = sandbox.vm_dir("web").join("console.log");
    let length = || fs::metadata(&log).map_or(0, |log| log.len());
    for _ in 0..3 {
        let before = length();
        wait_until("it goes on printing", || length() > before + (1 << 20));
        trim(&sandbox);
    }
    // As systemd would: by the unit that does it.
    wait_until("systemd has trimmed it", || {
        systemctl(&["start", "maqet.trim.service"]).status == 0
    });
    assert!(fs::metadata(&log).unwrap().blocks() * 512 < 64 << 20);
    // Nothing that happens to the console log keeps the monitor from answering.
    sandbox.maqet(&["qmp", "@web", "query-status"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let printed = printed(&sandbox, "web");
    wait_until("its last words are in the journal", || {
        messages(&console_entries(&sandbox, "web")).last()
            == printed.last().map(|line| &**line).as_ref()
    });
    let entries = console_entries(&sandbox, "web");
    assert!(entries.len() < 6_000, "{} entries", entries.len());
    let left_out: u64 = entries
        .iter()
        .filter_map(|entry| entry["MAQET_LEFT_OUT"].as_str()?.parse::<u64>().ok())
        .sum();
    assert!(
        left_out > 1 << 20,
        "{left_out} bytes of {} left out",
        length()
    );
}

#[test]
fn the_timer_that_bounds_console_logs_runs_with_the_vms() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let state = systemctl(&["is-active", "maqet.trim.timer"]).ok().stdout;
    assert_eq!(state.trim(), "active");
}
