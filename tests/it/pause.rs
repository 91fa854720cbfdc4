use crate::sandbox::Sandbox;

#[test]
fn a_paused_vm_is_paused_and_pausing_it_again_is_no_failure() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &[]);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["pause", "@web"]).ok().saying("paused");
    // QEMU is asked, and not for long.
    sandbox.wait_for_state("web", "paused");
    let again = sandbox.maqet(&["pause", "--json", "@web"]).json();
    assert_eq!(again["changed"], false, "{again}");
    assert_eq!(again["state"], "paused", "{again}");
}

#[test]
fn several_are_paused_by_pattern_and_one_that_cannot_be_does_not_keep_the_others() {
    let sandbox = Sandbox::new();
    for name in ["a", "b", "c"] {
        sandbox.add(name, &[]);
    }
    sandbox.maqet(&["start", "@a", "@b"]).ok();
    let ran = sandbox.maqet(&["pause", &sandbox.name("*")]).ok();
    // `c` does not run, and so is not meant by a pattern.
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    sandbox
        .maqet(&["pause", "@c", "@a"])
        .fails(3)
        .saying("is not running")
        .saying("is paused already");
    sandbox.maqet(&["pause", "@nobody"]).fails(4);
}

#[test]
fn a_guest_that_sleeps_cannot_be_paused_and_is_told_how_to_wake() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=suspend");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_state("web", "suspended");
    sandbox
        .maqet(&["pause", "@web"])
        .fails(1)
        .saying("is suspended: there is nothing to pause")
        .saying("maqet resume");
}

#[test]
fn a_vm_that_is_killed_meanwhile_is_an_error_and_no_hang() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &[]);
    sandbox.maqet(&["start", "@web"]).ok();
    // Nothing answers any more, but the socket is there.
    crate::sandbox::signal(sandbox.pid("web"), libc::SIGSTOP);
    let pausing = sandbox.spawn(&["pause", "--timeout=60s", "@web"]);
    crate::sandbox::signal(sandbox.pid("web"), libc::SIGKILL);
    let ran = crate::sandbox::Ran::of(pausing);
    assert!([1, 3].contains(&ran.status), "{}", ran.stderr);
}

#[test]
fn a_qemu_that_does_not_answer_is_exit_status_6() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &[]);
    sandbox.maqet(&["start", "@web"]).ok();
    crate::sandbox::signal(sandbox.pid("web"), libc::SIGSTOP);
    sandbox.maqet(&["pause", "--timeout=1s", "@web"]).fails(6);
    crate::sandbox::signal(sandbox.pid("web"), libc::SIGCONT);
    assert_eq!(sandbox.state("web"), "running");
}
