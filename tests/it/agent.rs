use std::fs;
use std::time::{Duration, Instant};

use crate::sandbox::{Sandbox, wait_until};

/// Longer than an emulated Debian takes to boot on a busy machine.
const BOOT: Duration = Duration::from_secs(400);

#[test]
fn a_guest_with_an_agent_answers_once_it_is_up_and_no_two_talk_at_once() {
    let sandbox = Sandbox::new();
    sandbox.add_debian("web", "");
    sandbox.maqet(&["start", "@web"]).ok();
    let deadline = Instant::now() + BOOT;
    loop {
        let ran = sandbox.maqet(&["agent", "@web", "ping"]);
        if ran.status == 0 {
            ran.saying("answers");
            break;
        }
        // Not there yet, or there and not listening yet.
        assert!(matches!(ran.status, 1 | 6), "{}", ran.stderr);
        assert!(Instant::now() < deadline, "no agent: {}", ran.stderr);
        std::thread::sleep(Duration::from_millis(500));
    }
    let limit = ["--timeout", "60s"];
    let info = sandbox.maqet(&[&["agent", "@web", "info", "--json"][..], &limit].concat());
    let info = info.json();
    assert!(info["version"].as_str().unwrap().contains('.'), "{info}");
    let commands = info["supported_commands"].as_array().unwrap();
    let ping = commands.iter().find(|it| it["name"] == "guest-ping");
    assert_eq!(ping.unwrap()["enabled"], true);
    let table = sandbox.maqet(&[&["agent", "@web", "info"][..], &limit].concat());
    let shows = |line: &str| line.split_whitespace().eq(["guest-ping", "yes"]);
    assert!(table.ok().stdout.lines().any(shows));

    let lock = sandbox.runtime("web").join("agent.lock");
    let held = fs::File::options().write(true).open(&lock).unwrap();
    held.lock().unwrap();
    fs::write(&lock, format!("{} a test", std::process::id())).unwrap();
    let holder = format!("process {} (`a test`) holds it", std::process::id());
    // QEMU is asked first, and may take that long itself.
    wait_until("the holder is named", || {
        let ping = ["agent", "@web", "ping", "--timeout", "1s"];
        sandbox.maqet(&ping).fails(6).stderr.contains(&holder)
    });
    drop(held);
    sandbox
        .maqet(&[&["agent", "@web", "ping", "--json"][..], &limit].concat())
        .ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
}

#[test]
fn a_guest_without_an_agent_is_said_at_once() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let begin = Instant::now();
    sandbox
        .maqet(&["agent", "@web", "ping", "--timeout", "50s"])
        .fails(1)
        .saying(&format!(
            "no guest agent runs in VM `{}`\n",
            sandbox.name("web")
        ))
        .saying("qemu-guest-agent");
    assert!(begin.elapsed() < Duration::from_secs(50));
}

#[test]
fn a_vm_without_the_channel_says_so() {
    let sandbox = Sandbox::new();
    let definition = format!(
        "name = \"{}\"\nmemory = \"64M\"\nagent = false\naccel = \"tcg\"\n[qemu]\nargs = [\"-S\"]\n",
        sandbox.name("web")
    );
    fs::write(sandbox.path("web.toml"), definition).unwrap();
    sandbox.maqet(&["add", "web.toml"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["agent", "@web", "info"])
        .fails(1)
        .saying("it has no channel for one")
        .saying("agent = true");
}

#[test]
fn without_a_running_vm_there_is_no_agent() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["agent", "@web", "ping"]).fails(3);
    sandbox.maqet(&["agent", "@nobody", "ping"]).fails(4);
    sandbox.maqet(&["agent", "@web"]).fails(2);
}
