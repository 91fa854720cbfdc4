//! SIGINT and SIGTERM: when the command ends, nothing is left to do.

use std::os::unix::process::ExitStatusExt;

use serde_json::json;

use super::{Case, Fate, disk, snapshot, some, vm, wanted};
use crate::sandbox::Sandbox;

impl Case {
    /// Interrupts it at half as many points as it is killed at: it is undone, or done.
    #[track_caller]
    fn is_undone_when_interrupted(&self) {
        let recorded = self.record();
        let mut last = None;
        for (number, (point, _)) in some(&recorded.changes, wanted(4)).enumerate() {
            let signal = [libc::SIGINT, libc::SIGTERM][number % 2];
            let fate = Fate::Signal(signal);
            let (world, ran) = self.meets(last.take(), point, fate);
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
            world.start();
            last = self.again(world, &recorded, &now);
        }
    }

    /// The same of what is in part done then: it is done when it is tried again.
    #[track_caller]
    fn goes_on_after_it_was_interrupted(&self) {
        let recorded = self.record();
        for (number, (point, _)) in some(&recorded.changes, wanted(4)).enumerate() {
            let signal = [libc::SIGINT, libc::SIGTERM][number % 2];
            let fate = Fate::Signal(signal);
            let (world, ran) = self.meets(None, point, fate);
            match ran.status.code() {
                Some(0) => {}
                Some(code) if code == 128 + signal => {
                    assert_eq!(world.sandbox.state("web"), "prelaunch");
                    world.sandbox.maqet(self.operation).ok();
                }
                Some(_) => panic!("{}", recorded.told(point, fate, &ran, "")),
                // It was about to begin.
                None => drop(world.sandbox.maqet(self.operation).ok()),
            }
            world.stop();
            let now = world.look(false);
            let told = || recorded.told(point, fate, &ran, &now);
            assert!(now == recorded.after, "{}", told());
        }
    }

    /// Kills it instead, before there is anything that could not be undone and after.
    #[track_caller]
    fn succeeds_after_it_was_killed(&self) {
        let recorded = self.record();
        for (point, _) in some(&recorded.changes, wanted(6)) {
            let (world, ran) = self.meets(None, point, Fate::Kill);
            let list = world.sandbox.maqet(&["snapshot", "ls", "@web", "--json"]);
            if list.json() != json!([]) {
                world.sandbox.maqet(self.operation).ok();
            }
            world.stop();
            let now = world.look(false);
            let told = || recorded.told(point, Fate::Kill, &ran, &now);
            assert!(now == recorded.after, "{}", told());
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
fn a_merge_of_a_running_vm_that_is_interrupted_is_finished_by_the_next() {
    Case {
        setup: snapshot::beside,
        operation: snapshot::MERGE,
        runs: true,
    }
    .goes_on_after_it_was_interrupted();
}

#[test]
fn a_merge_that_was_killed_has_succeeded_when_it_is_tried_again() {
    for runs in [false, true] {
        Case {
            setup: snapshot::beside,
            operation: snapshot::MERGE,
            runs,
        }
        .succeeds_after_it_was_killed();
    }
}

#[test]
fn what_is_done_to_disks_is_undone_when_interrupted() {
    stopped(disk::with_packed, disk::ADD_FROM);
    stopped(disk::with_disk, disk::MOVE_AWAY);
    running(disk::with_disk, disk::MOVE_AWAY);
    stopped(disk::with_disk, disk::COMPACT);
    running(disk::with_disk, disk::COMPACT);
    stopped(disk::with_base, disk::FLATTEN);
}

#[test]
fn a_clone_that_is_interrupted_is_not_there() {
    stopped(vm::two_kinds, vm::CLONE);
    stopped(vm::two_kinds, vm::CLONE_FULL);
    running(vm::two_kinds, vm::CLONE);
    running(vm::two_kinds, vm::CLONE_FULL);
}
