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

#[test]
fn words_are_typed_by_qemu_s_own_schema() {
    let sandbox = running();
    let qmp = |words: &[&str]| sandbox.maqet(&[&["qmp", "@web"], words].concat());
    // A disk: numbers, a nested key, an on that is a boolean.
    qmp(&[
        "blockdev-add",
        "driver=null-co",
        "node-name=empty",
        "size=4K",
        "read-only=on",
    ])
    .ok();
    let nodes = sandbox
        .maqet(&["qmp", "@web", "query-named-block-nodes", "--json"])
        .json();
    let node = nodes
        .as_array()
        .unwrap()
        .iter()
        .find(|node| node["node-name"] == "empty")
        .unwrap();
    assert_eq!(node["image"]["virtual-size"], 4096);
    assert_eq!(node["ro"], true);
    // A device, whose properties only its driver knows.
    qmp(&["netdev_add", "type=user", "id=n1"]).ok();
    qmp(&[
        "device_add",
        "driver=virtio-net-pci",
        "id=nic1",
        "netdev=n1",
        "bus=hotplug0",
        "vectors=4",
        "mq=off",
    ])
    .ok();
    let vectors = sandbox.maqet(&[
        "qmp",
        "@web",
        "qom-get",
        "path=/machine/peripheral/nic1",
        "property=vectors",
        "--json",
    ]);
    assert_eq!(vectors.json(), 4);
}

#[test]
fn a_word_that_makes_no_sense_is_exit_status_2_with_the_nearest_that_does() {
    let sandbox = running();
    for (words, said) in [
        (
            &["blockdev-ad", "driver=qcow2"][..],
            "did you mean `blockdev-add`?",
        ),
        (&["balloon", "vlaue=1G"], "did you mean `value`?"),
        (&["balloon", "value=lots"], "expected a whole number"),
        (
            &["device_add", "driver=virtio-net-pci", "vektors=4"],
            "did you mean `vectors`?",
        ),
        (&["balloon", "value"], "neither key=value nor a JSON object"),
    ] {
        sandbox
            .maqet(&[&["qmp", "@web"], words].concat())
            .fails(2)
            .saying(said);
    }
}

#[test]
fn the_commands_are_listed_and_described() {
    let sandbox = running();
    let list = sandbox
        .maqet(&["qmp", "@web", "--list", "query-st*"])
        .ok()
        .stdout;
    assert_eq!(list, "query-stats\nquery-stats-schemas\nquery-status\n");
    let all = sandbox.maqet(&["qmp", "@web", "--list", "--json"]).json();
    assert!(all.as_array().unwrap().len() > 200);
    let described = sandbox
        .maqet(&["qmp", "@web", "--describe", "balloon"])
        .ok()
        .stdout;
    assert_eq!(
        described,
        "ARGUMENT  NEEDED  ONLY WITH  TYPE\nvalue     yes                int\n\nanswer: object\n"
    );
    sandbox
        .maqet(&["qmp", "@web", "--describe", "baloon"])
        .fails(2)
        .saying("did you mean `balloon`?");
}
