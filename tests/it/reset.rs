use crate::sandbox::{Sandbox, wait_until};

#[test]
fn the_guest_boots_anew() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    let pid = sandbox.pid("web");
    sandbox.maqet(&["reset", "@web"]).ok().saying("reset");
    let log = sandbox.vm_dir("web").join("console.log");
    wait_until("the guest is ready a second time", || {
        let text = std::fs::read(&log).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .matches("probe: ready")
            .count()
            == 2
    });
    assert_eq!(sandbox.pid("web"), pid, "the same QEMU");
}

#[test]
fn a_paused_vm_is_reset_and_stays_paused() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &[]);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["pause", "@web"]).ok();
    let done = sandbox.maqet(&["reset", "--json", "@web"]).json();
    assert_eq!(done["state"], "prelaunch", "{done}");
    sandbox.maqet(&["resume", "@web"]).ok();
}

#[test]
fn a_qemu_that_ends_at_a_reset_is_said_to_have_ended() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--qemu-arg=-no-reboot"]);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["reset", "@web"])
        .fails(1)
        .saying("ended instead of being reset");
}
