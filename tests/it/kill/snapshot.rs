use super::{Case, Next, World, running, some, stopped, trace, wanted};
use crate::clone::write_live;
use crate::sandbox::{Sandbox, signal, wait_until};
use crate::snapshot::{reads_as, write_as};

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

/// With two, the later of which is not pruned: the VM is at it.
fn with_two_snapshots(sandbox: &Sandbox) {
    with_snapshot(sandbox);
    sandbox.maqet(&["snapshot", "create", "@web", "z"]).ok();
}

/// With one that has memory.
pub fn with_memory(sandbox: &Sandbox) {
    two_disks(sandbox);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["snapshot", "create", "@web", "x"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    fill(sandbox, ["root.qcow2", "data.qcow2"], 2);
}

/// With another that is later.
pub fn with_memory_before(sandbox: &Sandbox) {
    with_memory(sandbox);
    sandbox.maqet(&["snapshot", "create", "@web", "z"]).ok();
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

/// At the first of two that are beside them.
fn beside_and_back(sandbox: &Sandbox) {
    beside(sandbox);
    let create = ["snapshot", "create", "@web", "y", "--external"];
    sandbox.maqet(&create).ok();
    sandbox.maqet(RESTORE).ok();
}

pub const CREATE: &[&str] = &["snapshot", "create", "@web", "y"];
pub const RESTORE: &[&str] = &["snapshot", "restore", "@web", "x"];
pub const RESET: &[&str] = &["snapshot", "restore", "@web", "x", "--reset"];
pub const RM: &[&str] = &["snapshot", "rm", "@web", "x"];
pub const MERGE: &[&str] = &["snapshot", "merge", "@web", "x"];
pub const CREATE_DISKS: &[&str] = &["snapshot", "create", "@web", "y", "--disk-only"];
pub const CREATE_BESIDE: &[&str] = &["snapshot", "create", "@web", "y", "--external"];

/// With one that has the memory of a guest that runs.
fn with_running_guest(sandbox: &Sandbox) {
    two_disks(sandbox);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["qmp", "@web", "cont"]).ok();
    sandbox.maqet(&["snapshot", "create", "@web", "x"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
}

#[test]
fn what_a_guest_writes_after_its_restore_was_killed_is_there_when_it_starts_again() {
    let case = Case {
        setup: with_running_guest,
        operation: RESTORE,
        runs: true,
    };
    let world = World::new(&case);
    let sandbox = &world.sandbox;
    let runs_on = || sandbox.maqet(&["qmp", "@web", "cont"]).ok();
    runs_on();
    let changes = trace::run(sandbox.command_of(RESTORE), None).changes;
    let (mut halted, mut wrote) = (0, 0);
    for (number, (point, fate)) in some(&changes, wanted(8)).enumerate() {
        trace::run(sandbox.command_of(RESTORE), Some((point, fate)));
        // Its user goes on, and may not even have seen that it was killed.
        if number % 2 == 1 {
            sandbox.maqet(&["resume", "@web"]).ok();
        }
        let status = sandbox.maqet(&["qmp", "@web", "query-status"]).json();
        let runs = status["running"] == true;
        if runs {
            write_live(sandbox, "@web", "data", 9, "0");
            let flush = ["hmp", "@web", "qemu-io disk-data flush"];
            sandbox.maqet(&flush).ok();
        } else {
            for words in [&["ls", "@web"][..], &["status", "@web"], &["doctor"]] {
                // Not where QEMU does not answer at once, or another test has its monitor.
                wait_until(&format!("{words:?} tells it"), || {
                    let said = sandbox.maqet(words);
                    let told = format!("{}{}", said.stdout, said.stderr);
                    told.contains("a restore of it was killed")
                });
            }
        }
        signal(sandbox.pid("web"), libc::SIGKILL);
        wait_until("QEMU is gone", || sandbox.state("web") == "failed");
        world.go_on(
            &Case {
                runs: false,
                ..case
            },
            Next::Other,
        );
        let data = sandbox.vm_dir("web").join("data.qcow2");
        assert!(
            !runs || reads_as(&data, "qcow2", 9),
            "{point:?} {:?}",
            changes[point.at]
        );
        (halted, wrote) = (halted + usize::from(!runs), wrote + usize::from(runs));
        write_as(&data, "qcow2", 2);
        sandbox.maqet(&["start", "@web"]).ok();
        runs_on();
    }
    assert!(halted > 0 && wrote > 0, "{halted} {wrote}");
}

kills! {
    a_snapshot_of_a_stopped_vm_is_in_all_images_or_in_none {
        stopped(with_snapshot, CREATE) at 8;
    }

    a_snapshot_of_a_running_vm_is_in_all_images_or_in_none {
        running(with_snapshot, CREATE) at 8;
        running(with_snapshot, CREATE_DISKS) at 8;
    }

    a_vm_is_at_a_snapshot_or_where_it_was {
        stopped(with_two_snapshots, RESTORE) at 8;
        stopped(with_memory_before, RESTORE) at 8;
        running(with_memory_before, RESTORE) at 8;
    }

    a_snapshot_that_is_deleted_is_in_all_images_or_in_none {
        stopped(with_snapshot, RM) at 8;
        running(with_memory, RM) at 8;
        stopped(beside_and_back, &["snapshot", "rm", "@web", "y"]) at 8;
    }

    each_snapshot_that_is_pruned_is_there_or_gone {
        stopped(with_two_snapshots, &["snapshot", "prune", "@web", "--keep", "0"]) at 8;
    }

    a_snapshot_beside_images_is_of_all_of_them_or_of_none {
        stopped(two_kinds, CREATE_BESIDE) at 8;
        running(two_kinds, CREATE_BESIDE) at 8;
        running(beside, CREATE_BESIDE) at 8;
    }

    disks_are_at_a_snapshot_beside_them_or_where_they_were {
        stopped(beside, RESTORE) at 8;
    }

    disks_of_a_vm_that_is_reset_are_at_a_snapshot_or_where_they_were {
        running(beside, RESET) at 8;
        running(with_snapshot, RESET) at 8;
    }

    a_snapshot_that_is_merged_is_there_or_gone_and_nothing_is_lost {
        stopped(beside, MERGE) at 8;
        running(beside, MERGE) at 8;
    }
}
