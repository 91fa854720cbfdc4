use crate::sandbox::{Ran, Sandbox, free_ports, guests, signal, wait_until, wait_until_open};

/// Adds a probe guest whose definition goes on with `more`.
fn add_probe(sandbox: &Sandbox, short: &str, words: &str, more: &str) {
    let guest = guests().join("probe");
    let text = format!(
        "memory = \"128M\"\naccel = \"tcg\"\nkernel = \"{0}/kernel\"\ninitrd = \"{0}/initrd\"\n\
         append = \"console=ttyS0 quiet cryptomgr.notests {words}\"\n{more}\n",
        guest.display()
    );
    let file = format!("{short}.toml");
    std::fs::write(sandbox.path(&file), text).unwrap();
    let name = sandbox.name(short);
    sandbox.maqet(&["add", &file, "--name", &name]).ok();
}

#[test]
fn a_start_waits_until_the_console_says_that_the_guest_is_up() {
    let sandbox = Sandbox::new();
    let level = r"ready.level = 'console:/(?m)^probe: read[a-z]\r?$/'";
    add_probe(&sandbox, "web", "", level);
    sandbox.maqet(&["start", "@web"]).ok().saying("started");
    let console = std::fs::read(sandbox.vm_dir("web").join("console.log")).unwrap();
    assert!(String::from_utf8_lossy(&console).contains("probe: ready"));
    assert_eq!(sandbox.state("web"), "running");
    // It can be waited for again, and is true at once.
    sandbox
        .maqet(&["wait", "@web", "--ready"])
        .ok()
        .saying("is ready");
}

#[test]
fn a_guest_that_is_not_up_in_time_runs_on_and_the_reason_is_said() {
    let sandbox = Sandbox::new();
    let ready = "[ready]\nlevel = \"console:/never/\"\ntimeout = \"5s\"";
    add_probe(&sandbox, "web", "", ready);
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("runs, but is not ready: the console did not say /never/ within 5 s")
        .saying("maqet logs --console");
    assert_eq!(sandbox.state("web"), "running");
    wait_until("the journal says so", || {
        let logs = sandbox.maqet(&["logs", "@web"]).ok().stdout;
        logs.contains("the guest is not up")
    });
    let status = sandbox.maqet(&["status", "@web", "--json"]).json();
    let reason = status["not_ready"].as_str().unwrap();
    assert!(reason.contains("/never/"), "{status}");
    sandbox
        .maqet(&["wait", "@web", "--ready", "--timeout", "1s"])
        .fails(7)
        .saying("console:/never/");
}

#[test]
fn on_a_terminal_a_long_start_says_what_it_waits_for() {
    let sandbox = Sandbox::new();
    // It is to be longer by far than the two seconds after which that is said.
    let ready = "[ready]\nlevel = \"console:/never/\"\ntimeout = \"10s\"";
    add_probe(&sandbox, "web", "", ready);
    let name = sandbox.name("web");
    // script(1) gives the command a terminal.
    let command = format!("{} start {name}", env!("CARGO_BIN_EXE_maqet"));
    let ran = std::process::Command::new("script")
        .args(["-q", "-c", &command, "/dev/null"])
        .env("XDG_DATA_HOME", sandbox.path("data"))
        .env("XDG_CONFIG_HOME", sandbox.path("config"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let waiting = said.find(&format!("waiting until VM `{name}` is up"));
    let ended = said.find("is not ready");
    assert!(waiting.is_some() && waiting < ended, "{said}");
}

#[test]
fn a_vm_that_requires_one_that_is_not_ready_does_not_start() {
    let sandbox = Sandbox::new();
    let ready = "[ready]\nlevel = \"console:/never/\"\ntimeout = \"3s\"";
    add_probe(&sandbox, "db", "", ready);
    add_probe(
        &sandbox,
        "app",
        "",
        &format!("requires = [\"{}\"]", sandbox.name("db")),
    );
    let ran = sandbox.maqet(&["start", "@app"]).fails(1);
    assert!(ran.stderr.contains("is not ready"), "{}", ran.stderr);
    assert_eq!(sandbox.state("db"), "running");
    assert!(sandbox.qemus("app").is_empty());
}

#[test]
fn a_qemu_that_ends_meanwhile_ends_the_wait() {
    let sandbox = Sandbox::new();
    let ready = "[ready]\nlevel = \"console:/never/\"\ntimeout = \"2m\"";
    add_probe(&sandbox, "web", "", ready);
    let start = sandbox.spawn(&["start", "@web"]);
    wait_until("QEMU is there", || sandbox.qemus("web").len() == 1);
    sandbox.wait_for_console("web", "probe: ready");
    let waiting = sandbox.spawn(&["wait", "@web", "--ready"]);
    wait_until_open(&waiting, &sandbox.vm_dir("web").join("console.log"));
    signal(sandbox.qemus("web")[0], libc::SIGKILL);
    Ran::of(start).fails(1);
    Ran::of(waiting).fails(8);
}

#[test]
fn a_qemu_that_does_not_answer_is_waited_for_as_long_as_is_said() {
    let sandbox = Sandbox::running();
    let qemu = sandbox.pid("web");
    signal(qemu, libc::SIGSTOP);
    sandbox
        .maqet(&["wait", "@web", "--ready", "monitor", "--timeout", "1s"])
        .fails(7)
        .saying("`monitor` did not come within 1 s");
    let waiting = sandbox.spawn(&["wait", "@web", "--ready", "--timeout", "10m"]);
    wait_until_open(&waiting, &sandbox.runtime("web").join("qmp.lock"));
    signal(qemu, libc::SIGCONT);
    Ran::of(waiting).ok();
}

#[test]
fn a_vm_that_is_still_starting_can_be_stopped() {
    let sandbox = Sandbox::new();
    let ready = "[ready]\nlevel = \"console:/never/\"\ntimeout = \"2m\"";
    add_probe(&sandbox, "web", "", ready);
    let start = sandbox.spawn(&["start", "@web"]);
    sandbox.wait_for_console("web", "probe: ready");
    assert_eq!(sandbox.state("web"), "starting");
    sandbox.maqet(&["stop", "@web"]).ok();
    assert_ne!(Ran::of(start).status, 0);
    assert_eq!(sandbox.qemus("web").len(), 0);
    sandbox.wait_for_console("web", "probe: powering off");
}

#[test]
fn a_level_that_could_never_be_seen_is_a_mistake() {
    let sandbox = Sandbox::new();
    for (text, words) in [
        ("ready.level = \"ssh\"\n", "`ssh` is no level"),
        ("ready.level = \"tcp:22\"\n", "no forward leads to port 22"),
        (
            "agent = false\nready.level = \"agent\"\n",
            "there is no guest agent",
        ),
        (
            "ready.level = \"console:/(/\"\n",
            "is not a regular expression",
        ),
    ] {
        std::fs::write(sandbox.path("web.toml"), text).unwrap();
        sandbox.maqet(&["add", "web.toml"]).fails(1).saying(words);
    }
}

#[test]
fn agent_and_tcp_are_reached_when_the_guest_is_up() {
    let sandbox = Sandbox::new();
    let [ssh, closed] = free_ports();
    let lines = format!(
        "ready = {{ level = \"agent\", timeout = \"10m\" }}\n\
         net.lan.forward = [\"{ssh}:22\", \"{closed}:81\"]"
    );
    sandbox.add_debian("web", &lines);
    let start = sandbox.spawn(&["start", "@web"]);
    wait_until("QEMU answers", || {
        let ask = ["qmp", "@web", "query-status", "--timeout", "60s"];
        sandbox.maqet(&ask).status == 0
    });
    // QEMU accepts connections all the time; the guest does not.
    sandbox
        .maqet(&["wait", "@web", "--ready", "tcp:22", "--timeout", "1s"])
        .fails(7);
    sandbox
        .maqet(&["wait", "@web", "--ready", "tcp:22", "--timeout", "10m"])
        .ok();
    sandbox
        .maqet(&["wait", "@web", "--ready", "tcp:81", "--timeout", "3s"])
        .fails(7);
    sandbox
        .maqet(&["wait", "@web", "--ready", "tcp:82"])
        .fails(1)
        .saying("no forward leads to port 82");
    let output = start.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    sandbox.maqet(&["wait", "@web", "--ready", "agent"]).ok();
    sandbox
        .maqet(&[
            "wait",
            "@web",
            "--ready",
            "console:/login: ?$/",
            "--timeout",
            "5m",
        ])
        .ok();
}
