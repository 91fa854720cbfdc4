use crate::sandbox::{Sandbox, systemctl};

#[test]
fn an_enabled_vm_is_one_that_systemd_says_is_enabled() {
    let sandbox = Sandbox::new();
    sandbox.install_template();
    for name in ["ci-1", "ci-2", "web"] {
        sandbox.add_prelaunch(name);
    }
    let pattern = sandbox.name("ci-*");
    sandbox
        .maqet(&["enable", "@web", &pattern])
        .ok()
        .saying("starts at boot");
    for name in ["ci-1", "ci-2", "web"] {
        let unit = format!("maqet@{}.service", sandbox.name(name));
        let state = systemctl(&["is-enabled", &unit]);
        assert_eq!(state.stdout.trim(), "enabled", "{name}");
        assert_eq!(sandbox.listed(name)["enabled"], true);
    }
    assert_eq!(sandbox.state("web"), "stopped", "it was not to start now");
    let status = sandbox.maqet(&["status", "@web"]).fails(3).stdout;
    assert!(status.contains("is enabled"), "{status}");
    // What systemctl(1) changes is seen at once, too.
    let unit = format!("maqet@{}.service", sandbox.name("ci-1"));
    systemctl(&["disable", &unit]).ok();
    assert_eq!(sandbox.listed("ci-1")["enabled"], false);
}

#[test]
fn enabling_twice_is_no_failure_and_now_starts_too() {
    let sandbox = Sandbox::new();
    sandbox.install_template();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["enable", "@web"]).ok();
    sandbox
        .maqet(&["enable", "--now", "@web"])
        .ok()
        .saying("at boot already")
        .saying("started");
    assert_eq!(sandbox.state("web"), "prelaunch");
    let again = sandbox.maqet(&["enable", "--json", "@web"]).json();
    assert_eq!(again["outcome"], "already-enabled");
}

#[test]
fn what_has_no_definition_is_not_enabled() {
    let sandbox = Sandbox::new();
    sandbox.install_template();
    sandbox.add_prelaunch("web");
    sandbox
        .maqet(&["enable", "@web", "@wbe"])
        .fails(4)
        .saying("no VM is named");
    assert_eq!(sandbox.listed("web")["enabled"], false, "all or none");
}
