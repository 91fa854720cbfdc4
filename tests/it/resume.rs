use crate::sandbox::Sandbox;

#[test]
fn a_paused_vm_goes_on_and_resuming_it_again_is_no_failure() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &[]);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["pause", "@web"]).ok();
    sandbox.maqet(&["resume", "@web"]).ok().saying("resumed");
    assert_eq!(sandbox.state("web"), "running");
    let again = sandbox.maqet(&["resume", "--json", "@web"]).json();
    assert_eq!(again["changed"], false, "{again}");
}

#[test]
fn a_guest_that_sleeps_is_woken() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=suspend");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_state("web", "suspended");
    sandbox.maqet(&["resume", "@web"]).ok().saying("resumed");
    sandbox.wait_for_console("web", "probe: awake");
}

#[test]
fn a_vm_that_waits_to_be_started_starts() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["resume", "@web"]).ok();
    assert_eq!(sandbox.state("web"), "running");
}

#[test]
fn a_guest_that_is_off_needs_a_reset_first() {
    let sandbox = Sandbox::new();
    sandbox.add_probe_with("web", "probe.act=poweroff", &["--qemu-arg=-no-shutdown"]);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_state("web", "shutdown");
    sandbox
        .maqet(&["resume", "@web"])
        .fails(1)
        .saying("is shutdown: it can only go on after a reset")
        .saying("maqet reset");
    sandbox
        .maqet(&["powerdown", "@web"])
        .fails(1)
        .saying("no guest hears");
    let reset = sandbox.maqet(&["reset", "@web"]).ok();
    reset.saying("not running");
    let resumed = sandbox.maqet(&["resume", "--json", "@web"]).json();
    assert_eq!(resumed["changed"], true, "{resumed}");
    // It boots, and is off again soon.
    let state = resumed["state"].as_str().unwrap();
    assert!(["running", "shutdown"].contains(&state), "{resumed}");
}
