//! `kill -9` of QEMU while it does what a command has told it.

use std::time::Duration;

use super::{Case, Change, Fate, Next, disk, points, snapshot, spread, vm, wanted};
use crate::sandbox::{Sandbox, wait_until};

impl Case {
    /// Kills QEMU at its points when it has begun, and a moment after them.
    #[track_caller]
    fn is_whole_when_qemu_is_killed(&self, kills: usize) {
        let recorded = self.record();
        // Before it is recorded that it begins, it may find a VM that does not run.
        let is_record = |it: &Change| it.own && it.call == "write" && it.what.ends_with("-wal");
        let begun = recorded.changes.iter().position(is_record).unwrap_or(0);
        let mut points = points(&recorded.changes);
        points.retain(|(point, _)| point.at > begun);
        let mut points = spread(&recorded.changes, points, wanted(kills));
        for (number, (_, fate)) in points.iter_mut().enumerate() {
            let delay = Duration::from_millis([0, 1, 5, 20][number % 4]);
            *fate = Fate::KillOther(0, delay);
        }
        self.at_each(points, kills, |_, (point, fate), world, ran| {
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
            let is_right = recorded.is_either(&now);
            assert!(is_right, "{}", recorded.told(point, fate, ran, &now));
            world.start();
            self.again(world, &recorded, &now)
        });
    }
}

#[track_caller]
fn killed(setup: fn(&Sandbox), operation: &'static [&'static str], kills: usize) {
    Case {
        setup,
        operation,
        runs: true,
    }
    .is_whole_when_qemu_is_killed(kills);
}

kills! {
    a_snapshot_is_in_all_images_or_in_none_when_qemu_is_killed {
        killed(snapshot::with_memory, snapshot::CREATE) at 5;
        killed(snapshot::with_memory, snapshot::CREATE_DISKS) at 5;
        killed(snapshot::with_memory, snapshot::RM) at 5;
    }

    disks_are_at_a_snapshot_or_where_they_were_when_qemu_is_killed {
        killed(snapshot::with_memory_before, snapshot::RESTORE) at 5;
    }

    what_is_beside_images_is_whole_when_qemu_is_killed {
        killed(snapshot::two_kinds, snapshot::CREATE_BESIDE) at 5;
        killed(snapshot::beside, snapshot::MERGE) at 5;
    }

    disks_are_whole_when_qemu_is_killed {
        killed(disk::with_disk, disk::ADD) at 5;
        killed(disk::with_disk, disk::RESIZE) at 5;
        killed(disk::with_usb_disk, disk::RM_USB) at 5;
        killed(disk::with_disk, disk::MOVE_AWAY) at 5;
        killed(disk::with_disk, disk::COMPACT) at 5;
    }

    a_clone_is_whole_or_not_there_when_qemu_is_killed {
        killed(vm::two_kinds, vm::CLONE) at 5;
        killed(vm::two_kinds, vm::CLONE_FULL) at 5;
    }
}
