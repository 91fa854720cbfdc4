use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::sandbox::{Ran, Sandbox, wait_until};

#[test]
fn an_answer_is_one_json_document() {
    let sandbox = Sandbox::running();
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
    let sandbox = Sandbox::running();
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
    let sandbox = Sandbox::running();
    sandbox
        .maqet(&["qmp", "@web", "query-statsu"])
        .fails(5)
        .saying("QEMU refused `query-statsu`: The command query-statsu has not been found")
        .saying("hint: did you mean `query-status`");
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
    let sandbox = Sandbox::running();
    let schema = sandbox
        .maqet(&["qmp", "@web", "query-qmp-schema", "--json"])
        .json();
    assert!(schema.as_array().unwrap().len() > 500);
}

#[test]
fn someone_who_sits_on_the_user_s_monitor_disturbs_nobody() {
    let sandbox = Sandbox::running();
    let _idle = UnixStream::connect(sandbox.runtime("web").join("user.sock")).unwrap();
    sandbox.maqet(&["qmp", "@web", "query-status"]).ok();
    sandbox.maqet(&["stop", "@web"]).ok();
}

#[test]
fn a_monitor_that_is_held_is_waited_for_until_the_deadline_and_says_who_holds_it() {
    let sandbox = Sandbox::running();
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
    let sandbox = Sandbox::running();
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
    let sandbox = Sandbox::running();
    let answer = sandbox.maqet(&["qmp", "@web", "quit", "--json"]).json();
    assert_eq!(answer, json!({}));
}

#[test]
fn words_are_typed_by_qemu_s_own_schema() {
    let sandbox = Sandbox::running();
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
    let sandbox = Sandbox::running();
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
    let sandbox = Sandbox::running();
    let list = sandbox
        .maqet(&["qmp", "@web", "--list", "query-st*"])
        .ok()
        .stdout;
    assert_eq!(list, "query-stats\nquery-stats-schemas\nquery-status\n");
    let all = sandbox.maqet(&["qmp", "@web", "--list", "--json"]).json();
    assert!(all.as_array().unwrap().len() > 200);
    let describe = |words: &[&str]| {
        let args = [&["qmp", "@web", "--describe"], words].concat();
        sandbox.maqet(&args).ok().stdout
    };
    assert_eq!(
        describe(&["balloon"]),
        "ARGUMENT  NEEDED  ONLY WITH  TYPE\nvalue     yes                int\n\nanswer: object\n"
    );
    // Keys as words have them, and what decides about them.
    let send_key = describe(&["send-key"]);
    assert!(send_key.contains("keys.0.data  yes     keys.0.type=qcode   unmapped | shift"));
    assert!(describe(&["query-name"]).starts_with("query-name takes no arguments\n"));
    assert!(describe(&["query-name"]).contains("string\n"));
    let (all, qcow2) = (
        describe(&["blockdev-add"]),
        describe(&["blockdev-add", "driver=qcow2"]),
    );
    assert!(all.contains("driver=nbd") && !qcow2.contains("driver=nbd"));
    assert!(qcow2.contains("encrypt.key-secret"));
    assert!(qcow2.contains("object (the same keys again)"));
    let json = sandbox
        .maqet(&["qmp", "@web", "--json", "--describe", "query-status"])
        .json();
    assert_eq!(json["answer_members"][0]["name"], "running");
    sandbox
        .maqet(&["qmp", "@web", "--describe", "baloon"])
        .fails(2)
        .saying("did you mean `balloon`?");
}

#[test]
fn the_first_word_may_be_the_whole_command() {
    let sandbox = Sandbox::running();
    let whole = r#"{"execute": "qom-get", "arguments": {"path": "/machine", "property": "type"}}"#;
    let answer = sandbox.maqet(&["qmp", "@web", whole, "--json"]).json();
    assert!(answer.as_str().unwrap().ends_with("-machine"));
    for bad in [
        &[r#"{"execute": "stop""#][..],
        &[r#"{"arguments": {}}"#],
        &[whole, "property=type"],
    ] {
        sandbox
            .maqet(&[&["qmp", "@web"], bad].concat())
            .fails(2)
            .saying("command");
    }
}

const COMMANDS: &str = r#"# What a test executes.
query-name

qom-get path=/machine 'property=type'  # words
{"execute": "query-status"}
query-statsu
blockdev-add driver=null-co "node-name=a-file"
balloon value=lots
query-kvm"#;

#[test]
fn a_file_of_commands_is_executed_up_to_the_first_failure() {
    let sandbox = Sandbox::running();
    std::fs::write(sandbox.path("commands"), COMMANDS).unwrap();
    let ran = sandbox
        .maqet(&["qmp", "@web", "--file", "commands", "--json"])
        .fails(5)
        .saying("error: commands:6: QEMU refused `query-statsu`")
        .saying("hint: did you mean `query-status`");
    let answers: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0]["name"], sandbox.name("web"));
    assert_eq!(answers[2]["status"], "prelaunch");

    let ran = sandbox
        .maqet(&[
            "qmp",
            "@web",
            "--file",
            "commands",
            "--json",
            "--keep-going",
        ])
        // They failed in different ways.
        .fails(1)
        .saying("commands:6: QEMU refused")
        .saying("commands:8: `value=lots`: expected a whole number");
    assert_eq!(ran.stdout.lines().count(), 5);
    assert!(ran.stdout.lines().last().unwrap().contains("present"));
    let nodes = sandbox
        .maqet(&["qmp", "@web", "query-named-block-nodes", "--json"])
        .json();
    assert_eq!(nodes[0]["node-name"], "a-file");

    sandbox
        .maqet(&["qmp", "@web", "--file", "nowhere"])
        .fails(1)
        .saying("cannot read nowhere");
    std::fs::write(sandbox.path("broken"), b"query-name\n\xff\n").unwrap();
    sandbox
        .maqet(&["qmp", "@web", "--file", "broken"])
        .fails(1)
        .saying("broken:2: ");
}

#[test]
fn commands_come_through_a_pipe_and_keep_nobody_from_the_monitor() {
    let sandbox = Sandbox::running();
    let name = sandbox.name("web");
    let mut child = sandbox
        .command(&["qmp", &name, "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut ask = |command: &str| {
        input.write_all(command.as_bytes()).unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        answer
    };
    // Each answer comes before the next command is sent.
    assert!(ask("query-status\n").contains("prelaunch"));
    // It waits for more, and others are served.
    sandbox.maqet(&["qmp", "@web", "query-name"]).ok();
    assert_eq!(ask("{\"execute\": \"stop\"}\n"), "{}\n");
    drop(input);
    Ran::of(child).ok();
    // Nothing at all is nothing to do.
    assert_eq!(sandbox.maqet(&["qmp", "@web"]).ok().stdout, "");
}

#[test]
fn whoever_is_slow_to_read_an_answer_keeps_nobody_from_the_monitor() {
    let sandbox = Sandbox::running();
    for args in [
        &["query-qmp-schema"][..],
        &["--describe", "query-block"],
        &["--list"],
    ] {
        // The pipe is full before it is read.
        let mut slow = sandbox.spawn(&[&["qmp", "@web"], args].concat());
        let mut first = [0];
        let mut output = slow.stdout.take().unwrap();
        std::io::Read::read_exact(&mut output, &mut first).unwrap();
        sandbox.maqet(&["qmp", "@web", "query-name"]).ok();
        drop(output);
        slow.wait().unwrap();
    }
}

#[test]
fn a_qemu_behind_a_script_takes_words() {
    let sandbox = Sandbox::new();
    let script = sandbox.path("qemu-wrapped");
    std::fs::write(&script, "#!/bin/sh\nexec qemu-system-x86_64 \"$@\"\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).unwrap();
    std::fs::write(
        sandbox.path("web.toml"),
        format!(
            "memory = \"64M\"\naccel = \"tcg\"\n[qemu]\nbinary = {script:?}\nargs = [\"-S\"]\n"
        ),
    )
    .unwrap();
    sandbox.maqet(&["add", "web.toml", "--name", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    let node = ["blockdev-add", "driver=null-co", "node-name=n", "size=1M"];
    sandbox.maqet(&[&["qmp", "@web"], &node[..]].concat()).ok();
    let mut ran = None;
    // If it is slow to say which events it knows, any event is waited for.
    wait_until("QEMU says which events it knows", || {
        let wait = ["wait", "@web", "--for", "STPO", "--timeout", "1s"];
        ran.insert(sandbox.maqet(&wait)).status != 7
    });
    ran.unwrap().fails(2).saying("did you mean `STOP`?");
}

#[test]
fn a_pattern_that_matches_no_command_is_told() {
    let sandbox = Sandbox::running();
    let ran = sandbox.maqet(&["qmp", "@web", "--list", "resize"]).ok();
    assert_eq!(ran.stdout, "");
    ran.saying("no command matches `resize`")
        .saying("'*resize*'");
}

#[test]
fn a_damaged_schema_is_asked_for_anew() {
    let sandbox = Sandbox::running();
    let runtime = std::path::PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").unwrap());
    let balloon = |value: &str| {
        sandbox
            .maqet(&["qmp", "@web", "balloon", value])
            .fails(2)
            .saying("expected a whole number")
    };
    balloon("value=x");
    let kept: Vec<_> = std::fs::read_dir(runtime.join("maqet"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("/.schema-"))
        .collect();
    assert!(!kept.is_empty());
    for damage in [&b""[..], b"\xff\xfe", b"0123456789abcdef\nint {}\n"] {
        for file in &kept {
            std::fs::write(file, damage).unwrap();
        }
        balloon("value=x");
    }
    // There may be those of other QEMUs, which nobody has asked anew.
    let lengths = kept
        .iter()
        .map(|file| std::fs::metadata(file).unwrap().len());
    let whole = lengths.max().unwrap();
    assert!(whole > 50_000, "{whole}");
}

#[test]
fn a_bus_that_takes_no_more_devices_has_a_hint() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["qmp", "@web", "device_add", "driver=virtio-rng-pci", "id=r"])
        .fails(5)
        .saying("does not support hotplug")
        .saying("maqet device add");
}

#[test]
fn nothing_to_be_done_is_no_reason_not_to_look_at_the_vm() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["qmp", "@web"]).fails(3);
    sandbox.maqet(&["qmp", "@nobody"]).fails(4);
    sandbox.maqet(&["start", "@web"]).ok();
    let none = ["qmp", "@web", "--file", "/dev/null"];
    assert_eq!(sandbox.maqet(&none).ok().stdout, "");
}
