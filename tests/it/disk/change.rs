use std::fs;
use std::path::PathBuf;

use super::assert_clean;
use crate::sandbox::{Ran, Sandbox, signal, wait_until};

/// A VM `web` that does not run, with a disk `data` of 20 MiB that maqet has made.
fn with_disk() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.disk("add", &["data", "--size", "20M"]).ok();
    let file = sandbox.vm_dir("web").join("data.qcow2");
    (sandbox, file)
}

impl Sandbox {
    /// A VM `name` with a disk `over` whose image stands on that file.
    fn add_overlay(&self, name: &str, base: &str) {
        let over = format!("{name}.qcow2");
        self.qemu_img(&[
            "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, &over,
        ]);
        self.add_lines(name, &format!("[disk.over]\nfile = \"{over}\""));
    }

    fn shown(&self) -> String {
        self.maqet(&["show", "@web"]).ok().stdout
    }
}

#[test]
fn a_disk_whose_device_keeps_its_size_says_so_while_its_vm_runs() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    sandbox.add_lines("web", "disk.fast = { size = '1M', interface = 'nvme' }");
    sandbox.maqet(&["start", "@web"]).ok();
    let resize = ["disk", "resize", &name, "fast", "2M"];
    let ran = sandbox.maqet(&resize).fails(1);
    ran.saying(&format!("disk `fast` cannot grow while VM `{name}` runs"));
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&resize).ok();
}

#[test]
fn a_disk_grows_at_once_and_shrinks_only_when_told_and_stopped() {
    let (sandbox, file) = with_disk();
    sandbox.write(&file, 7, 0, 20 << 20);
    let size = || sandbox.disk_info("data")["virtual_size"].as_u64().unwrap() >> 20;
    sandbox
        .disk("resize", &["data", "+10M"])
        .ok()
        .saying("30 MiB instead of 20 MiB");
    assert_eq!(size(), 30);
    sandbox
        .disk("resize", &["data", "30M"])
        .ok()
        .saying("already");
    sandbox
        .disk("resize", &["data", "25M"])
        .fails(1)
        .saying("would lose")
        .saying("--shrink");
    assert_eq!(size(), 30);
    // The rest of the last cluster would be there again.
    sandbox
        .disk("resize", &["data", "25000K", "--shrink"])
        .fails(1)
        .saying("25024K would do");
    sandbox.disk("resize", &["data", "25M", "--shrink"]).ok();
    assert_eq!(size(), 25);
    // One that is lost would be made anew with that size.
    assert!(sandbox.shown().contains("size = \"25M\""));

    sandbox.maqet(&["start", "@web"]).ok();
    let resized = sandbox.disk("resize", &["data", "40M", "--json"]).json();
    assert_eq!(
        (&resized["live"], &resized["to"]),
        (&true.into(), &(40 << 20).into())
    );
    assert_eq!(size(), 40);
    sandbox
        .disk("resize", &["data", "20M", "--shrink"])
        .fails(1)
        .saying("is running");
    sandbox.disk("resize", &["data", "x"]).fails(2);
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    assert_eq!(size(), 40);
    sandbox.assert_reads(&file, 7, 0, 20 << 20);

    // With limits there is a node above it, and with a raw one no header.
    let words = ["slow", "--size", "1M", "--format", "raw", "limits.iops=100"];
    sandbox.disk("add", &words).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.disk("resize", &["slow", "3M"]).ok();
    assert_eq!(sandbox.disk_info("slow")["virtual_size"], 3 << 20);
}

#[test]
fn an_image_that_others_need_is_never_written_moved_or_deleted() {
    let (sandbox, file) = with_disk();
    sandbox.add_overlay("other", file.to_str().unwrap());
    let before = (sandbox.shown(), fs::read(&file).unwrap());
    let elsewhere = sandbox.path("elsewhere.qcow2");
    for words in [
        &["resize", "@web", "data", "+1M"][..],
        &["resize", "@web", "data", "1M", "--shrink"],
        &["compact", "@web", "data"],
        &["rebase", "@web", "data", "--flat"],
        &["check", "@web", "data", "--repair"],
        &["move", "@web", "data", elsewhere.to_str().unwrap()],
        &["rm", "@web", "data", "--delete"],
        &["attach", "@third", "d", file.to_str().unwrap()],
    ] {
        if words[1] == "@third" {
            sandbox.add_prelaunch("third");
        }
        sandbox
            .maqet(&[&["disk"], words].concat())
            .fails(1)
            .saying("is needed")
            .saying(&format!(
                "disk `over` of VM `{}` stands on it",
                sandbox.name("other")
            ));
    }
    assert!((sandbox.shown(), fs::read(&file).unwrap()) == before);
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("is needed");
    sandbox.maqet(&["start", "@other"]).ok();
    sandbox.maqet(&["stop", "--force", "@other"]).ok();
    assert!(fs::read(&file).unwrap() == before.1);
    // For reading it can be had, while nobody writes it.
    let words = [
        "disk",
        "attach",
        "@third",
        "d",
        file.to_str().unwrap(),
        "read-only=on",
    ];
    sandbox.maqet(&words).fails(1).saying("`data` of VM");
    sandbox.disk("detach", &["data"]).ok().saying("kept");
    sandbox.maqet(&words).ok();
    assert!(file.exists());
}

#[test]
fn a_disk_that_others_came_to_stand_on_is_not_written_by_a_restart_either() {
    let sandbox = Sandbox::new();
    // However long one of its tries takes, they end.
    let restart = "unit.Restart = 'on-failure'\nunit.StartLimitIntervalSec = '1h'";
    sandbox.add_lines("web", restart);
    sandbox.disk("add", &["data", "--size", "20M"]).ok();
    let base = sandbox.vm_dir("web").join("data.qcow2");
    sandbox.qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        base.to_str().unwrap(),
        "x.qcow2",
    ]);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.add_lines("other", "[disk.over]\nfile = \"x.qcow2\"");
    signal(sandbox.pid("web"), libc::SIGKILL);
    sandbox.wait_for_state("web", "failed");
    wait_until("the journal says why", || {
        let said = sandbox.maqet(&["logs", "@web"]).ok().stdout;
        said.contains("is needed: disk `over`")
    });
}

#[test]
fn a_file_is_attached_in_place_and_detached_and_stays_as_it_was() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.images("5M", &["a.qcow2"]);
    for file in ["b.img", "e.img"] {
        fs::write(sandbox.path(file), vec![7; 1 << 20]).unwrap();
    }
    sandbox.qemu_img(&["create", "-q", "-f", "vmdk", "c.vmdk", "1M"]);
    for (file, base) in [("lost.qcow2", "nope"), ("round.qcow2", "./round.qcow2")] {
        let on = ["-u", "-F", "qcow2", "-b", base, file, "1M"];
        sandbox.qemu_img(&[&["create", "-q", "-f", "qcow2"], &on[..]].concat());
    }
    fs::copy(sandbox.path("a.qcow2"), sandbox.path("looks-raw.img")).unwrap();
    sandbox
        .disk("attach", &["a", "a.qcow2", "interface=scsi"])
        .ok();
    sandbox.disk("attach", &["b", "b.img", "read-only=on"]).ok();
    for (words, status, said) in [
        (&["a", "b.img"][..], 1, "has a disk `a` already"),
        (&["x", "a.qcow2"], 2, "disk `a` has the same file"),
        (&["x", "nope.qcow2"], 1, "nope.qcow2 cannot be a disk"),
        (&["x", "lost.qcow2"], 1, "qemu-img rebase -u -b FILE"),
        (&["x", "round.qcow2"], 1, "qemu-img rebase -u -b FILE"),
        (&["x", "c.vmdk"], 1, "--from FILE"),
        (&["x", "looks-raw.img"], 1, "`format=qcow2` says what it is"),
        (&["x", "e.img", "format=qcow2"], 1, "does not look like one"),
        (&["x", "."], 1, "is a directory"),
    ] {
        let ran = sandbox.disk("attach", words).fails(status).saying(said);
        // It is none of the VM's yet.
        assert!(!ran.stderr.contains("disk `x` of VM"), "{}", ran.stderr);
    }
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(sandbox.disk_info("b")["read_only"], true);
    // SCSI disks come and go without the guest's consent.
    sandbox.images("5M", &["d.qcow2"]);
    let words = ["d", "d.qcow2", "interface=scsi", "--json"];
    assert_eq!(sandbox.disk("attach", &words).json()["when"], "now");
    assert_eq!(sandbox.disk_info("d")["plugged"], true);
    sandbox.disk("detach", &["d"]).ok().saying("kept");
    sandbox.disk("detach", &["a"]).ok();
    let left = sandbox.disk("ls", &["--json"]).json();
    assert_eq!(left.as_array().unwrap().len(), 1);
    // One that is there from the start on is on a bus that nothing leaves.
    sandbox
        .disk("detach", &["b"])
        .ok()
        .saying("from the next start on");
    assert!(!sandbox.shown().contains("[disk.b]"));
    assert_eq!(sandbox.disk_info("b")["defined"], false);
    let name = sandbox.name("web");
    for words in [
        &["resize", "b", "9M"][..],
        &["rm", "b"],
        &["move", "b", "."],
    ] {
        sandbox
            .disk(words[0], &words[1..])
            .fails(1)
            .saying("disk `b` is in the running VM")
            .saying(&format!("`maqet device rm {name} disk.b`"));
    }
    assert_clean(&sandbox.path("a.qcow2"));
    assert!(fs::read(sandbox.path("b.img")).unwrap() == vec![7; 1 << 20]);
    sandbox
        .disk("detach", &["nope"])
        .fails(1)
        .saying("has no disk `nope`");
}

#[test]
fn only_an_image_that_maqet_made_is_deleted_and_only_when_asked_to() {
    let (sandbox, file) = with_disk();
    sandbox.images("5M", &["mine.qcow2"]);
    sandbox.disk("attach", &["mine", "mine.qcow2"]).ok();
    sandbox
        .disk("rm", &["mine", "--delete"])
        .fails(1)
        .saying("was not made by maqet");
    sandbox.disk("rm", &["mine"]).ok().saying("kept");
    assert!(sandbox.path("mine.qcow2").exists());

    sandbox.qemu_img(&["snapshot", "-c", "s", file.to_str().unwrap()]);
    sandbox
        .disk("rm", &["data", "--delete"])
        .fails(1)
        .saying("has 1 snapshot")
        .saying("maqet snapshot");
    assert!(sandbox.shown().contains("[disk.data]"));
    sandbox.qemu_img(&["snapshot", "-d", "s", file.to_str().unwrap()]);
    sandbox
        .disk("rm", &["data", "--delete"])
        .ok()
        .saying("deleted");
    assert!(!file.exists());
    assert!(!sandbox.shown().contains("disk"));

    // Of a running VM, when it has let go of it.
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .disk("add", &["live", "--size", "1M", "interface=usb"])
        .ok();
    sandbox
        .disk("rm", &["live", "--delete"])
        .ok()
        .saying("deleted");
    assert!(sandbox.orphans().is_empty());
    // What it has until it stops is not half gone.
    sandbox.maqet(&["stop", "@web"]).ok();
    let fixed = ["fixed", "--size", "1M", "interface=sata"];
    sandbox.disk("add", &fixed).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .disk("rm", &["fixed", "--delete"])
        .fails(1)
        .saying("its bus has no hot-plug")
        .saying("maqet stop");
    assert_eq!(sandbox.disk_info("fixed")["plugged"], true);
    assert_eq!(sandbox.disk_info("fixed")["defined"], true);

    sandbox.disk("add", &["kept", "--size", "1M"]).ok();
    sandbox
        .disk("rm", &["kept", "--delete"])
        .fails(1)
        .saying("cannot let go");
    assert_eq!(sandbox.disk_info("kept")["plugged"], true);
    assert_eq!(sandbox.disk_info("kept")["made"], true);
}

#[test]
fn a_disk_is_moved_with_its_snapshots_and_its_base_to_another_file_system_too() {
    let (sandbox, file) = with_disk();
    sandbox.write(&file, 5, 1 << 20, 1 << 20);
    sandbox.qemu_img(&["snapshot", "-c", "s", file.to_str().unwrap()]);
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let there = shm.path().join("data.qcow2");
    sandbox
        .disk("move", &["data", shm.path().to_str().unwrap()])
        .ok();
    assert!(!file.exists());
    let info = sandbox.disk_info("data");
    assert_eq!(info["file"], there.to_str().unwrap());
    assert_eq!(
        (&info["made"], &info["snapshots"]),
        (&true.into(), &1.into())
    );
    sandbox.assert_reads(&there, 5, 1 << 20, 1 << 20);
    // Back again, under another name; nothing is overwritten.
    fs::write(sandbox.path("taken"), "mine").unwrap();
    sandbox
        .disk("move", &["data", "taken"])
        .fails(1)
        .saying("is there already");
    assert_eq!(fs::read(sandbox.path("taken")).unwrap(), b"mine");
    sandbox.disk("move", &["data", "data.disk"]).ok();
    assert!(!there.exists());
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .disk("move", &["data", "x.qcow2"])
        .fails(1)
        .saying("has 1 snapshot");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();

    // A base that is named from beside the image.
    sandbox.images("5M", &["base.qcow2", "over.qcow2"]);
    sandbox.disk("attach", &["over", "over.qcow2"]).ok();
    for place in [
        "sub/over.qcow2",
        shm.path().join("over.qcow2").to_str().unwrap(),
    ] {
        fs::create_dir_all(sandbox.path("sub")).unwrap();
        sandbox.disk("move", &["over", place]).ok();
        let base = sandbox.path("base.qcow2");
        assert_eq!(
            sandbox.disk_info("over")["bases"][0],
            base.to_str().unwrap()
        );
    }
    let room = ["disk", "move", "@web", "data", "full/data.qcow2"];
    sandbox.write(&sandbox.path("data.disk"), 6, 0, 8 << 20);
    let left = sandbox.with_little_room(&room, |ran| {
        ran.fails(1).saying("has room for");
    });
    assert_eq!(left, [""; 0]);
    sandbox.assert_reads(&sandbox.path("data.disk"), 6, 0, 8 << 20);
}

#[test]
fn a_disk_is_compacted_and_keeps_its_base_but_never_loses_snapshots() {
    let (sandbox, file) = with_disk();
    sandbox.write(&file, 5, 0, 10 << 20);
    sandbox.write(&file, 0, 2 << 20, 8 << 20);
    let compacted = sandbox.disk("compact", &["data", "--json"]).json();
    let numbers = ["from", "to"].map(|key| compacted[key].as_u64().unwrap());
    assert!(numbers[0] > 9 << 20 && numbers[1] < 3 << 20, "{numbers:?}");
    sandbox.assert_reads(&file, 5, 0, 2 << 20);
    sandbox.assert_reads(&file, 0, 2 << 20, 8 << 20);
    assert_eq!(sandbox.disk_info("data")["made"], true);

    sandbox.images("5M", &["base.qcow2", "over.qcow2"]);
    sandbox.write(&sandbox.path("base.qcow2"), 1, 0, 1 << 20);
    sandbox.disk("attach", &["over", "over.qcow2"]).ok();
    sandbox.write(&sandbox.path("over.qcow2"), 2, 1 << 20, 1 << 20);
    sandbox.disk("compact", &["over"]).ok();
    let over = sandbox.disk_info("over");
    assert_eq!(over["bases"].as_array().unwrap().len(), 1);
    sandbox.assert_reads(&sandbox.path("over.qcow2"), 1, 0, 1 << 20);
    sandbox.assert_reads(&sandbox.path("over.qcow2"), 2, 1 << 20, 1 << 20);

    sandbox.qemu_img(&["snapshot", "-c", "s", file.to_str().unwrap()]);
    sandbox
        .disk("compact", &["data"])
        .fails(1)
        .saying("has 1 snapshot")
        .saying("maqet snapshot rm");
    assert!(sandbox.orphans().is_empty());
}

#[test]
fn a_file_whose_path_has_a_dollar_is_attached() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("d$x")).unwrap();
    sandbox.images("1M", &["d$x/a.qcow2"]);
    sandbox.add_prelaunch("web");
    sandbox.disk("attach", &["a", "d$x/a.qcow2"]).ok();
    let file = sandbox.path("d$x/a.qcow2");
    assert_eq!(sandbox.disk_info("a")["file"], file.to_str().unwrap());
}

#[test]
fn what_a_disk_that_is_a_link_stands_on_is_found_from_where_that_leads_too() {
    let sandbox = Sandbox::new();
    for dir in ["store", "vm"] {
        std::fs::create_dir(sandbox.path(dir)).unwrap();
    }
    let base = sandbox.path("vm/base.qcow2");
    sandbox.images("1M", &["vm/base.qcow2"]);
    let on = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"];
    sandbox.qemu_img(&[&on[..], &[base.to_str().unwrap(), "store/over.qcow2"]].concat());
    std::os::unix::fs::symlink("../store/over.qcow2", sandbox.path("vm/disk.qcow2")).unwrap();
    sandbox.add("web", &["--disk", "vm/disk.qcow2"]);
    let moved = ["disk0", "--moved", base.to_str().unwrap()];
    sandbox.disk("rebase", &moved).ok();
    for name in ["vm/disk.qcow2", "store/over.qcow2"] {
        sandbox.qemu_img(&["info", "--backing-chain", name]);
    }
}

#[test]
fn an_image_that_is_taken_for_raw_is_warned_of() {
    let sandbox = Sandbox::new();
    sandbox.images("1M", &["a.qcow2", "b.qcow2"]);
    sandbox.add("web", &["--disk", "a.qcow2"]);
    let said = "is a qcow2 image, and `format = \"raw\"` has the guest see its inside";
    let raw = ["set", "@web", "disk.disk0.format=raw"];
    sandbox.maqet(&raw).ok().saying("warning: ").saying(said);
    let attach = ["b", "b.qcow2", "format=raw"];
    sandbox.disk("attach", &attach).ok().saying(said);
}

#[test]
fn a_disk_that_is_a_link_stands_on_what_it_stood_on_once_it_is_compacted() {
    let sandbox = Sandbox::new();
    for dir in ["store", "vm"] {
        std::fs::create_dir(sandbox.path(dir)).unwrap();
    }
    let base = sandbox.path("store/base.qcow2");
    sandbox.images("1M", &["store/base.qcow2"]);
    let on = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"];
    sandbox.qemu_img(&[&on[..], &[base.to_str().unwrap(), "store/over.qcow2"]].concat());
    // Not this one, which is beside the link.
    sandbox.images("1M", &["vm/base.qcow2"]);
    std::os::unix::fs::symlink("../store/over.qcow2", sandbox.path("vm/disk.qcow2")).unwrap();
    sandbox.add("web", &["--disk", "vm/disk.qcow2"]);
    for verb in ["compact", "rebase"] {
        let options: &[&str] = match verb {
            "rebase" => &["--moved", "store/base.qcow2"],
            _ => &[],
        };
        sandbox.disk(verb, &[&["disk0"], options].concat()).ok();
        let chain = &sandbox.disk_info("disk0")["chain"];
        assert_eq!(chain[1]["path"], base.to_str().unwrap(), "{chain}");
        sandbox.qemu_img(&["check", "-q", "store/over.qcow2"]);
    }
}

#[test]
fn a_disk_gets_another_base_and_a_base_that_was_moved_is_found_again() {
    let sandbox = Sandbox::new();
    sandbox.images("5M", &["base.qcow2", "over.qcow2"]);
    sandbox.images("5M", &["other.qcow2"]);
    let (base, over) = (sandbox.path("base.qcow2"), sandbox.path("over.qcow2"));
    sandbox.write(&base, 1, 0, 1 << 20);
    sandbox.write(&sandbox.path("other.qcow2"), 9, 0, 2 << 20);
    sandbox.add_lines("web", "[disk.over]\nfile = \"over.qcow2\"");
    sandbox.disk("rebase", &["over", "other.qcow2"]).ok();
    sandbox.assert_reads(&over, 1, 0, 1 << 20);
    sandbox.assert_reads(&over, 0, 1 << 20, 1 << 20);

    // Moved away: nothing is done with it, and it is told how to mend it.
    fs::rename(sandbox.path("other.qcow2"), sandbox.path("moved.qcow2")).unwrap();
    let before = fs::read(&over).unwrap();
    for words in [
        &["resize", "over", "+1M"][..],
        &["compact", "over"],
        &["check", "over"],
        &["map", "over"],
        &["rebase", "over", "--flat"],
        &["move", "over", "x.qcow2"],
    ] {
        sandbox
            .disk(words[0], &words[1..])
            .fails(1)
            .saying("is broken")
            .saying("other.qcow2")
            .saying(&format!(
                "maqet disk rebase {} over --moved",
                sandbox.name("web")
            ));
    }
    assert!(fs::read(&over).unwrap() == before);
    sandbox
        .disk("rebase", &["over", "nope.qcow2", "--moved"])
        .fails(1);
    sandbox
        .disk("rebase", &["over", "moved.qcow2", "--moved"])
        .ok();
    sandbox.assert_reads(&over, 1, 0, 1 << 20);

    sandbox
        .disk("rebase", &["over", "over.qcow2"])
        .fails(1)
        .saying("stands on");
    sandbox.disk("rebase", &["over", "--flat"]).ok();
    assert_eq!(
        sandbox.disk_info("over")["bases"].as_array().unwrap().len(),
        0
    );
    sandbox.assert_reads(&over, 1, 0, 1 << 20);
    sandbox
        .disk("rebase", &["over", "base.qcow2", "--moved"])
        .fails(1)
        .saying("stands on no other");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .disk("rebase", &["over", "base.qcow2"])
        .fails(1)
        .saying("is running");
}

#[test]
fn images_are_checked_mended_and_mapped() {
    use std::os::unix::fs::FileExt;
    let (sandbox, file) = with_disk();
    sandbox.write(&file, 5, 0, 1 << 20);
    let checked = sandbox.disk("check", &["--json"]).json();
    assert_eq!(
        (&checked[0]["corruptions"], &checked[0]["can_be_checked"]),
        (&0.into(), &true.into())
    );
    let mapped = sandbox.disk("map", &["data", "--json"]).json();
    assert_eq!(
        (
            &mapped["extents"][0]["length"],
            &mapped["extents"][0]["data"]
        ),
        (&(1 << 20).into(), &true.into())
    );
    assert_eq!(mapped["extents"][1]["zero"], true);
    sandbox.disk("map", &["data"]).ok().saying("a copy takes");

    // The block of reference counts is the third cluster of a new image.
    let image = fs::OpenOptions::new().write(true).open(&file).unwrap();
    image.write_all_at(&[0; 64], 2 << 16).unwrap();
    let table = sandbox.disk("check", &["data"]).fails(1).stdout;
    assert!(table.contains("damaged"), "{table}");
    sandbox.disk("check", &["data", "--repair"]).ok();
    sandbox.assert_reads(&file, 5, 0, 1 << 20);
    sandbox.disk("check", &["data"]).ok();

    fs::write(&file, "no image").unwrap();
    sandbox
        .disk("check", &["data"])
        .fails(1)
        .saying("it is no qcow2 image");
    sandbox
        .disk("resize", &["data", "+1M"])
        .fails(1)
        .saying("is broken");
    sandbox.maqet(&["start", "@web"]).fails(1);
}

#[test]
fn orphans_and_missing_files_are_told_and_only_what_is_named_is_deleted() {
    let (sandbox, file) = with_disk();
    assert!(sandbox.orphans().is_empty());
    let (mine, other) = (
        sandbox.vm_dir("web").join("mine.img"),
        sandbox.vm_dir("web").join("b"),
    );
    fs::write(&mine, "x").unwrap();
    fs::write(&other, "x").unwrap();
    let base = sandbox.vm_dir("web").join("base.qcow2");
    sandbox.qemu_img(&["create", "-q", "-f", "qcow2", base.to_str().unwrap(), "1M"]);
    sandbox.add_overlay("other", base.to_str().unwrap());
    let found = sandbox.orphans();
    // A base is nobody's orphan.
    assert_eq!(found.len(), 2, "{found:?}");
    let delete = |file: &std::path::Path| {
        sandbox.maqet(&["disk", "orphans", "--delete", file.to_str().unwrap()])
    };
    for kept in [&file, &base, &sandbox.path("other.qcow2")] {
        delete(kept).fails(1).saying("is not among the files");
        assert!(kept.exists());
    }
    delete(&mine).ok().saying("deleted");
    assert!(!mine.exists() && other.exists());

    // A VM that is forgotten leaves its disks, and the one that stands on its base is broken.
    fs::remove_file(&base).unwrap();
    sandbox.maqet(&["rm", "@web"]).ok().saying("kept");
    let orphans = sandbox.maqet(&["disk", "orphans", "--json"]).json();
    assert_eq!(orphans["missing"][0]["disk"], "over");
    assert_eq!(orphans["files"].as_array().unwrap().len(), 2);
    let table = sandbox.maqet(&["disk", "orphans"]).ok().stdout;
    assert!(table.contains("of a VM that is gone"), "{table}");
    delete(&file).ok();
    delete(&other).ok();
    assert!(sandbox.orphans().is_empty());
}

#[test]
fn a_vm_that_is_renamed_takes_its_chains_along_and_none_that_others_stand_on() {
    let (sandbox, file) = with_disk();
    sandbox.write(&file, 5, 0, 1 << 20);
    // Named in full, and from beside it.
    let dir = sandbox.vm_dir("web");
    let [middle, top] = ["middle.qcow2", "top.qcow2"].map(|name| dir.join(name));
    for (base, over) in [(file.to_str().unwrap(), &middle), ("middle.qcow2", &top)] {
        let on = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base];
        sandbox.qemu_img(&[&on[..], &[over.to_str().unwrap()]].concat());
    }
    sandbox.disk("detach", &["data"]).ok();
    sandbox.disk("attach", &["top", top.to_str().unwrap()]).ok();
    sandbox.add_overlay("other", middle.to_str().unwrap());
    sandbox
        .maqet(&["rename", "@web", "@www"])
        .fails(1)
        .saying("is needed: disk `over` of VM");
    sandbox.maqet(&["rm", "@other"]).ok();
    sandbox.maqet(&["rename", "@web", "@www"]).ok();
    let info = sandbox
        .maqet(&["disk", "info", "@www", "top", "--json"])
        .json();
    assert_eq!(info[0]["bases"].as_array().unwrap().len(), 2);
    assert!(info[0]["fault"].is_null());
    sandbox.assert_reads(&sandbox.vm_dir("www").join("top.qcow2"), 5, 0, 1 << 20);
    sandbox.maqet(&["start", "@www"]).ok();
}

#[test]
fn a_disk_that_another_vm_stands_on_outlives_its_vm() {
    let (sandbox, file) = with_disk();
    sandbox.add_overlay("other", file.to_str().unwrap());
    sandbox.images("1M", &["mine.qcow2"]);
    sandbox.disk("attach", &["mine", "mine.qcow2"]).ok();
    sandbox.disk("add", &["free", "--size", "1M"]).ok();
    let removed = sandbox.maqet(&["rm", "@web", "--disks", "--json"]).json();
    assert_eq!(removed["deleted"].as_array().unwrap().len(), 1);
    let kept: Vec<&str> = removed["kept"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file.as_str().unwrap())
        .collect();
    let mine = sandbox.path("mine.qcow2");
    assert_eq!(kept, [file.to_str().unwrap(), mine.to_str().unwrap()]);
    sandbox.maqet(&["start", "@other"]).ok();
}

#[test]
fn a_full_disk_leaves_an_image_as_it_was() {
    let (sandbox, _) = with_disk();
    sandbox.images("20M", &["base.qcow2"]);
    sandbox.write(&sandbox.path("base.qcow2"), 5, 0, 3 << 20);
    // The directory is another one each time: what is in it is made, and judged, there.
    let script = "qemu-img create -q -f qcow2 -F qcow2 -b $PWD/base.qcow2 full/over.qcow2 && \
                  qemu-io -f qcow2 -c 'write -P 6 3M 2M' full/over.qcow2 >/dev/null && \
                  before=$(sha256sum full/over.qcow2)";
    let after = "qemu-img check -q -f qcow2 full/over.qcow2 && \
                 qemu-io -f qcow2 -c 'read -P 5 0 3M' -c 'read -P 6 3M 2M' full/over.qcow2 >said && \
                 ! grep -q failed said";
    sandbox.add_lines(
        "other",
        "[disk.over]\nfile = \"full/over.qcow2\"\nsize = \"1M\"",
    );
    for (words, said) in [
        (&["compact", "@other", "over"][..], "has room for"),
        (&["rebase", "@other", "over", "--flat"], "has room for"),
    ] {
        let args = [&["disk"], words].concat();
        let left = sandbox.with_little_room_after(script, after, &args, |ran| {
            ran.fails(1).saying(said);
        });
        assert_eq!(left, ["over.qcow2", "sound"]);
    }
}

#[test]
fn what_takes_long_is_called_off_by_an_interrupt_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let noise: Vec<u8> = (0..48u32 << 20)
        .map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    fs::write(sandbox.path("big.img"), noise).unwrap();
    let before = sandbox.shown();
    let dir = sandbox.vm_dir("web");
    let is_at_work = || {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.any(|name| name.ends_with(".unfinished"))
    };
    let mut adding = sandbox.spawn(&["disk", "add", "@web", "d", "--from", "big.img"]);
    wait_until("it is at work, or done", || {
        is_at_work() || adding.try_wait().unwrap().is_some()
    });
    signal(adding.id(), libc::SIGINT);
    let ran = Ran::of(adding);
    assert!(!is_at_work());
    assert!(sandbox.orphans().is_empty());
    if ran.status == 0 {
        // It was done before it heard of that.
        assert_clean(&dir.join("d.qcow2"));
    } else {
        assert!(ran.stderr.contains("called off"), "{}", ran.stderr);
        assert_eq!(sandbox.shown(), before);
        sandbox.disk("add", &["d", "--from", "big.img"]).ok();
    }
}

#[test]
fn what_a_command_is_at_work_on_is_no_orphan() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "");
    std::fs::write(sandbox.path("big.raw"), vec![7; 8 << 20]).unwrap();
    let unfinished = || {
        let all = std::fs::read_dir(sandbox.vm_dir("web"))
            .into_iter()
            .flatten();
        let mut names = all.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.any(|name| name.ends_with(".unfinished"))
    };
    // Halted while its image is not finished, which takes some tries.
    loop {
        let mut add = sandbox.spawn(&["disk", "add", "@web", "d", "--from", "big.raw"]);
        while !unfinished() && add.try_wait().unwrap().is_none() {}
        let pid = add.id() as libc::pid_t;
        // SAFETY: it is a child that was not waited for, or there is nobody of that number.
        unsafe { libc::kill(pid, libc::SIGSTOP) };
        let is_halted = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.contains(") T ")
        };
        while add.try_wait().unwrap().is_none() && !is_halted() {}
        let is_met = unfinished() && add.try_wait().unwrap().is_none();
        if is_met {
            assert!(sandbox.orphans().is_empty());
        }
        // SAFETY: as above.
        unsafe { libc::kill(pid, libc::SIGCONT) };
        add.wait().unwrap();
        sandbox.disk("rm", &["d", "--delete"]).ok();
        if is_met {
            break;
        }
    }
}
