use crate::sandbox::Sandbox;

#[test]
fn keys_and_tables_are_taken_out_and_have_their_defaults() {
    let sandbox = Sandbox::new();
    sandbox.add(
        "web",
        &[
            "--qemu-arg=-S",
            "--cpus=2",
            "--unit=CPUWeight=200",
            "--disk=d.qcow2:1M",
        ],
    );
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["unset", "@web", "cpus", "unit", "disk.disk0"])
        .ok()
        .saying("cpus: 2 -> 1, from its next start on")
        .saying("unit.CPUWeight: 200 -> none\n")
        .saying("disk.disk0: {")
        .saying(&format!(
            "kept {}: if it is to go, `rm` deletes it\n",
            sandbox.path("d.qcow2").display()
        ));
    assert_eq!(sandbox.property("web", "CPUWeight"), "[not set]");
    let shown = sandbox.maqet(&["show", "@web"]).ok().stdout;
    for gone in ["cpus", "unit", "disk"] {
        assert!(!shown.contains(gone), "{shown}");
    }
    assert!(sandbox.path("d.qcow2").exists());
}

#[test]
fn a_key_that_is_not_there_is_told_and_nothing_is_taken_out() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--cpus=2"]);
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    sandbox
        .maqet(&["unset", "@web", "cpus", "memroy", "disk.x"])
        .fails(2)
        .saying("has no `memroy`, no `disk.x`")
        .saying("did you mean `memory`?");
    sandbox.maqet(&["unset", "@web", "a b"]).fails(2);
    sandbox
        .maqet(&["unset", "@web", "name"])
        .fails(2)
        .saying("cannot be without a name")
        .saying(&format!("`maqet rename {} NEW`", sandbox.name("web")));
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
}
