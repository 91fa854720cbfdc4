use std::fs;

use crate::sandbox::Sandbox;

#[test]
fn a_stopped_vm_s_disks_are_told_with_their_chain_snapshots_and_users() {
    let sandbox = Sandbox::new();
    sandbox.images("20M", &["base.qcow2", "over.qcow2"]);
    sandbox.qemu_img(&["snapshot", "-c", "before the upgrade", "over.qcow2"]);
    sandbox.add_lines(
        "web",
        "[disk.over]\nfile = \"over.qcow2\"\n[disk.made]\nformat = \"raw\"\nsize = \"5M\"",
    );
    sandbox.add_lines(
        "other",
        "[disk.a]\nfile = \"base.qcow2\"\nread-only = true\n[disk.cd]\ninterface = \"cdrom\"",
    );
    let listed = sandbox.disk("ls", &["--json"]).json();
    let names: Vec<_> = listed.as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 2);
    let over = sandbox.disk_info("over");
    assert_eq!(over["virtual_size"], 20 << 20);
    assert_eq!(
        over["bases"][0],
        sandbox.path("base.qcow2").to_str().unwrap()
    );
    assert_eq!(over["snapshots"], 1);
    assert_eq!(over["snapshot_list"][0]["name"], "before the upgrade");
    assert_eq!(over["chain"][1]["format"], "qcow2");
    assert_eq!(over["made"], false);
    assert_eq!(over["users"].as_array().unwrap().len(), 1);
    let made = sandbox.disk_info("made");
    assert_eq!(made["format"], "raw");
    assert_eq!(made["virtual_size"], 5 << 20);
    assert!(made["actual_size"].as_u64().unwrap() < 1 << 20);
    assert_eq!(made["made"], true);

    // Of the base it is told who has it and who stands on it.
    let base = sandbox
        .maqet(&["disk", "info", "@other", "a", "--json"])
        .json();
    let users = base[0]["users"].as_array().unwrap();
    assert_eq!(users.len(), 2, "{users:?}");
    let of_web = users.iter().find(|user| user["as_base"] == true).unwrap();
    assert_eq!(of_web["vm"], sandbox.name("web"));
    sandbox.maqet(&["disk", "info", "@other", "cd"]).ok();
    let table = sandbox.disk("ls", &[]).ok().stdout;
    assert!(
        table.contains("20 MiB") && table.contains("SNAPSHOTS"),
        "{table}"
    );
    let text = sandbox.disk("info", &[]).ok().stdout;
    assert!(text.contains("before the upgrade"), "{text}");
    assert!(text.contains("on top of"), "{text}");

    sandbox
        .disk("info", &["ovr"])
        .fails(1)
        .saying("has no disk `ovr`")
        .saying("did you mean `over`?");
    sandbox.maqet(&["disk", "ls", "@nope"]).fails(4);
}

#[test]
fn a_running_vm_is_asked_itself() {
    let sandbox = Sandbox::new();
    sandbox.images("20M", &["base.qcow2", "over.qcow2"]);
    sandbox.qemu_img(&["snapshot", "-c", "s", "over.qcow2"]);
    sandbox.add_lines("web", "[disk.over]\nfile = \"over.qcow2\"");
    sandbox.maqet(&["start", "@web"]).ok();
    let over = sandbox.disk_info("over");
    assert_eq!(over["plugged"], true);
    assert_eq!(over["virtual_size"], 20 << 20);
    assert_eq!(
        over["bases"][0],
        sandbox.path("base.qcow2").to_str().unwrap()
    );
    assert_eq!(over["snapshot_list"][0]["name"], "s");
    assert_eq!(over["chain"].as_array().unwrap().len(), 2);

    // One that came later, and one that waits for the next start.
    sandbox.images("1M", &["live.qcow2", "later.qcow2"]);
    let live = ["device", "add", "@web", "disk.live", "file=live.qcow2"];
    sandbox.maqet(&live).ok();
    let later = ["set", "@web", "disk.later.file=later.qcow2"];
    sandbox.maqet(&later).ok();
    let live = sandbox.disk_info("live");
    assert_eq!(
        (&live["plugged"], &live["defined"]),
        (&true.into(), &false.into())
    );
    let later = sandbox.disk_info("later");
    assert_eq!(
        (&later["plugged"], &later["defined"]),
        (&false.into(), &true.into())
    );
    let table = sandbox.disk("ls", &[]).ok().stdout;
    assert!(
        table.contains("not defined") && table.contains("not plugged"),
        "{table}"
    );
}

#[test]
fn what_is_wrong_with_a_chain_is_told_and_keeps_nothing_else_from_being_told() {
    let sandbox = Sandbox::new();
    sandbox.images("1M", &["base.qcow2", "over.qcow2", "good.qcow2"]);
    let lines = "[disk.over]\nfile = \"over.qcow2\"\n[disk.good]\nfile = \"good.qcow2\"";
    sandbox.add_lines("web", lines);
    let rebase = |image: &str, onto: &str| {
        sandbox.qemu_img(&[
            "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", onto, image,
        ]);
    };
    rebase("good.qcow2", "");
    fs::rename(sandbox.path("base.qcow2"), sandbox.path("moved.qcow2")).unwrap();
    sandbox
        .disk("ls", &[])
        .ok()
        .saying("the backing file of")
        .saying("is missing");
    let broken = sandbox.disk_info("over");
    assert!(broken["fault"].as_str().unwrap().contains("base.qcow2"));
    assert!(sandbox.disk_info("good")["fault"].is_null());

    rebase("over.qcow2", "over.qcow2");
    sandbox
        .disk("ls", &[])
        .ok()
        .saying("a backing file that is above it");
    rebase("over.qcow2", "nbd://host/x");
    sandbox.disk("ls", &[]).ok().saying("is no file");
    fs::write(sandbox.path("over.qcow2"), "no image").unwrap();
    sandbox.disk("info", &["over"]).ok();
    sandbox.disk("ls", &[]).ok().saying("it is no qcow2 image");
    fs::remove_file(sandbox.path("over.qcow2")).unwrap();
    sandbox.disk("ls", &[]).ok().saying("cannot read");
}
