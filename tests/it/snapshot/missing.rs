use serde_json::{Value, json};

use crate::sandbox::{Ran, Sandbox};

use super::{listed, names};

/// A VM `web` whose guest never runs an instruction, with a disk that can be unplugged all the
/// same.
fn with_scsi() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_lines(
        "web",
        "disk.root.size = '4M'\ndisk.sc = { size = '1M', interface = 'scsi' }",
    );
    sandbox
}

fn start(sandbox: &Sandbox) {
    sandbox.maqet(&["start", "@web"]).ok();
}

fn unplug(sandbox: &Sandbox) {
    sandbox.maqet(&["device", "rm", "@web", "disk.sc"]).ok();
}

fn plug(sandbox: &Sandbox) {
    sandbox.maqet(&["device", "add", "@web", "disk.sc"]).ok();
}

fn snapshot(sandbox: &Sandbox, verb: &str, name: &str, options: &[&str]) -> Ran {
    sandbox.maqet(&[&["snapshot", verb, "@web", name], options].concat())
}

/// That names the disk, and what plugs it.
#[track_caller]
fn refused(sandbox: &Sandbox, ran: Ran) {
    let ran = ran
        .fails(1)
        .saying("disk `sc` is in the definition, and not in the running VM")
        .saying(&format!(
            "`maqet device add {} disk.sc`",
            sandbox.name("web")
        ));
    // Nothing is left of it, either.
    assert!(!ran.stderr.contains("note:"), "{}", ran.stderr);
}

#[test]
fn a_snapshot_of_a_running_vm_is_of_all_disks_that_are_defined_or_of_none() {
    let sandbox = with_scsi();
    start(&sandbox);
    unplug(&sandbox);
    let kinds: [&[&str]; 3] = [&[], &["--disk-only"], &["--external"]];
    for options in kinds {
        refused(&sandbox, snapshot(&sandbox, "create", "x", options));
    }
    assert!(listed(&sandbox).is_empty());
    assert!(!sandbox.vm_dir("web").join("root.1.qcow2").exists());
    plug(&sandbox);
    snapshot(&sandbox, "create", "x", &["--disk-only"])
        .ok()
        .saying("of 2 disks");
    // What the guest cannot write to is not in one.
    unplug(&sandbox);
    let image = sandbox.vm_dir("web").join("sc.qcow2");
    let file = format!("disk.sc.file={}", image.display());
    sandbox.maqet(&["set", "@web", &file]).ok();
    sandbox.maqet(&["unset", "@web", "disk.sc.size"]).ok();
    sandbox
        .maqet(&["set", "@web", "disk.sc.read-only=true"])
        .ok();
    snapshot(&sandbox, "create", "y", &[]).ok();
    snapshot(&sandbox, "create", "z", &["--external"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    assert_eq!(names(&image), ["x"]);
}

#[test]
fn a_snapshot_is_not_spoilt_by_a_merge_that_a_disk_is_missing_for() {
    let sandbox = with_scsi();
    start(&sandbox);
    snapshot(&sandbox, "create", "x", &["--external"]).ok();
    unplug(&sandbox);
    refused(&sandbox, snapshot(&sandbox, "merge", "x", &[]));
    assert_eq!(listed(&sandbox)[0]["is_merging"], false);
    let resize = ["disk", "resize", "@web", "sc", "8M"];
    refused(&sandbox, sandbox.maqet(&resize));
    refused(&sandbox, sandbox.maqet(&["clone", "@web", "@new"]));
    snapshot(&sandbox, "restore", "x", &["--reset"]).ok();
    unplug(&sandbox);
    plug(&sandbox);
    snapshot(&sandbox, "merge", "x", &[]).ok();
    assert!(listed(&sandbox).is_empty());
    // The same of disks that go back into what clones left.
    sandbox.maqet(&["clone", "@web", "@new"]).ok();
    sandbox.maqet(&["rm", "@new", "--disks"]).ok();
    unplug(&sandbox);
    refused(&sandbox, sandbox.maqet(&["disk", "merge", "@web"]));
    plug(&sandbox);
    sandbox.maqet(&["disk", "merge", "@web"]).ok();
}

#[test]
fn a_snapshot_is_deleted_from_all_disks_or_from_none() {
    let sandbox = with_scsi();
    snapshot(&sandbox, "create", "x", &[]).ok();
    snapshot(&sandbox, "create", "y", &[]).ok();
    start(&sandbox);
    unplug(&sandbox);
    refused(&sandbox, snapshot(&sandbox, "rm", "x", &[]));
    let prune = ["snapshot", "prune", "@web", "--keep", "0"];
    refused(&sandbox, sandbox.maqet(&prune));
    plug(&sandbox);
    assert_eq!(listed(&sandbox).len(), 2);
    snapshot(&sandbox, "rm", "x", &[]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    for image in ["root.qcow2", "sc.qcow2"] {
        assert_eq!(names(&sandbox.vm_dir("web").join(image)), ["y"]);
    }
}

#[test]
fn a_disk_that_waits_for_the_next_start_is_in_no_snapshot_and_that_is_said() {
    let sandbox = with_scsi();
    start(&sandbox);
    let add = [
        "disk",
        "add",
        "@web",
        "sa",
        "--size",
        "1M",
        "interface=sata",
    ];
    sandbox.maqet(&add).ok().saying("next start");
    let kinds: [&[&str]; 3] = [&[], &["--disk-only"], &["--external"]];
    for (name, options) in ["memory", "disks", "beside"].into_iter().zip(kinds) {
        let made = snapshot(&sandbox, "create", name, options).ok();
        made.saying("disk `sa` is not in the snapshot");
    }
    snapshot(&sandbox, "merge", "beside", &[]).ok();
    snapshot(&sandbox, "restore", "memory", &[]).ok();
    sandbox
        .maqet(&["disk", "resize", "@web", "sa", "2M"])
        .fails(1)
        .saying("`maqet stop");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    start(&sandbox);
    let made = snapshot(&sandbox, "create", "all", &["--disk-only"])
        .ok()
        .saying("of 3 disks");
    assert!(
        !made.stderr.contains("not in the snapshot"),
        "{}",
        made.stderr
    );
}

#[test]
fn what_is_between_a_snapshot_and_its_disk_is_merged_first() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '4M'");
    let web = sandbox.name("web");
    snapshot(&sandbox, "create", "one", &["--external"]).ok();
    start(&sandbox);
    // It goes on in an overlay of its own.
    sandbox.maqet(&["clone", "@web", "@new"]).ok();
    sandbox.maqet(&["rm", "@new", "--disks"]).ok();
    snapshot(&sandbox, "merge", "one", &[])
        .fails(1)
        .saying("another overlay between")
        .saying(&format!("`maqet disk merge {web} root`"));
    sandbox.maqet(&["disk", "merge", "@web", "root"]).ok();
    snapshot(&sandbox, "create", "two", &["--external"]).ok();
    let ran = snapshot(&sandbox, "merge", "one", &[]).fails(1);
    let ran = ran.saying("snapshot `two`");
    assert!(!ran.stderr.contains("go on from it"), "{}", ran.stderr);
    for name in ["two", "one"] {
        snapshot(&sandbox, "merge", name, &[]).ok();
    }
}

#[test]
fn a_running_vm_without_one_of_the_disks_goes_back_by_a_reset() {
    let sandbox = with_scsi();
    start(&sandbox);
    snapshot(&sandbox, "create", "all", &[]).ok();
    unplug(&sandbox);
    let image = sandbox.vm_dir("web").join("sc.qcow2");
    let all = &listed(&sandbox)[0];
    assert_eq!(all["missing"], json!([]));
    assert_eq!(all["elsewhere"], json!([image]));
    snapshot(&sandbox, "restore", "all", &[])
        .fails(1)
        .saying("disk `sc` is in the definition, and not in the running VM")
        .saying("hint: the same with `--reset`");
    // It would be where no next start has it.
    plug(&sandbox);
    snapshot(&sandbox, "restore", "all", &[])
        .fails(1)
        .saying("was plugged while the VM ran")
        .saying("hint: the same with `--reset`");
    unplug(&sandbox);
    snapshot(&sandbox, "restore", "all", &["--reset"])
        .ok()
        .saying("goes on there");
    assert_eq!(listed(&sandbox)[0]["elsewhere"], json!([]));
}

#[test]
fn a_disk_that_is_detached_is_named_and_is_restored_when_it_is_a_disk_again() {
    let sandbox = with_scsi();
    snapshot(&sandbox, "create", "x", &[]).ok();
    sandbox.maqet(&["disk", "detach", "@web", "sc"]).ok();
    let image = sandbox.vm_dir("web").join("sc.qcow2");
    let image = image.to_str().unwrap();
    let attach = |disk: &str, image: &str| {
        sandbox.maqet(&["disk", "attach", "@web", disk, image]).ok();
    };
    let table = sandbox.maqet(&["snapshot", "ls", "@web"]).ok().stdout;
    assert!(
        table.contains("does not have 1 of its disks now"),
        "{table}"
    );
    // As the guest saw it: memory fits no other.
    let web = sandbox.name("web");
    let hint = format!("`maqet disk attach {web} sc {image} interface=scsi`");
    let ran = snapshot(&sandbox, "restore", "x", &[]);
    ran.fails(1)
        .saying(&format!("{image} has it"))
        .saying(&hint)
        .saying("`--disk-only` restores the others");
    snapshot(&sandbox, "restore", "x", &["--disk-only"]).ok();
    // There are no others.
    sandbox.maqet(&["disk", "detach", "@web", "root"]).ok();
    let ran = snapshot(&sandbox, "restore", "x", &["--disk-only"]).fails(1);
    assert!(!ran.stderr.contains("--disk-only"), "{}", ran.stderr);
    let root = sandbox.vm_dir("web").join("root.qcow2");
    attach("root", root.to_str().unwrap());
    attach("sc", image);
    snapshot(&sandbox, "restore", "x", &[]).ok();
    // One that has lost it is told apart.
    sandbox.maqet(&["disk", "detach", "@web", "sc"]).ok();
    super::tool("qemu-img", &["snapshot", "-d", "x"], &image.into());
    snapshot(&sandbox, "restore", "x", &[])
        .fails(1)
        .saying("is not whole");
}

#[test]
fn a_detached_overlay_is_merged_and_restored_when_it_is_a_disk_again() {
    let sandbox = with_scsi();
    snapshot(&sandbox, "create", "x", &["--external"]).ok();
    let overlay = sandbox.vm_dir("web").join("sc.1.qcow2");
    let web = sandbox.name("web");
    sandbox.maqet(&["disk", "detach", "@web", "sc"]).ok();
    for verb in ["restore", "merge"] {
        snapshot(&sandbox, verb, "x", &[])
            .fails(1)
            .saying("no disk `sc` any more")
            .saying(&format!(
                "`maqet disk attach {web} sc {}`",
                overlay.display()
            ));
    }
    let attach = ["disk", "attach", "@web", "sc", overlay.to_str().unwrap()];
    sandbox.maqet(&attach).ok();
    snapshot(&sandbox, "restore", "x", &[]).ok();
    // One that stands on nothing any more has nothing to be merged.
    sandbox
        .maqet(&["disk", "rebase", "--flat", "@web", "root"])
        .ok();
    snapshot(&sandbox, "merge", "x", &[])
        .fails(1)
        .saying("disk `root` does not go on from it")
        .saying(&format!("`maqet clone {web} NEW --snapshot NAME`"));
    sandbox
        .maqet(&["clone", "@web", "@new", "--snapshot", "x"])
        .ok();
}

#[test]
fn a_clone_of_a_snapshot_says_which_of_its_disks_it_does_not_have() {
    let sandbox = with_scsi();
    let clone = |new: &str, name: &str, options: &[&str]| -> Value {
        let clone = ["clone", "@web", new, "--snapshot", name, "--json"];
        let made = sandbox.maqet(&[&clone, options].concat());
        let made = made.ok();
        assert!(made.stderr.contains("sc"), "{}", made.stderr);
        made.json()
    };
    snapshot(&sandbox, "create", "in", &[]).ok();
    let whole = [
        "clone",
        "@web",
        "@z",
        "--snapshot",
        "in",
        "--full",
        "--json",
    ];
    assert_eq!(sandbox.maqet(&whole).json()["warnings"], json!([]));
    sandbox.maqet(&["disk", "detach", "@web", "sc"]).ok();
    let made = clone("@a", "in", &["--full"]);
    let said = made["warnings"][0].as_str().unwrap();
    assert!(said.contains("sc.qcow2 of snapshot `in`"), "{said}");
    snapshot(&sandbox, "rm", "in", &[]).ok();
    let image = sandbox.vm_dir("web").join("sc.qcow2");
    super::tool("qemu-img", &["snapshot", "-d", "in"], &image);
    let attach = ["disk", "attach", "@web", "sc", image.to_str().unwrap()];
    sandbox.maqet(&attach).ok();
    snapshot(&sandbox, "create", "beside", &["--external"]).ok();
    sandbox.maqet(&["disk", "detach", "@web", "sc"]).ok();
    for (new, options) in [("@b", &[][..]), ("@c", &["--full"][..])] {
        let made = clone(new, "beside", options);
        let said = made["warnings"][0].as_str().unwrap();
        assert!(said.contains("disk `sc` of snapshot `beside`"), "{said}");
    }
}
