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

pub const CLONE: &[&str] = &["clone", "@web", "@zoe"];
pub const CLONE_FULL: &[&str] = &["clone", "@web", "@zoe", "--full"];

#[test]
fn a_clone_is_whole_or_not_there() {
    stopped(two_kinds, CLONE);
    running(two_kinds, CLONE);
}

#[test]
fn a_full_clone_is_whole_or_not_there() {
    stopped(two_kinds, CLONE_FULL);
    running(two_kinds, CLONE_FULL);
    let of_snapshot = &["clone", "@web", "@zoe", "--full", "--snapshot", "x"];
    stopped(with_snapshot, of_snapshot);
}

#[test]
fn a_vm_has_the_one_name_or_the_other() {
    stopped(with_snapshot, &["rename", "@web", "@www"]);
}
