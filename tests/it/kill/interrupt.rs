//! SIGINT and SIGTERM: when the command ends, nothing is left to do.

use std::os::unix::process::ExitStatusExt;

use super::{Case, Fate, disk, snapshot, vm, wanted};
use crate::sandbox::Sandbox;

impl Case {
    /// Interrupts it at half as many points: it is undone, or done.
    #[track_caller]
    fn is_undone_when_interrupted(&self) {
        let recorded = self.record();
        for (number, (point, _)) in recorded.points(wanted().div_ceil(2)).enumerate() {
            let signal = [libc::SIGINT, libc::SIGTERM][number % 2];
            let fate = Fate::Signal(signal);
            let (world, ran) = self.meets(point, fate);
            world.stop();
            let now = world.look(false);
            let is_right = match (ran.status.code(), ran.status.signal()) {
                // As it could not be undone any more.
                (Some(0), None) => now == recorded.after,
                (Some(code), None) => code == 128 + signal && now == recorded.before,
                // It was about to begin.
                (None, by) => by == Some(signal) && now == recorded.before,
                (Some(_), Some(_)) => unreachable!("it ends once"),
            };
            assert!(is_right, "{}", recorded.told(point, fate, &ran, &now));
        }
    }
}

#[track_caller]
fn stopped(setup: fn(&Sandbox), operation: &'static [&'static str]) {
    Case {
        setup,
        operation,
        runs: false,
    }
    .is_undone_when_interrupted();
}

#[track_caller]
fn running(setup: fn(&Sandbox), operation: &'static [&'static str]) {
    Case {
        setup,
        operation,
        runs: true,
    }
    .is_undone_when_interrupted();
}

#[test]
fn a_snapshot_that_is_interrupted_is_not_there() {
    stopped(snapshot::with_snapshot, snapshot::CREATE);
    running(snapshot::with_snapshot, snapshot::CREATE);
    stopped(snapshot::two_kinds, snapshot::CREATE_BESIDE);
    running(snapshot::two_kinds, snapshot::CREATE_BESIDE);
}

#[test]
fn going_back_is_not_begun_or_comes_to_its_end_when_interrupted() {
    stopped(snapshot::with_memory, snapshot::RESTORE);
    running(snapshot::with_memory, snapshot::RESTORE);
    stopped(snapshot::beside, snapshot::RESTORE);
}

#[test]
fn a_merge_of_a_stopped_vm_comes_to_its_end_when_interrupted() {
    stopped(snapshot::beside, snapshot::MERGE);
}

#[test]
fn what_is_done_to_disks_is_undone_when_interrupted() {
    stopped(disk::with_packed, disk::ADD_FROM);
    stopped(disk::with_disk, disk::MOVE_AWAY);
    stopped(disk::with_disk, disk::COMPACT);
    stopped(disk::with_base, disk::FLATTEN);
}

#[test]
fn a_clone_that_is_interrupted_is_not_there() {
    stopped(vm::two_kinds, vm::CLONE);
    stopped(vm::two_kinds, vm::CLONE_FULL);
    running(vm::two_kinds, vm::CLONE);
    running(vm::two_kinds, vm::CLONE_FULL);
}
