use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;

use crate::sandbox::{Sandbox, wait_until};

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
    sandbox.add("web", &["--machine", "no-such-machine"]);
    sandbox.maqet(&["start", "@web"]).fails(1);
    let name = sandbox.name("web");
    sandbox.maqet(&["rm", &name]).ok();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let this = sandbox.maqet(&["logs", "@web"]).ok().stdout;
    assert!(!this.contains("unsupported machine type"), "{this}");
    let last = sandbox.maqet(&["logs", "@web", "--run", "-1"]).ok().stdout;
    assert!(last.contains("unsupported machine type"), "{last}");
    let all = sandbox.maqet(&["logs", "@web", "--all"]).ok().stdout;
    assert!(
        all.contains("unsupported machine type") && all.contains("Started"),
        "{all}"
    );
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
        wait_until("the guest powers off", || sandbox.state("web") == "stopped");
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
fn a_guest_that_prints_without_end_fills_no_disk_and_is_not_stalled() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=print");
    sandbox.maqet(&["start", "@web"]).ok();
    let log = sandbox.vm_dir("web").join("console.log");
    let length = || std::fs::metadata(&log).map_or(0, |log| log.len());
    // What systemd does every half minute, as it would: by the unit that does it.
    let trim = || crate::sandbox::systemctl(&["start", "maqet.trim.service"]).ok();
    wait_until("a megabyte is printed", || length() > 1 << 20);
    trim();
    let before = length();
    wait_until("it goes on printing", || length() > before + (1 << 20));
    assert!(std::fs::metadata(&log).unwrap().blocks() * 512 < 64 << 20);
    // Nothing that happens to the console log keeps the monitor from answering.
    sandbox.maqet(&["qmp", "@web", "query-status"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
}

#[test]
fn the_timer_that_bounds_console_logs_runs_with_the_vms() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let state = crate::sandbox::systemctl(&["is-active", "maqet.trim.timer"])
        .ok()
        .stdout;
    assert_eq!(state.trim(), "active");
}
