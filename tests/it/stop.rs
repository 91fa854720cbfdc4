use crate::sandbox::{Ran, Sandbox, signal, wait_until};

#[test]
fn a_guest_is_asked_to_power_down() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    sandbox.maqet(&["stop", "@web"]).ok().saying("powered down");
    assert_eq!(sandbox.state("web"), "stopped");
    sandbox.wait_for_console("web", "probe: powering off");
    wait_until("systemd has forgotten it", || {
        sandbox.property("web", "LoadState") == "not-found"
    });
}

#[test]
fn systemctl_asks_the_guest_too() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    crate::sandbox::systemctl(&["stop", &sandbox.unit("web")]).ok();
    sandbox.wait_for_console("web", "probe: powering off");
    assert_eq!(sandbox.state("web"), "stopped");
}

#[test]
fn a_vm_that_does_not_run_is_exit_status_3() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    for verb in ["stop", "save"] {
        let ran = sandbox.maqet(&[verb, "@web"]).fails(3);
        let ran = ran.saying("is not running");
        assert!(!ran.stderr.contains("start it"), "{}", ran.stderr);
    }
    sandbox
        .maqet(&["stop", "@nobody"])
        .fails(4)
        .saying("no VM is named");
}

#[test]
fn a_pattern_stops_what_runs_and_nothing_else_counts() {
    let sandbox = Sandbox::new();
    for name in ["a", "b", "c"] {
        sandbox.add_prelaunch(name);
    }
    sandbox.maqet(&["start", "@a", "@b"]).ok();
    let ran = sandbox.maqet(&["stop", &sandbox.name("*")]).ok();
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    for name in ["a", "b", "c"] {
        assert_eq!(sandbox.state(name), "stopped");
    }
    // Nothing runs any more: nothing to do is no failure.
    sandbox.maqet(&["stop", &sandbox.name("*")]).ok();
}

#[test]
fn one_that_fails_does_not_keep_the_others_running() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("a");
    sandbox.maqet(&["start", "@a"]).ok();
    sandbox
        .maqet(&["stop", "@nobody", "@a"])
        .fails(4)
        .saying("no VM is named")
        .saying("stopped");
    assert_eq!(sandbox.state("a"), "stopped");
}

#[test]
fn forcing_cuts_the_power_and_says_so() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle probe.button=ignore");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    let pid = sandbox.pid("web");
    sandbox
        .maqet(&["stop", "--force", "@web"])
        .ok()
        .saying("its power was cut");
    wait_until("QEMU is gone", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
    assert_eq!(sandbox.state("web"), "stopped");
}

#[test]
fn a_qemu_that_does_not_answer_is_waited_for_as_long_as_is_said() {
    let sandbox = Sandbox::running();
    let qemu = sandbox.pid("web");
    signal(qemu, libc::SIGSTOP);
    let name = sandbox.name("web");
    sandbox
        .maqet(&["stop", "@web", "--timeout", "1s"])
        .fails(6)
        .saying(&format!(
            "VM `{name}` is still running: its QEMU did not answer within 1 s"
        ))
        .saying(&format!("maqet stop --force {name}"));
    assert_eq!(sandbox.pid("web"), qemu);
    let stopping = sandbox.spawn(&["stop", "@web", "--timeout", "10m"]);
    // It asks again: QEMU goes on, and what it was sent before is not carried out.
    signal(qemu, libc::SIGCONT);
    Ran::of(stopping).ok();
}

#[test]
fn a_qemu_that_had_to_be_killed_is_stopped_and_not_failed() {
    let sandbox = Sandbox::running();
    for how in [&["--force"][..], &["--force-after", "1s"]] {
        signal(sandbox.pid("web"), libc::SIGSTOP);
        sandbox
            .maqet(&[&["stop", "@web"], how].concat())
            .ok()
            .saying("its power was cut");
        assert_eq!(sandbox.state("web"), "stopped");
        sandbox.maqet(&["start", "@web"]).ok();
    }
}

#[test]
fn a_vm_is_stopped_by_what_it_was_started_with_when_the_defaults_are_broken() {
    let sandbox = Sandbox::running();
    let config = sandbox.path("config/maqet");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), "[defaults]\nmemry = 1\n").unwrap();
    sandbox.maqet(&["stop", "@web"]).ok();
}
