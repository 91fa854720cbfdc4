//! `kill -9` of QEMU while it does what a command has told it.

use std::time::Duration;

use super::{Case, Change, Fate, Next, disk, snapshot, vm, wanted};
use crate::sandbox::{Sandbox, wait_until};

impl Case {
    /// Kills QEMU at its points when it has begun, and a moment after them.
    #[track_caller]
    fn is_whole_when_qemu_is_killed(&self) {
        let recorded = self.record();
        // Before it is recorded that it begins, it may find a VM that does not run.
        let is_record = |it: &Change| it.own && it.call == "write" && it.what.ends_with("-wal");
        let begun = recorded.changes.iter().position(is_record).unwrap_or(0);
        let points = recorded.points(wanted());
        let points = points.filter(|(point, _)| point.at > begun);
        for (number, (point, _)) in points.enumerate() {
            let delay = Duration::from_millis([0, 1, 5, 20][number % 4]);
            let fate = Fate::KillOther(0, delay);
            let (world, ran) = self.meets(point, fate);
            wait_until("QEMU is gone", || world.sandbox.state("web") != "prelaunch");
            // Whoever comes next, and then a start.
            world.go_on(
                &Case {
                    runs: false,
                    ..*self
                },
                Next::Other,
            );
            let now = world.look(true);
            let is_right = now == recorded.before || now == recorded.after;
            assert!(is_right, "{}", recorded.told(point, fate, &ran, &now));
            world.start();
        }
    }
}

#[track_caller]
fn killed(setup: fn(&Sandbox), operation: &'static [&'static str]) {
    Case {
        setup,
        operation,
        runs: true,
    }
    .is_whole_when_qemu_is_killed();
}

#[test]
fn a_snapshot_is_in_all_images_or_in_none_when_qemu_is_killed() {
    killed(snapshot::with_memory, snapshot::CREATE);
    killed(snapshot::with_memory, snapshot::CREATE_DISKS);
    killed(snapshot::with_memory, snapshot::RM);
}

#[test]
fn disks_are_at_a_snapshot_or_where_they_were_when_qemu_is_killed() {
    killed(snapshot::with_memory, snapshot::RESTORE);
}

#[test]
fn what_is_beside_images_is_whole_when_qemu_is_killed() {
    killed(snapshot::two_kinds, snapshot::CREATE_BESIDE);
    killed(snapshot::beside, snapshot::MERGE);
}

#[test]
fn disks_are_whole_when_qemu_is_killed() {
    killed(disk::with_disk, disk::ADD);
    killed(disk::with_disk, disk::RESIZE);
    killed(disk::with_usb_disk, disk::RM_USB);
}

#[test]
fn a_clone_is_whole_or_not_there_when_qemu_is_killed() {
    killed(vm::two_kinds, vm::CLONE);
    killed(vm::two_kinds, vm::CLONE_FULL);
}
