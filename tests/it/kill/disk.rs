use std::process::Command;

use super::{running, stopped};
use crate::sandbox::Sandbox;
use crate::snapshot::write_as;

pub fn with_disk(sandbox: &Sandbox) {
    sandbox.add_lines("web", "disk.data.size = '2M'");
    write_as(&sandbox.vm_dir("web").join("data.qcow2"), "qcow2", 5);
}

fn qemu_img(sandbox: &Sandbox, args: &[&str]) {
    let mut command = Command::new("qemu-img");
    let ran = command.args(args).current_dir(sandbox.dir.path()).status();
    assert!(ran.unwrap().success(), "{args:?}");
}

/// With a disk on a base, and another base.
pub fn with_base(sandbox: &Sandbox) {
    for (base, byte) in [("base.qcow2", 1), ("other.qcow2", 2)] {
        qemu_img(sandbox, &["create", "-q", "-f", "qcow2", base, "2M"]);
        write_as(&sandbox.path(base), "qcow2", byte);
    }
    let over = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        "base.qcow2",
        "over.qcow2",
    ];
    qemu_img(sandbox, &over);
    sandbox.add_lines("web", "disk.over.file = 'over.qcow2'");
}

/// With a disk that a running VM can let go of at once.
pub fn with_usb_disk(sandbox: &Sandbox) {
    with_disk(sandbox);
    let add = [
        "disk",
        "add",
        "@web",
        "usb",
        "--size",
        "1M",
        "interface=usb",
    ];
    sandbox.maqet(&add).ok();
}

/// With what a disk can be made from.
pub fn with_packed(sandbox: &Sandbox) {
    with_disk(sandbox);
    let file = sandbox.vm_dir("web").join("data.qcow2");
    qemu_img(
        sandbox,
        &["convert", "-O", "raw", file.to_str().unwrap(), "x.img"],
    );
    let packed = Command::new("gzip").arg(sandbox.path("x.img")).status();
    assert!(packed.unwrap().success());
}

pub const ADD: &[&str] = &["disk", "add", "@web", "new", "--size", "1M"];
pub const ADD_FROM: &[&str] = &["disk", "add", "@web", "new", "--from", "x.img.gz"];
pub const RM_USB: &[&str] = &["disk", "rm", "@web", "usb", "--delete"];
pub const RESIZE: &[&str] = &["disk", "resize", "@web", "data", "3M"];
pub const MOVE_BESIDE: &[&str] = &["disk", "move", "@web", "data", "beside.qcow2"];
pub const MOVE_AWAY: &[&str] = &["disk", "move", "@web", "data", "there/data.qcow2"];
pub const COMPACT: &[&str] = &["disk", "compact", "@web", "data"];
pub const FLATTEN: &[&str] = &["disk", "rebase", "@web", "over", "--flat"];

/// With a disk that was cloned, by a VM that is gone.
fn with_overlay(sandbox: &Sandbox) {
    with_disk(sandbox);
    sandbox.maqet(&["clone", "@web", "@zoe"]).ok();
    sandbox.maqet(&["rm", "@zoe", "--disks"]).ok();
    write_as(&sandbox.vm_dir("web").join("data.1.qcow2"), "qcow2", 6);
}

/// With an image that maqet has not made.
fn with_own_disk(sandbox: &Sandbox) {
    with_usb_disk(sandbox);
    let create = ["create", "-q", "-f", "qcow2", "mine.qcow2", "1M"];
    qemu_img(sandbox, &create);
}

kills! {
    a_disk_that_is_made_is_whole_or_not_there {
        stopped(with_disk, ADD) at 8;
        running(with_disk, ADD) at 8;
    }

    a_disk_that_is_made_from_a_packed_image_is_whole_or_not_there {
        stopped(with_packed, ADD_FROM) at 8;
    }

    a_disk_that_is_deleted_is_there_or_gone {
        stopped(with_disk, &["disk", "rm", "@web", "data", "--delete"]) at 8;
        running(with_usb_disk, RM_USB) at 8;
    }

    a_disk_that_is_resized_has_the_one_size_or_the_other {
        stopped(with_disk, RESIZE) at 8;
        running(with_disk, RESIZE) at 8;
    }

    a_disk_that_is_moved_is_at_the_one_place_or_at_the_other {
        stopped(with_disk, MOVE_BESIDE) at 8;
        stopped(with_disk, MOVE_AWAY) at 8;
        running(with_disk, MOVE_AWAY) at 8;
    }

    a_disk_that_is_compacted_reads_the_same {
        stopped(with_disk, COMPACT) at 8;
        running(with_disk, COMPACT) at 8;
    }

    a_disk_that_gets_another_base_reads_the_same {
        stopped(with_base, &["disk", "rebase", "@web", "over", "other.qcow2"]) at 8;
        stopped(with_base, FLATTEN) at 8;
    }

    a_disk_that_is_merged_reads_the_same {
        stopped(with_overlay, &["disk", "merge", "@web"]) at 8;
        running(with_overlay, &["disk", "merge", "@web"]) at 8;
    }

    a_disk_that_is_attached_or_detached_is_so_or_not {
        running(with_own_disk, &["disk", "attach", "@web", "mine", "mine.qcow2"]) at 8;
        running(with_usb_disk, &["disk", "detach", "@web", "usb"]) at 8;
    }
}
