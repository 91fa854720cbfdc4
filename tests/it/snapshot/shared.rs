use std::path::PathBuf;

use crate::sandbox::{Ran, Sandbox};

use super::{names, reads, tool, write};

/// A VM `web` with a snapshot `s0` on a disk of zeroes, written since, and an image `over.qcow2`
/// on top of that disk.
fn with_overlay() -> (Sandbox, PathBuf, PathBuf) {
    let sandbox = Sandbox::new();
    let (base, over) = (sandbox.path("base.qcow2"), sandbox.path("over.qcow2"));
    sandbox.add("web", &["--qemu-arg=-S", "--disk", "base.qcow2:1M"]);
    restore(&sandbox, "create", "s0", &[]).ok();
    write(&base, 7);
    let on = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"];
    let on = [&on[..], &[base.to_str().unwrap()]].concat();
    tool("qemu-img", &on, &over);
    (sandbox, base, over)
}

fn restore(sandbox: &Sandbox, verb: &str, name: &str, options: &[&str]) -> Ran {
    sandbox.maqet(&[&["snapshot", verb, "@web", name], options].concat())
}

#[test]
fn an_image_that_a_disk_of_another_vm_stands_on_is_not_written() {
    let (sandbox, base, over) = with_overlay();
    let name = sandbox.name("other");
    let add = ["add", "--name", &name, "--accel=tcg", "--disk=over.qcow2"];
    let cannot = format!(
        "disk `disk0` stands on {}, which is disk `disk0` of VM `{}`",
        base.display(),
        sandbox.name("web")
    );
    sandbox.maqet(&add).ok().saying("warning: ").saying(&cannot);
    let verbs = [("create", "s1"), ("restore", "s0"), ("rm", "s0")];
    for (verb, name) in verbs {
        restore(&sandbox, verb, name, &[])
            .fails(1)
            .saying("base.qcow2 is needed: disk `disk0` of VM `")
            .saying("hint: ");
    }
    assert!(reads(&over, 7));
    assert_eq!(names(&base), ["s0"]);
    // Nor is it once the other's disk is a snapshot's alone.
    let create = ["snapshot", "create", "@other", "x", "--external"];
    sandbox.maqet(&create).ok();
    sandbox.maqet(&["disk", "detach", "@other", "disk0"]).ok();
    restore(&sandbox, "restore", "s0", &[]).fails(1);
    assert!(reads(&over, 7));
    // Nor once that is nobody's any more, until it is deleted by its name.
    sandbox.maqet(&["rm", "@other"]).ok();
    let left = sandbox.vm_dir("other").join("disk0.1.qcow2");
    let delete = ["disk", "orphans", "--delete", left.to_str().unwrap()];
    restore(&sandbox, "restore", "s0", &[])
        .fails(1)
        .saying(&delete.join(" "));
    sandbox.maqet(&delete).ok();
    restore(&sandbox, "restore", "s0", &[]).ok();
    assert!(reads(&base, 0));
}

#[test]
fn a_vm_that_runs_stays_up_if_its_disk_is_in_use_below_another() {
    let (sandbox, base, over) = with_overlay();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.add("other", &["--qemu-arg=-S", "--disk", "over.qcow2"]);
    let pid = sandbox.pid("web");
    restore(&sandbox, "restore", "s0", &["--reset"])
        .fails(1)
        .saying("base.qcow2 is needed");
    assert_eq!(sandbox.pid("web"), pid);
    sandbox.maqet(&["stop", "@web"]).ok();
    assert!(reads(&over, 7));
    assert!(reads(&base, 7));
}

#[test]
fn an_image_that_another_vm_has_open_is_found_before_anything_is_begun() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--qemu-arg=-S", "--disk", "shared.qcow2:1M"]);
    restore(&sandbox, "create", "s0", &[]).ok();
    let shared = sandbox.path("shared.qcow2");
    write(&shared, 7);
    let reads_only = format!(
        "disk.d = {{ file = '{}', read-only = true }}",
        shared.display()
    );
    sandbox.add_lines("other", &reads_only);
    sandbox.maqet(&["start", "@other"]).ok();
    for (verb, name) in [("create", "s1"), ("restore", "s0"), ("rm", "s0")] {
        let ran = restore(&sandbox, verb, name, &[])
            .fails(1)
            .saying(&format!("VM `{}` has it", sandbox.name("other")))
            .saying("hint: stop that one first");
        assert!(!ran.stderr.contains("note:"), "{}", ran.stderr);
    }
    sandbox.maqet(&["stop", "@other"]).ok();
    // Nothing was left to be carried out by what comes next.
    let ran = sandbox.maqet(&["set", "@web", "cpus=2"]).ok();
    assert!(!ran.stderr.contains("snapshot"), "{}", ran.stderr);
    assert!(reads(&shared, 7));
    assert_eq!(names(&shared), ["s0"]);
    restore(&sandbox, "restore", "s0", &[]).ok();
    assert!(reads(&shared, 0));
}
