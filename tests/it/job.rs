use std::ops::Deref;
use std::process::Child;

use crate::sandbox::{Ran, Sandbox, signal, wait_until, wait_until_open};

/// A VM with a disk that can be copied to another, or to one that is full.
pub struct WithDisks(Sandbox);

impl Deref for WithDisks {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.0
    }
}

pub fn with_disks() -> WithDisks {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    for node in ["from", "to"] {
        let node = format!("node-name={node}");
        let disk = ["qmp", "@web", "blockdev-add", "driver=null-co", "size=1G"];
        sandbox.maqet(&[&disk[..], &[&node]].concat()).ok();
    }
    let full = r#"{"driver": "raw", "node-name": "full", "file": {"driver": "blkdebug",
        "image": {"driver": "null-co", "size": 1073741824},
        "inject-error": [{"event": "write_aio", "errno": 28}]}}"#;
    sandbox.maqet(&["qmp", "@web", "blockdev-add", full]).ok();
    WithDisks(sandbox)
}

impl WithDisks {
    /// Waits until a command listens to the VM's events.
    fn wait_until_heard(&self, command: &Child) {
        wait_until_open(command, &self.runtime("web").join("events.log"));
    }

    pub fn backup(&self, id: &str, target: &str, option: &str) {
        self.copy("blockdev-backup", id, target, option);
    }

    fn copy(&self, command: &str, id: &str, target: &str, option: &str) {
        let (id, target) = (format!("job-id={id}"), format!("target={target}"));
        self.maqet(&[
            "qmp",
            "@web",
            command,
            "device=from",
            "sync=full",
            &id,
            &target,
            option,
        ])
        .ok();
    }
}

#[test]
fn a_job_is_waited_for_until_it_has_ended_even_if_it_has_already() {
    let sandbox = with_disks();
    for _ in 0..10 {
        // It takes some milliseconds, and nothing is left of it.
        sandbox.backup("b", "to", "speed=0");
        let ran = sandbox.maqet(&["job", "wait", "@web", "b"]);
        assert_eq!(ran.ok().stdout, "job `b` completed\n");
    }
    let ran = sandbox.maqet(&["wait", "@web", "--for", "job=b", "--json"]);
    assert_eq!(ran.json()["outcome"], "completed");
}

#[test]
fn a_job_s_own_error_is_exit_status_5() {
    let sandbox = with_disks();
    sandbox.backup("b", "full", "speed=0");
    for command in [
        &["job", "wait", "@web", "b"][..],
        &["wait", "@web", "--for", "job=b"],
    ] {
        sandbox
            .maqet(command)
            .fails(5)
            .saying("job `b` failed: No space left on device");
    }
    // One that is not dismissed by itself is dismissed, and has told why before.
    let options = r#"options:={"driver": "file", "filename": "/nonexistent/x", "size": 1}"#;
    sandbox
        .maqet(&["qmp", "@web", "blockdev-create", "job-id=c", options])
        .ok();
    sandbox
        .maqet(&["job", "wait", "@web", "c"])
        .fails(5)
        .saying("No such file or directory");
    assert_eq!(
        sandbox.maqet(&["jobs", "@web", "--json"]).json(),
        serde_json::json!([])
    );
}

#[test]
fn a_job_is_paused_resumed_and_canceled() {
    let sandbox = with_disks();
    sandbox.backup("b", "to", "speed=1M");
    let status = || sandbox.maqet(&["jobs", "@web", "--json"]).json()[0]["status"].clone();
    sandbox.maqet(&["job", "pause", "@web", "b"]).ok();
    wait_until("it is paused", || status() == "paused");
    sandbox.maqet(&["job", "resume", "@web", "b"]).ok();
    wait_until("it goes on", || status() == "running");
    sandbox
        .maqet(&["job", "complete", "@web", "b"])
        .fails(5)
        .saying("cannot accept command verb 'complete'");
    // Whoever waits for it is told.
    let waiting = sandbox.spawn(&["job", "wait", "@web", "b"]);
    let joined = sandbox.spawn(&["wait", "@web", "--for", "job=b", "--json"]);
    sandbox.wait_until_heard(&waiting);
    sandbox.wait_until_heard(&joined);
    let ran = sandbox.maqet(&["job", "cancel", "@web", "b"]);
    assert_eq!(ran.ok().stdout, "job `b` canceled\n");
    Ran::of(waiting).fails(5).saying("job `b` was canceled");
    let joined = Ran::of(joined).fails(5).stdout;
    assert!(joined.contains(r#""outcome":"canceled""#), "{joined}");
}

#[test]
fn a_wait_can_be_interrupted_and_joined_again() {
    let sandbox = with_disks();
    sandbox.backup("b", "to", "speed=1M");
    let mut waiting = sandbox.spawn(&["job", "wait", "@web", "b"]);
    sandbox.wait_until_heard(&waiting);
    signal(waiting.id(), libc::SIGINT);
    assert!(!waiting.wait().unwrap().success());
    let joined = sandbox.spawn(&["job", "wait", "@web", "b"]);
    sandbox
        .maqet(&["qmp", "@web", "block-job-set-speed", "device=b", "speed=0"])
        .ok();
    Ran::of(joined).ok();
}

#[test]
fn a_command_that_starts_a_job_can_wait_for_it() {
    let sandbox = with_disks();
    let backup = |arguments: &[&str]| {
        let command = ["qmp", "@web", "blockdev-backup", "--wait"];
        sandbox.maqet(&[&command[..], arguments].concat())
    };
    let words = ["job-id=b", "device=from", "sync=full"];
    for _ in 0..2 {
        let ran = backup(&[&words[..], &["target=to"]].concat());
        assert_eq!(ran.ok().stdout, "job `b` completed\n");
    }
    let json = r#"{"job-id": "b", "device": "from", "sync": "full", "target": "full"}"#;
    backup(&[json])
        .fails(5)
        .saying("job `b` failed: No space left on device");
    backup(&["device=from"]).fails(2).saying("have a job-id");
    backup(&[&words[..], &["target=nowhere"]].concat())
        .fails(5)
        .saying("QEMU refused `blockdev-backup`");
}

#[test]
fn a_mirror_that_is_ready_is_completed() {
    let sandbox = with_disks();
    let ready = sandbox.spawn(&["wait", "@web", "--for", "BLOCK_JOB_READY", "--since", "-1h"]);
    sandbox.copy("blockdev-mirror", "m", "to", "speed=0");
    Ran::of(ready).ok();
    sandbox
        .maqet(&["job", "complete", "@web", "m", "--no-wait"])
        .ok();
    let ran = sandbox.maqet(&["job", "wait", "@web", "m"]);
    assert_eq!(ran.ok().stdout, "job `m` completed\n");
}

#[test]
fn an_unknown_job_gets_the_nearest() {
    let sandbox = with_disks();
    sandbox.backup("backup0", "to", "speed=1M");
    for command in [
        &["job", "wait", "@web", "bakup0"][..],
        &["job", "cancel", "@web", "bakup0"],
        &["job", "dismiss", "@web", "bakup0"],
        &["wait", "@web", "--for", "job=bakup0"],
    ] {
        sandbox
            .maqet(command)
            .fails(1)
            .saying("has no job `bakup0`")
            .saying("did you mean `backup0`?");
    }
}

#[test]
fn the_end_of_qemu_ends_the_wait_for_its_job() {
    let sandbox = with_disks();
    sandbox.backup("b", "to", "speed=1M");
    let waiting = sandbox.spawn(&["job", "wait", "@web", "b"]);
    sandbox.wait_until_heard(&waiting);
    signal(sandbox.pid("web"), libc::SIGKILL);
    Ran::of(waiting).fails(8).saying("cannot come any more");
}
