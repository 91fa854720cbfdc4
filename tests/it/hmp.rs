use crate::sandbox::Sandbox;

#[test]
fn what_qemu_prints_is_printed() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox
        .maqet(&["hmp", "@web", "info", "status"])
        .fails(3)
        .saying("is not running");
    sandbox.maqet(&["start", "@web"]).ok();
    let printed = sandbox.maqet(&["hmp", "@web", "info", "status"]).ok();
    assert_eq!(printed.stdout, "VM status: paused (prelaunch)\n");
    let json = sandbox
        .maqet(&["hmp", "--json", "@web", "info status"])
        .json();
    assert_eq!(json, "VM status: paused (prelaunch)\r\n");
    // Words that look like options are QEMU's.
    let help = sandbox.maqet(&["hmp", "@web", "help", "info"]).ok();
    assert!(help.stdout.contains("info version"));
    assert_eq!(sandbox.maqet(&["hmp", "@web", "stop"]).ok().stdout, "");
}

#[test]
fn what_reads_as_a_complaint_is_exit_status_5() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    for (words, said) in [
        (&["frobnicate"][..], "unknown command: 'frobnicate'"),
        (&["device_del", "nope"], "Device 'nope' not found"),
        (&["eject"], "block device name expected"),
        (&["info", "status", "-x"], "extraneous characters"),
    ] {
        let ran = sandbox
            .maqet(&[&["hmp", "@web"], words].concat())
            .fails(5)
            .saying(&format!("QEMU refused `{}`", words.join(" ")))
            .saying(said);
        assert_eq!(ran.stdout, "");
    }
    sandbox.maqet(&["hmp", "@web"]).fails(2);
}
