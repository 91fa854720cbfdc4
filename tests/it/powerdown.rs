use crate::sandbox::Sandbox;

#[test]
fn the_guest_sees_its_power_button_and_decides() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.button=ignore");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    sandbox
        .maqet(&["powerdown", "@web"])
        .ok()
        .saying("power button");
    sandbox.wait_for_console("web", "probe: power button");
    assert_eq!(sandbox.state("web"), "running");
}

#[test]
fn a_paused_guest_hears_of_it_when_it_goes_on() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    sandbox.maqet(&["pause", "@web"]).ok();
    sandbox
        .maqet(&["powerdown", "@web"])
        .ok()
        .saying("when it goes on");
    sandbox.maqet(&["resume", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: powering off");
}

#[test]
fn before_its_first_instruction_no_guest_hears_it() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["powerdown", "@web"])
        .fails(1)
        .saying("is prelaunch: no guest hears its power button");
}
