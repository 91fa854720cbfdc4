use std::fs;
use std::path::{Path, PathBuf};

use super::assert_clean;
use crate::sandbox::{Ran, Sandbox, signal, wait_until};
use crate::snapshot::{counting_on, goes_on, tool};

/// A running VM `web` whose guest runs no instruction, with these disks.
fn running_with(lines: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.images("20M", &["base.qcow2", "over.qcow2"]);
    sandbox.write(&sandbox.path("base.qcow2"), 1, 0, 1 << 20);
    sandbox.add_lines("web", lines);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
}

impl Sandbox {
    /// Has QEMU write to a disk of `web`, as its guest would.
    #[track_caller]
    fn write_in_qemu(&self, disk: &str, pattern: u8, mebibytes: std::ops::Range<u32>) {
        let length = mebibytes.len();
        let command = format!("write -P {pattern} {}M {length}M", mebibytes.start);
        let blocks = self.maqet(&["qmp", "@web", "query-block"]).json();
        let id = format!("disk-{disk}");
        let mut devices = blocks.as_array().unwrap().iter();
        // Some have a part that has the disk.
        let device = devices.find_map(|block| {
            let path = block["qdev"].as_str()?;
            path.split('/').any(|part| part == id).then_some(path)
        });
        // What is written is told to nobody.
        let line = format!("qemu-io -d {} \"{command}\"", device.unwrap());
        let said = self.maqet(&["hmp", "@web", &line]).ok();
        assert_eq!(said.stdout.trim(), "", "{disk}");
    }

    /// Fails unless that part of a disk of `web`, which does not run, has that byte.
    #[track_caller]
    fn assert_has(&self, disk: &str, pattern: u8, mebibytes: std::ops::Range<u32>) {
        let info = self.disk_info(disk);
        let text = |key: &str| info[key].as_str().unwrap().to_owned();
        let length = mebibytes.len();
        let command = format!("read -P {pattern} {}M {length}M", mebibytes.start);
        let (file, format) = (text("file"), text("format"));
        let said = tool("qemu-io", &["-f", &format, "-c", &command], &file.into());
        assert!(!said.contains("failed"), "{disk}: {said}");
    }

    fn file_of(&self, disk: &str) -> PathBuf {
        self.disk_info(disk)["file"].as_str().unwrap().into()
    }

    /// The files of `web`'s directory that may be images.
    fn images_in(&self, dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("qcow2") || name.contains("raw"))
            .collect();
        names.sort();
        names
    }
}

/// Disks of all kinds that are written to.
const KINDS: &str = "[disk.plain]\nsize = '20M'\n\
     [disk.raw]\nsize = '20M'\nformat = 'raw'\n\
     [disk.over]\nfile = 'over.qcow2'\n\
     [disk.slow]\nsize = '20M'\nlimits.iops = 1000\n\
     [disk.thread]\nsize = '20M'\niothread = true\n\
     [disk.both]\nsize = '20M'\niothread = true\nlimits.iops = 1000\n\
     [disk.scsi]\nsize = '20M'\ninterface = 'scsi'\n\
     [disk.usb]\nsize = '20M'\ninterface = 'usb'\n\
     [disk.nvme]\nsize = '20M'\ninterface = 'nvme'\n\
     [disk.sata]\nsize = '20M'\ninterface = 'sata'\ncache = 'none'\n";

#[test]
fn a_disk_of_any_kind_is_moved_while_the_vm_runs_and_is_all_that_it_was() {
    let sandbox = running_with(KINDS);
    let there = tempfile::tempdir_in(sandbox.dir.path()).unwrap();
    let disks = [
        "plain", "raw", "over", "slow", "thread", "both", "scsi", "usb", "nvme", "sata",
    ];
    for disk in disks {
        let from = sandbox.file_of(disk);
        sandbox.write_in_qemu(disk, 7, 2..5);
        for to in ["one", "two"] {
            let to = there.path().join(format!("{disk}.{to}"));
            sandbox
                .disk("move", &[disk, to.to_str().unwrap()])
                .ok()
                .saying("is in");
            assert_eq!(sandbox.file_of(disk), to, "{disk}");
        }
        assert!(!from.exists(), "{disk}");
        sandbox.write_in_qemu(disk, 8, 5..6);
        // What finds a disk by its nodes finds it.
        if disk != "nvme" {
            // QEMU has no such disk of another size.
            sandbox.disk("resize", &[disk, "+1M"]).ok();
        }
        if !["thread", "usb"].contains(&disk) {
            let limit = format!("disk.{disk}.limits.iops=500");
            sandbox.maqet(&["set", "@web", &limit]).ok();
            let blocks = sandbox.maqet(&["qmp", "@web", "query-block"]).ok().stdout;
            assert!(blocks.contains(&format!("disk-{disk}-limit")), "{blocks}");
        }
    }
    let bases = sandbox.disk_info("over")["bases"].clone();
    assert_eq!(bases[0], sandbox.path("base.qcow2").to_str().unwrap());
    assert_eq!(sandbox.disk_info("plain")["made"], true);
    assert_eq!(sandbox.disk_info("over")["made"], false);
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    assert_eq!(sandbox.state("web"), "prelaunch");
    sandbox
        .maqet(&["snapshot", "create", "@web", "then", "--external"])
        .ok();
    for disk in ["slow", "over", "thread"] {
        let to = there.path().join(format!("{disk}.three"));
        sandbox.disk("move", &[disk, to.to_str().unwrap()]).ok();
    }
    sandbox.maqet(&["snapshot", "merge", "@web", "then"]).ok();
    for disk in ["slow", "over", "thread"] {
        assert!(!there.path().join(format!("{disk}.three")).exists());
    }
    for disk in disks {
        assert_eq!(
            sandbox.file_of(disk),
            there.path().join(format!("{disk}.two"))
        );
    }
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    for disk in disks {
        sandbox.assert_has(disk, 7, 2..5);
        sandbox.assert_has(disk, 8, 5..6);
    }
    sandbox.assert_has("over", 1, 0..1);
    sandbox.disk("check", &[]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    assert!(sandbox.orphans().is_empty());
}

#[test]
fn a_guest_writes_on_while_its_disk_is_moved_and_loses_nothing() {
    let sandbox = counting_on("disk.data.size = '4M'\nunit.Restart = 'on-failure'");
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let home = sandbox.vm_dir("web");
    for _ in 0..3 {
        for to in [shm.path(), &home] {
            sandbox.disk("move", &["data", to.to_str().unwrap()]).ok();
            goes_on(&sandbox);
        }
    }
    assert_eq!(sandbox.images_in(shm.path()), [""; 0]);
    sandbox
        .disk("move", &["data", shm.path().to_str().unwrap()])
        .ok();
    // A crash, and systemd starts it again: where it is now.
    let pid = sandbox.pid("web");
    signal(pid, libc::SIGKILL);
    wait_until("it runs again", || {
        let now = sandbox.pid("web");
        now != pid && now != 0 && sandbox.state("web") == "running"
    });
    sandbox.wait_for_console("web", "probe: ready");
    goes_on(&sandbox);
    let there = shm.path().join("data.qcow2");
    assert_eq!(sandbox.file_of("data"), there);
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.disk("check", &["--repair"]).ok();
    assert_clean(&there);
}

#[test]
fn a_disk_is_compacted_while_the_vm_runs() {
    let sandbox = running_with(
        "[disk.data]\nsize = '20M'\n[disk.raw]\nsize = '20M'\nformat = 'raw'\n\
         [disk.over]\nfile = 'over.qcow2'\n[disk.slow]\nsize = '20M'\niothread = true\n\
         limits.iops = 1000",
    );
    let disks = ["data", "raw", "over", "slow"];
    for disk in disks {
        let before = sandbox.file_of(disk);
        sandbox.write_in_qemu(disk, 7, 2..12);
        sandbox.write_in_qemu(disk, 0, 4..12);
        for number in [1, 2] {
            let compacted = sandbox.disk("compact", &[disk, "--json"]).json();
            let numbers = ["from", "to"].map(|key| compacted[key].as_u64().unwrap() >> 20);
            let from = if number == 1 { 9.. } else { 2.. };
            assert!(
                from.contains(&numbers[0]) && numbers[1] < 4,
                "{disk}: {numbers:?}"
            );
            let stem = before.file_stem().unwrap().to_str().unwrap();
            let suffix = before.extension().unwrap().to_str().unwrap();
            // What takes its place has another name: that of an image that is open stays.
            let number = 2 - number % 2;
            let now = before.with_file_name(format!("{stem}.{number}.{suffix}"));
            assert_eq!(sandbox.file_of(disk), now);
            assert!(!before.exists());
        }
    }
    assert_eq!(
        sandbox.disk_info("over")["bases"].as_array().unwrap().len(),
        1
    );
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    for disk in disks {
        sandbox.assert_has(disk, u8::from(disk == "over"), 0..1);
        sandbox.assert_has(disk, 7, 2..4);
        sandbox.assert_has(disk, 0, 4..20);
    }
    sandbox.disk("check", &[]).ok();
    assert!(sandbox.orphans().is_empty());
}

#[test]
fn what_a_link_leads_to_stays_when_its_disk_is_moved_and_is_told() {
    let sandbox = Sandbox::new();
    sandbox.images("1M", &["a.qcow2"]);
    sandbox.images("1M", &["b.qcow2"]);
    let lines = ["a", "b"].map(|disk| {
        let link = sandbox.path(&format!("{disk}.link.qcow2"));
        std::os::unix::fs::symlink(format!("{disk}.qcow2"), &link).unwrap();
        sandbox.write(&link, 3, 0, 1 << 20);
        format!("[disk.{disk}]\nfile = '{disk}.link.qcow2'\n")
    });
    sandbox.add_lines("web", &lines.concat());
    for disk in ["a", "b"] {
        let [file, link, to] = ["qcow2", "link.qcow2", "moved.qcow2"]
            .map(|suffix| sandbox.path(&format!("{disk}.{suffix}")));
        sandbox
            .disk("move", &[disk, to.to_str().unwrap()])
            .ok()
            .saying(file.to_str().unwrap())
            .saying("is there still");
        assert!(link.symlink_metadata().is_err() && file.exists());
        assert!(!to.is_symlink());
        // The other one while it runs.
        sandbox.maqet(&["start", "@web"]).ok();
    }
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    for disk in ["a", "b"] {
        for file in [format!("{disk}.qcow2"), format!("{disk}.moved.qcow2")] {
            sandbox.assert_reads(&sandbox.path(&file), 3, 0, 1 << 20);
        }
    }
}

#[test]
fn what_cannot_be_moved_while_the_vm_runs_stays_where_it_is() {
    let sandbox = running_with(
        "[disk.data]\nsize = '20M'\n[disk.ro]\nfile = 'base.qcow2'\nread-only = true\n\
         [disk.slow]\nsize = '20M'\nlimits.bps = '512K'",
    );
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    fs::write(sandbox.path("taken"), "mine").unwrap();
    for (words, said) in [
        (&["ro", "x.qcow2"][..], "is running"),
        (&["data", "taken"], "is there already"),
        (&["data", "/proc/x.qcow2"], "cannot make"),
    ] {
        sandbox.disk("move", words).fails(1).saying(said);
    }
    for verb in ["check", "map"] {
        let ran = sandbox.disk(verb, &["data"]).fails(1);
        ran.saying("while it runs").saying("maqet stop");
    }
    sandbox.write_in_qemu("data", 7, 0..8);
    let room = ["disk", "move", "@web", "data", "full/data.qcow2"];
    let left = sandbox.with_little_room(&room, |ran| {
        ran.fails(1).saying("has room for");
    });
    assert_eq!(left, [""; 0]);
    sandbox
        .maqet(&["snapshot", "create", "@web", "s", "--disk-only"])
        .ok();
    sandbox
        .disk("move", &["data", "x.qcow2"])
        .fails(1)
        .saying("has 1 snapshot")
        .saying("they go along");
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    sandbox.maqet(&["snapshot", "rm", "@web", "s"]).ok();

    // It is copied within the limits of the disk, for half a minute, while others ask QEMU.
    sandbox.write_in_qemu("slow", 7, 0..8);
    let file = sandbox.file_of("slow");
    let to = sandbox.path("slow.qcow2");
    let moving = sandbox.spawn(&["disk", "move", "@web", "slow", "slow.qcow2"]);
    let is_copying = || {
        let jobs = sandbox.maqet(&["qmp", "@web", "query-jobs"]).ok().stdout;
        jobs.contains("mirror")
    };
    wait_until("it is copied", is_copying);
    for args in [&["status", "@web"][..], &["disk", "ls", "@web"]] {
        sandbox.maqet(args).ok();
    }
    signal(moving.id(), libc::SIGINT);
    let ran = Ran::of(moving);
    assert_eq!(ran.status, 130, "{}", ran.stderr);
    assert!(!is_copying());
    assert!(!to.exists() && file.exists());
    assert_eq!(sandbox.file_of("slow"), file);
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.assert_has("slow", 7, 0..8);
    // What each refusal has said would do.
    sandbox.disk("check", &[]).ok();
    sandbox.disk("map", &["data"]).ok();
    sandbox.disk("move", &["ro", "x.qcow2"]).ok();
    sandbox.maqet(&["snapshot", "create", "@web", "s"]).ok();
    sandbox.disk("move", &["data", "y.qcow2"]).ok();
    assert_eq!(sandbox.disk_info("data")["snapshot_list"][0]["name"], "s");
    sandbox.maqet(&["snapshot", "restore", "@web", "s"]).ok();
}
