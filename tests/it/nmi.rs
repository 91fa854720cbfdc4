use crate::sandbox::Sandbox;

#[test]
fn a_kernel_that_is_told_to_panics_of_it() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "unknown_nmi_panic");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    sandbox.maqet(&["nmi", "@web"]).ok().saying("interrupt");
    // Its QEMU ends at a panic, before the kernel has printed why.
    sandbox.wait_for_state("web", "failed");
}

#[test]
fn a_paused_guest_gets_it_later_and_that_is_said() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &[]);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["pause", "@web"]).ok();
    sandbox
        .maqet(&["nmi", "@web"])
        .ok()
        .saying("when it goes on");
    sandbox.maqet(&["nmi", "@nobody"]).fails(4);
}
