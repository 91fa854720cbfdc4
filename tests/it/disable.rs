use crate::sandbox::Sandbox;

#[test]
fn a_disabled_vm_goes_on_running_and_disabling_twice_is_no_failure() {
    let sandbox = Sandbox::new();
    sandbox.install_template();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["enable", "--now", "@web"]).ok();
    sandbox
        .maqet(&["disable", "@web"])
        .ok()
        .saying("not start at boot any more");
    assert_eq!(sandbox.listed("web")["enabled"], false);
    assert_eq!(sandbox.state("web"), "prelaunch");
    sandbox
        .maqet(&["disable", "@web"])
        .ok()
        .saying("did not start at boot");
    sandbox.maqet(&["disable", "@wbe"]).fails(4);
}

#[test]
fn what_is_enabled_and_has_no_definition_can_be_disabled() {
    let sandbox = Sandbox::new();
    sandbox.install_template();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["enable", "@web"]).ok();
    std::fs::remove_dir_all(sandbox.path("data/maqet")).unwrap();
    sandbox
        .maqet(&["disable", &sandbox.name("*")])
        .ok()
        .saying("any more");
    sandbox.maqet(&["disable", "@web"]).fails(4);
}

#[test]
fn a_vm_that_is_removed_is_disabled_too() {
    let sandbox = Sandbox::new();
    sandbox.install_template();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["enable", "@web"]).ok();
    sandbox
        .maqet(&["rm", "@web"])
        .ok()
        .saying("does not start at boot any more");
    sandbox.add_prelaunch("web");
    assert_eq!(sandbox.listed("web")["enabled"], false);
}
