use super::{running, stopped};
use crate::sandbox::Sandbox;
use crate::snapshot::write_as;

/// Two qcow2 disks.
fn two_disks(sandbox: &Sandbox) {
    sandbox.add_lines("web", "disk.root.size = '2M'\ndisk.data.size = '1M'");
    fill(sandbox, ["root.qcow2", "data.qcow2"], 1);
}

fn fill(sandbox: &Sandbox, disks: [&str; 2], byte: u8) {
    for disk in disks {
        let format = disk.rsplit('.').next().unwrap();
        write_as(&sandbox.vm_dir("web").join(disk), format, byte);
    }
}

/// With a snapshot, and something else on the disks since.
pub fn with_snapshot(sandbox: &Sandbox) {
    two_disks(sandbox);
    sandbox.maqet(&["snapshot", "create", "@web", "x"]).ok();
    fill(sandbox, ["root.qcow2", "data.qcow2"], 2);
}

/// With one that has memory.
pub fn with_memory(sandbox: &Sandbox) {
    two_disks(sandbox);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["snapshot", "create", "@web", "x"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    fill(sandbox, ["root.qcow2", "data.qcow2"], 2);
}

/// Disks of both formats.
pub fn two_kinds(sandbox: &Sandbox) {
    let raw = "disk.data = { file = 'data.raw', size = '1M' }";
    sandbox.add_lines("web", &format!("disk.root.size = '2M'\n{raw}"));
    write_as(&sandbox.path("data.raw"), "raw", 1);
    write_as(&sandbox.vm_dir("web").join("root.qcow2"), "qcow2", 1);
}

/// With a snapshot beside them, and something else on the disks since.
pub fn beside(sandbox: &Sandbox) {
    two_kinds(sandbox);
    let create = ["snapshot", "create", "@web", "x", "--external"];
    sandbox.maqet(&create).ok();
    fill(sandbox, ["root.1.qcow2", "data.1.qcow2"], 2);
}

pub const CREATE: &[&str] = &["snapshot", "create", "@web", "y"];
pub const RESTORE: &[&str] = &["snapshot", "restore", "@web", "x"];
pub const RM: &[&str] = &["snapshot", "rm", "@web", "x"];
pub const MERGE: &[&str] = &["snapshot", "merge", "@web", "x"];
pub const CREATE_DISKS: &[&str] = &["snapshot", "create", "@web", "y", "--disk-only"];
pub const CREATE_BESIDE: &[&str] = &["snapshot", "create", "@web", "y", "--external"];

#[test]
fn a_snapshot_of_a_stopped_vm_is_in_all_images_or_in_none() {
    stopped(with_snapshot, CREATE);
}

#[test]
fn a_snapshot_of_a_running_vm_is_in_all_images_or_in_none() {
    running(with_snapshot, CREATE);
    running(with_snapshot, CREATE_DISKS);
}

#[test]
fn a_vm_is_at_a_snapshot_or_where_it_was() {
    stopped(with_snapshot, RESTORE);
    stopped(with_memory, RESTORE);
    running(with_memory, RESTORE);
}

#[test]
fn a_snapshot_that_is_deleted_is_in_all_images_or_in_none() {
    stopped(with_snapshot, RM);
    running(with_memory, RM);
}

#[test]
fn each_snapshot_that_is_pruned_is_there_or_gone() {
    stopped(with_snapshot, &["snapshot", "prune", "@web", "--keep", "0"]);
}

#[test]
fn a_snapshot_beside_images_is_of_all_of_them_or_of_none() {
    stopped(two_kinds, CREATE_BESIDE);
    running(two_kinds, CREATE_BESIDE);
    running(beside, CREATE_BESIDE);
}

#[test]
fn disks_are_at_a_snapshot_beside_them_or_where_they_were() {
    stopped(beside, RESTORE);
}

#[test]
fn a_snapshot_that_is_merged_is_there_or_gone_and_nothing_is_lost() {
    stopped(beside, MERGE);
    running(beside, MERGE);
}
