use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::sandbox::Sandbox;

fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
}

#[test]
fn an_answer_is_one_json_document() {
    let sandbox = running();
    let answer = sandbox
        .maqet(&["qmp", "@web", "query-status", "--json"])
        .json();
    assert_eq!(answer["status"], "prelaunch");
    // For people it is the same, with line breaks.
    let pretty = sandbox.maqet(&["qmp", "@web", "query-status"]).ok();
    assert!(pretty.stdout.lines().count() > 1);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&pretty.stdout).unwrap(),
        answer
    );
}

#[test]
fn arguments_are_a_json_object() {
    let sandbox = running();
    sandbox
        .maqet(&[
            "qmp",
            "@web",
            "qom-get",
            r#"{"path": "/machine", "property": "type"}"#,
        ])
        .ok();
    for bad in ["[1]", "{", "word"] {
        sandbox.maqet(&["qmp", "@web", "qom-get", bad]).fails(2);
    }
}

#[test]
fn a_refused_command_is_exit_status_5_with_qemu_s_words() {
    let sandbox = running();
    sandbox
        .maqet(&["qmp", "@web", "query-statsu"])
        .fails(5)
        .saying("QEMU refused `query-statsu`: The command query-statsu has not been found");
}

#[test]
fn a_vm_that_does_not_run_is_3_and_one_that_is_not_there_is_4() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox
        .maqet(&["qmp", "@web", "query-status"])
        .fails(3)
        .saying("is not running")
        .saying("maqet start");
    sandbox
        .maqet(&["qmp", "@other", "query-status"])
        .fails(4)
        .saying("no VM is named");
}

#[test]
fn a_large_reply_arrives_whole() {
    let sandbox = running();
    let schema = sandbox
        .maqet(&["qmp", "@web", "query-qmp-schema", "--json"])
        .json();
    assert!(schema.as_array().unwrap().len() > 500);
}

#[test]
fn someone_who_sits_on_the_user_s_monitor_disturbs_nobody() {
    let sandbox = running();
    let _idle = UnixStream::connect(sandbox.runtime("web").join("user.sock")).unwrap();
    sandbox.maqet(&["qmp", "@web", "query-status"]).ok();
    sandbox.maqet(&["stop", "@web"]).ok();
}

#[test]
fn a_monitor_that_is_held_is_waited_for_until_the_deadline_and_says_who_holds_it() {
    let sandbox = running();
    let lock = std::fs::File::create(sandbox.runtime("web").join("qmp.lock")).unwrap();
    lock.lock().unwrap();
    std::fs::write(
        sandbox.runtime("web").join("qmp.lock"),
        format!("{} it\n", std::process::id()),
    )
    .unwrap();
    let begin = Instant::now();
    sandbox
        .maqet(&["qmp", "@web", "query-status", "--timeout", "1s"])
        .fails(6)
        .saying("is busy");
    assert!(begin.elapsed() >= Duration::from_secs(1));
    // Nor does it keep the VM from being stopped.
    sandbox.maqet(&["stop", "@web"]).ok();
}

#[test]
fn a_client_that_does_not_take_the_lock_is_waited_for_too() {
    let sandbox = running();
    let _rude = UnixStream::connect(sandbox.runtime("web").join("qmp.sock")).unwrap();
    sandbox
        .maqet(&["qmp", "@web", "query-status", "--timeout", "1s"])
        .fails(6)
        .saying("timed out");
    // What the guest is doing, QEMU has said already.
    assert_eq!(sandbox.state("web"), "prelaunch");
}

#[test]
fn events_that_come_before_the_reply_do_not_disturb_it() {
    let sandbox = running();
    let answer = sandbox.maqet(&["qmp", "@web", "quit", "--json"]).json();
    assert_eq!(answer, json!({}));
}
