use super::{running, stopped};
use crate::sandbox::Sandbox;
use crate::snapshot::write_as;

/// A qcow2 disk and a raw one, with something on them.
pub fn two_kinds(sandbox: &Sandbox) {
    let raw = "disk.data = { file = 'data.raw', size = '1M' }";
    sandbox.add_lines("web", &format!("disk.root.size = '2M'\n{raw}"));
    write_as(&sandbox.path("data.raw"), "raw", 1);
    write_as(&sandbox.vm_dir("web").join("root.qcow2"), "qcow2", 2);
}

fn with_snapshot(sandbox: &Sandbox) {
    sandbox.add_lines("web", "disk.root.size = '2M'");
    let root = sandbox.vm_dir("web").join("root.qcow2");
    write_as(&root, "qcow2", 1);
    sandbox.maqet(&["snapshot", "create", "@web", "x"]).ok();
    write_as(&root, "qcow2", 2);
}

/// With an overlay that QEMU was told to make, and no disk is in.
pub fn with_detached(sandbox: &Sandbox) {
    sandbox.add_lines("web", "disk.root.size = '2M'");
    write_as(&sandbox.vm_dir("web").join("root.qcow2"), "qcow2", 1);
    sandbox.maqet(&["start", "@web"]).ok();
    let create = ["snapshot", "create", "@web", "x", "--external"];
    sandbox.maqet(&create).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["disk", "detach", "@web", "root"]).ok();
}

pub const CLONE: &[&str] = &["clone", "@web", "@zoe"];
pub const CLONE_FULL: &[&str] = &["clone", "@web", "@zoe", "--full"];
const CLONE_SNAPSHOT: &[&str] = &["clone", "@web", "@zoe", "--full", "--snapshot", "x"];

kills! {
    a_clone_is_whole_or_not_there {
        stopped(two_kinds, CLONE) at 8;
        running(two_kinds, CLONE) at 8;
    }

    a_full_clone_is_whole_or_not_there {
        stopped(two_kinds, CLONE_FULL) at 8;
        running(two_kinds, CLONE_FULL) at 8;
        stopped(with_snapshot, CLONE_SNAPSHOT) at 8;
    }

    a_vm_has_the_one_name_or_the_other {
        stopped(with_snapshot, &["rename", "@web", "@www"]) at 8;
        stopped(with_detached, &["rename", "@web", "@www"]) at 8;
    }
}
