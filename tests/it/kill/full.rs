//! Full disks: what finds no room says so, and all is as before.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Case, Fate, Next, Recorded, World, disk, points, snapshot, spread, trace, vm, wanted};
use crate::sandbox::Sandbox;
use crate::snapshot::listed;

/// A small file system of the test host, which nobody else has.
struct Small {
    dir: PathBuf,
    _lock: File,
}

impl Small {
    fn take() -> Self {
        let all = std::env::var_os("MAQET_TEST_SMALL")
            .expect("small file systems: tests/host/test has them, as root");
        loop {
            for entry in fs::read_dir(&all).unwrap() {
                let dir = entry.unwrap().path();
                let lock = File::create(dir.join("lock")).unwrap();
                if lock.try_lock().is_ok() {
                    return Self { dir, _lock: lock };
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn sandbox(&self) -> Sandbox {
        Sandbox::within(tempfile::tempdir_in(&self.dir).unwrap())
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    /// Takes up all room but so much, in KiB.
    fn fill(&self, but: usize) {
        let mut file = File::create(self.ballast()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(but as u64 * 1024))
            .unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.ballast());
    }
}

/// Whether it is said that there is no room.
fn tells(words: &str) -> bool {
    let all = ["No space left", "is full", "has room for", "has no room"];
    all.iter().any(|it| words.contains(it))
}

impl Case {
    /// Does it with less and more room: it is done, or all is as before.
    #[track_caller]
    fn is_as_before_without_room(&self) {
        let recorded = self.record();
        let mut failed = 0;
        for room in [0, 64, 256, 1100] {
            let small = Small::take();
            let world = World::within(small.sandbox(), self);
            small.fill(room);
            let ran = world.sandbox.maqet(self.operation);
            failed += usize::from(ran.status != 0);
            let when = format!("with {room} KiB");
            self.is_as_before(&recorded, &small, &world, &when, ran.status, &ran.stderr);
        }
        assert!(failed > 0, "{:?} needs no room", self.operation);
    }

    /// Has the room end just before some of its changes.
    #[track_caller]
    fn is_as_before_where_room_ends(&self) {
        let recorded = self.record();
        let mut failed = 0;
        let points = points(&recorded.changes);
        for (point, _) in spread(&recorded.changes, points, wanted(3))
            .into_iter()
            .take(wanted(3))
        {
            let small = Small::take();
            let world = World::within(small.sandbox(), self);
            let ballast = File::create(small.ballast()).unwrap();
            let fate = Fate::Fill(ballast.as_raw_fd());
            let command = world.sandbox.command_of(self.operation);
            let ran = trace::run(command, Some((point, fate)));
            // It takes up its room as long as it is open.
            drop(ballast);
            let status = ran.status.code().unwrap_or(-1);
            failed += usize::from(status != 0);
            let when = recorded.told(point, fate, &ran, "");
            self.is_as_before(&recorded, &small, &world, &when, status, &ran.words);
        }
        assert!(failed > 0, "{:?} needs no room", self.operation);
    }

    /// It was done, or all is as before when there is room again, and it says why.
    #[track_caller]
    fn is_as_before(
        &self,
        recorded: &Recorded,
        small: &Small,
        world: &World,
        when: &str,
        status: i32,
        words: &str,
    ) {
        fs::remove_file(small.ballast()).unwrap();
        // What could not be undone without room is so now.
        world.go_on(self, Next::Other);
        world.stop();
        let now = world.look(false);
        let wanted = match status {
            0 => &recorded.after,
            // It was done, but for noting that.
            _ if words.contains("is left for the next command") && now == recorded.after => {
                &recorded.after
            }
            _ => &recorded.before,
        };
        assert!(
            now == *wanted && (status == 0 || tells(words)),
            "{:?} {when}: {status}\n{words}\n\nnow {now}\nbefore {}\nafter {}",
            self.operation,
            recorded.before,
            recorded.after
        );
        world.start();
        world.stop();
    }
}

#[track_caller]
fn stopped(setup: fn(&Sandbox), operation: &'static [&'static str]) {
    Case {
        setup,
        operation,
        runs: false,
    }
    .is_as_before_without_room();
}

#[track_caller]
fn running(setup: fn(&Sandbox), operation: &'static [&'static str]) {
    Case {
        setup,
        operation,
        runs: true,
    }
    .is_as_before_without_room();
}

#[test]
fn a_snapshot_that_finds_no_room_is_not_there() {
    stopped(snapshot::with_snapshot, snapshot::CREATE);
    running(snapshot::with_snapshot, snapshot::CREATE);
    running(snapshot::with_snapshot, snapshot::CREATE_DISKS);
    stopped(snapshot::two_kinds, snapshot::CREATE_BESIDE);
    running(snapshot::two_kinds, snapshot::CREATE_BESIDE);
}

#[test]
fn a_vm_that_goes_back_without_room_is_there_or_where_it_was() {
    stopped(snapshot::with_memory, snapshot::RESTORE);
    running(snapshot::with_memory, snapshot::RESTORE);
    stopped(snapshot::beside, snapshot::RESTORE);
}

/// With much more in the overlays than in the images.
fn much_beside(sandbox: &Sandbox) {
    snapshot::beside(sandbox);
    let file = sandbox.vm_dir("web").join("root.1.qcow2");
    let write = ["-f", "qcow2", "-c", "write -P 3 512k 1M"];
    let ran = Command::new("qemu-io").args(write).arg(file).output();
    assert!(ran.unwrap().status.success());
}

#[test]
fn a_snapshot_that_is_merged_without_room_can_be_merged_with_some() {
    for runs in [false, true] {
        let case = Case {
            setup: much_beside,
            operation: snapshot::MERGE,
            runs,
        };
        let recorded = case.record();
        for room in [150, 400] {
            let small = Small::take();
            let world = World::within(small.sandbox(), &case);
            let merge = || world.sandbox.maqet(case.operation);
            small.fill(room);
            let ran = merge();
            assert!(ran.status != 0 && tells(&ran.stderr), "{}", ran.stderr);
            fs::remove_file(small.ballast()).unwrap();
            // What was left for the next command is done by it.
            world.go_on(&case, Next::Other);
            // The VM goes on, or starts.
            world.start();
            if !runs {
                world.stop();
            }
            if !listed(&world.sandbox).is_empty() {
                merge().ok();
            }
            world.stop();
            assert_eq!(world.look(false), recorded.after);
        }
    }
}

#[test]
fn what_is_done_to_disks_without_room_is_undone() {
    stopped(disk::with_disk, disk::ADD);
    running(disk::with_disk, disk::ADD);
    stopped(disk::with_packed, disk::ADD_FROM);
    stopped(disk::with_disk, disk::RESIZE);
    running(disk::with_disk, disk::RESIZE);
    stopped(disk::with_disk, disk::COMPACT);
    running(disk::with_disk, disk::COMPACT);
    stopped(disk::with_base, disk::FLATTEN);
    stopped(disk::with_disk, disk::MOVE_BESIDE);
}

#[test]
fn a_clone_that_finds_no_room_is_not_there() {
    stopped(vm::two_kinds, vm::CLONE);
    running(vm::two_kinds, vm::CLONE);
    stopped(vm::two_kinds, vm::CLONE_FULL);
    running(vm::two_kinds, vm::CLONE_FULL);
}

/// The room ends while it is done.
#[track_caller]
fn meanwhile(setup: fn(&Sandbox), operation: &'static [&'static str]) {
    Case {
        setup,
        operation,
        runs: true,
    }
    .is_as_before_where_room_ends();
}

#[test]
fn a_vm_goes_on_whenever_the_room_for_its_copies_ends() {
    meanwhile(vm::two_kinds, vm::CLONE_FULL);
    meanwhile(disk::with_disk, disk::MOVE_BESIDE);
    meanwhile(disk::with_disk, disk::COMPACT);
}

#[test]
fn a_vm_runs_on_where_there_is_no_room_to_save_it() {
    for room in [0, 64, 300] {
        let small = Small::take();
        let sandbox = small.sandbox();
        disk::with_disk(&sandbox);
        sandbox.maqet(&["start", "@web"]).ok();
        sandbox.maqet(&["resume", "@web"]).ok();
        small.fill(room);
        let ran = sandbox.maqet(&["save", "@web"]);
        fs::remove_file(small.ballast()).unwrap();
        assert!(ran.status == 1 && tells(&ran.stderr), "{}", ran.stderr);
        assert_eq!(sandbox.state("web"), "running");
        let left = fs::read_dir(sandbox.path("data/maqet/saved"));
        assert_eq!(left.into_iter().flatten().count(), 0);
        sandbox.maqet(&["save", "@web"]).ok();
        sandbox.maqet(&["start", "@web"]).ok();
        assert_eq!(sandbox.state("web"), "running");
    }
}
