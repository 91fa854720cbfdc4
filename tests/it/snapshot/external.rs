use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::kill;
use crate::sandbox::{Ran, Sandbox, signal, wait_until};

use super::{counting_on, goes_on, listed, reads_as, tool, write_as};

/// A VM `web` whose guest never runs an instruction, with a qcow2 disk and a raw one.
fn two_kinds() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_lines(
        "web",
        "disk.root.size = '4M'\ndisk.data = { file = 'data.raw', size = '1M' }",
    );
    sandbox
}

/// The images that the disks are now, with their formats.
fn images(sandbox: &Sandbox) -> Vec<(PathBuf, String)> {
    let disks = sandbox.maqet(&["disk", "ls", "@web", "--json"]).json();
    let disks = disks.as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    disks
        .iter()
        .map(|it| (text(&it["file"]).into(), text(&it["format"])))
        .collect()
}

fn write(sandbox: &Sandbox, byte: u8) {
    for (image, format) in images(sandbox) {
        write_as(&image, &format, byte);
    }
}

#[track_caller]
fn reads(sandbox: &Sandbox, byte: u8) -> bool {
    let all: Vec<bool> = images(sandbox)
        .iter()
        .map(|(image, format)| reads_as(image, format, byte))
        .collect();
    assert!(
        all.iter().all(|it| *it == all[0]),
        "the disks are of two moments"
    );
    all[0]
}

/// All images are sound, and there are these and no more.
#[track_caller]
fn check(sandbox: &Sandbox, overlays: usize) {
    let mut found = 0;
    for entry in std::fs::read_dir(sandbox.vm_dir("web")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "qcow2") {
            tool("qemu-img", &["check", "-q"], &path);
            found += 1;
        }
        let name = path.to_string_lossy().into_owned();
        assert!(!name.contains("unfinished"), "{name}");
    }
    assert_eq!(found, 1 + overlays);
}

fn external(sandbox: &Sandbox, name: &str) -> Ran {
    sandbox.maqet(&["snapshot", "create", "@web", name, "--external"])
}

#[test]
fn disks_of_any_format_go_back_to_any_snapshot_beside_them_and_on_from_there() {
    let sandbox = two_kinds();
    write(&sandbox, 1);
    external(&sandbox, "one").ok().saying("of 2 disks");
    external(&sandbox, "one").fails(1).saying("already");
    write(&sandbox, 2);
    external(&sandbox, "two").ok();
    write(&sandbox, 3);
    check(&sandbox, 4);
    for (name, byte) in [("one", 1), ("two", 2), ("two", 2), ("one", 1)] {
        sandbox.maqet(&["snapshot", "restore", "@web", name]).ok();
        assert!(reads(&sandbox, byte), "{name}");
        write(&sandbox, 9);
    }
    sandbox
        .maqet(&["snapshot", "rm", "@web", "one"])
        .fails(1)
        .saying("snapshot merge");
    // Overlays name their images by where they are: those of snapshots, too.
    sandbox.maqet(&["rename", "@web", "@new"]).ok();
    sandbox.maqet(&["rename", "@new", "@web"]).ok();
    // What another one stands on is not written to.
    let merge = |name: &str| sandbox.maqet(&["snapshot", "merge", "@web", name]);
    merge("one").fails(1).saying("snapshot `two` of VM");
    sandbox.maqet(&["snapshot", "restore", "@web", "two"]).ok();
    write(&sandbox, 4);
    merge("two").ok();
    assert!(reads(&sandbox, 4));
    merge("one").ok();
    assert!(reads(&sandbox, 4));
    assert!(images(&sandbox)[1].0.ends_with("data.raw"));
    check(&sandbox, 0);
    merge("one").fails(1).saying("has no snapshot");
    sandbox.maqet(&["rm", "@web", "--disks"]).ok();
    assert!(!sandbox.vm_dir("web").exists());
}

#[test]
fn what_a_snapshot_stands_on_is_no_orphan_and_nobody_writes_it() {
    let sandbox = two_kinds();
    sandbox.add_lines("db", "");
    write(&sandbox, 1);
    external(&sandbox, "one").ok();
    write(&sandbox, 2);
    let before: Vec<_> = images(&sandbox).into_iter().map(|it| it.0).collect();
    external(&sandbox, "two").ok();
    sandbox.maqet(&["snapshot", "restore", "@web", "one"]).ok();
    let orphans = sandbox.maqet(&["disk", "orphans", "--json"]).json();
    assert_eq!(orphans["files"][0], Value::Null, "{orphans}");
    let file = before[0].to_str().unwrap();
    sandbox
        .maqet(&["disk", "attach", "@db", "a", file])
        .fails(1)
        .saying("snapshot `two` of VM")
        .saying("snapshot merge");
    sandbox
        .maqet(&["disk", "rm", "@web", "root", "--delete"])
        .ok();
    sandbox
        .maqet(&["disk", "attach", "@web", "root", file])
        .fails(1)
        .saying("snapshot `two` of VM");
}

#[test]
fn what_is_below_overlays_is_restored_when_those_are_merged_and_says_so() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '4M'");
    let snapshot =
        |verb: &str, words: &[&str]| sandbox.maqet(&[&["snapshot", verb, "@web"], words].concat());
    snapshot("create", &["a"]).ok();
    external(&sandbox, "x")
        .ok()
        .saying("`a` cannot be restored until `x` is merged");
    let y = external(&sandbox, "y").ok();
    assert!(!y.stderr.contains("cannot"), "{}", y.stderr);
    let table = sandbox.maqet(&["snapshot", "ls", "@web"]).ok().stdout;
    assert!(
        table.contains("(to be restored, first merge `y`, then `x`)"),
        "{table}"
    );
    for (verb, words) in [
        ("restore", &["a"][..]),
        ("restore", &["a", "--disk-only"]),
        ("rm", &["a"]),
    ] {
        snapshot(verb, words)
            .fails(1)
            .saying("snapshot `y` of VM")
            .saying(" y` first");
    }
    for name in ["y", "x"] {
        snapshot("merge", &[name]).ok();
    }
    assert_eq!(listed(&sandbox)[0]["is_below"], false);
    snapshot("restore", &["a"]).ok();
    snapshot("rm", &["a"]).ok();
    assert!(listed(&sandbox).is_empty());
}

#[test]
fn what_a_snapshot_lost_its_images_for_is_not_called_restored() {
    let sandbox = two_kinds();
    let snapshot =
        |verb: &str, words: &[&str]| sandbox.maqet(&[&["snapshot", verb, "@web"], words].concat());
    sandbox.maqet(&["disk", "detach", "@web", "data"]).ok();
    snapshot("create", &["a"]).ok();
    let image = sandbox.vm_dir("web").join("root.qcow2");
    sandbox.maqet(&["disk", "detach", "@web", "root"]).ok();
    sandbox
        .maqet(&[
            "disk",
            "add",
            "@web",
            "root",
            "file=new.qcow2",
            "--size",
            "4M",
        ])
        .ok();
    snapshot("restore", &["a", "--disk-only"])
        .fails(1)
        .saying(image.to_str().unwrap());
    snapshot("rm", &["a"]).ok().saying("has it still");
}

#[test]
fn a_snapshot_that_no_disk_stands_on_is_deleted_with_what_was_made_for_it() {
    let sandbox = two_kinds();
    let rm = |name: &str| sandbox.maqet(&["snapshot", "rm", "@web", name]);
    external(&sandbox, "one").ok();
    external(&sandbox, "two").ok();
    rm("one")
        .fails(1)
        .saying("snapshot `two` of VM")
        .saying("snapshot merge");
    sandbox.maqet(&["snapshot", "restore", "@web", "one"]).ok();
    check(&sandbox, 4);
    rm("one").fails(1).saying("disk `root` of VM");
    rm("two").ok();
    check(&sandbox, 2);
    sandbox
        .maqet(&["disk", "rebase", "@web", "root", "--flat"])
        .ok();
    sandbox
        .maqet(&["disk", "rebase", "@web", "data", "--flat"])
        .ok();
    rm("one").ok();
    assert!(!sandbox.vm_dir("web").join("root.qcow2").exists());
    assert!(!sandbox.path("data.raw").exists());
    assert!(listed(&sandbox).is_empty());
}

#[test]
fn what_a_detached_overlay_stands_on_is_kept() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '4M'");
    write(&sandbox, 1);
    external(&sandbox, "one").ok();
    let (overlay, _) = images(&sandbox).remove(0);
    sandbox.maqet(&["disk", "detach", "@web", "root"]).ok();
    let base = sandbox.vm_dir("web").join("root.qcow2");
    let elsewhere = &listed(&sandbox)[0]["elsewhere"];
    assert_eq!(elsewhere[0], base.to_str().unwrap());
    let attach = [
        "disk",
        "attach",
        &sandbox.name("web"),
        "root",
        overlay.to_str().unwrap(),
    ];
    for verb in ["restore", "merge"] {
        sandbox
            .maqet(&["snapshot", verb, "@web", "one"])
            .fails(1)
            .saying("it has no disk `root` any more")
            .saying(&format!("`maqet {}`", attach.join(" ")));
    }
    sandbox
        .maqet(&["snapshot", "rm", "@web", "one"])
        .fails(1)
        .saying(overlay.to_str().unwrap())
        .saying("disk orphans --delete");
    sandbox
        .maqet(&["rm", "@web", "--disks"])
        .ok()
        .saying("kept");
    assert!(reads_as(&overlay, "qcow2", 1));
    let delete = ["disk", "orphans", "--delete", overlay.to_str().unwrap()];
    sandbox.maqet(&delete).ok();
    let orphans = sandbox.maqet(&["disk", "orphans", "--json"]).json();
    let below = sandbox.vm_dir("web").join("root.qcow2");
    assert_eq!(orphans["files"][0]["file"], below.to_str().unwrap());
}

#[test]
fn a_disk_that_was_made_smaller_above_a_snapshot_is_as_small_when_that_is_merged() {
    let sandbox = two_kinds();
    let sizes = || {
        let disks = sandbox.maqet(&["disk", "ls", "@web", "--json"]).json();
        let disks = disks.as_array().unwrap().iter();
        disks
            .map(|it| it["virtual_size"].as_u64().unwrap() >> 10)
            .collect::<Vec<_>>()
    };
    for runs in [false, true] {
        external(&sandbox, "one").ok();
        for (disk, size) in [("root", "1M"), ("data", "512K")] {
            let args = ["disk", "resize", "@web", disk, size, "--shrink"];
            sandbox.maqet(&args).ok();
        }
        if runs {
            sandbox.maqet(&["start", "@web"]).ok();
        }
        sandbox.maqet(&["snapshot", "merge", "@web", "one"]).ok();
        assert_eq!(sizes(), [1024, 512]);
        if runs {
            sandbox.maqet(&["stop", "--force", "@web"]).ok();
            assert_eq!(sizes(), [1024, 512]);
        }
        for (disk, size) in [("root", "4M"), ("data", "1M")] {
            sandbox.maqet(&["disk", "resize", "@web", disk, size]).ok();
        }
    }
    check(&sandbox, 0);
}

#[test]
fn a_disk_that_was_only_plugged_is_in_the_way_and_can_be_unplugged() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '4M'");
    sandbox.maqet(&["start", "@web"]).ok();
    let extra = sandbox.path("extra.qcow2");
    let create = ["create", "-q", "-f", "qcow2"];
    let mut qemu_img = Command::new("qemu-img");
    let ran = qemu_img.args(create).arg(&extra).arg("1M");
    assert!(ran.status().unwrap().success());
    let file = format!("file={}", extra.display());
    let add = ["device", "add", "@web", "disk.extra", &file];
    sandbox
        .maqet(&[&add[..], &["interface=scsi"]].concat())
        .ok();
    let rm = format!("`maqet device rm {} disk-extra`", sandbox.name("web"));
    external(&sandbox, "x")
        .fails(1)
        .saying("extra.qcow2 is not in its definition")
        .saying(&rm);
    sandbox.maqet(&["device", "rm", "@web", "disk-extra"]).ok();
    external(&sandbox, "x").ok();
}

#[test]
fn a_snapshot_within_an_overlay_keeps_that_from_being_given_up() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '4M'");
    external(&sandbox, "one").ok();
    sandbox
        .maqet(&["snapshot", "create", "@web", "within"])
        .ok();
    let restore = || sandbox.maqet(&["snapshot", "restore", "@web", "one"]);
    let rm = format!("`maqet snapshot rm {} within`", sandbox.name("web"));
    restore()
        .fails(1)
        .saying("snapshot `within` is within")
        .saying(&rm);
    sandbox.maqet(&["snapshot", "rm", "@web", "within"]).ok();
    restore().ok();
    check(&sandbox, 1);
}

#[test]
fn going_back_leaves_no_image_behind_and_takes_none_that_it_did_not_make() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '4M'");
    external(&sandbox, "one").ok();
    // Its overlay is what two stand on then, and the other one goes.
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["clone", "@web", "@db"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["rm", "@db", "--disks"]).ok();
    let restore = || sandbox.maqet(&["snapshot", "restore", "@web", "one"]);
    restore().ok();
    check(&sandbox, 1);
    // A disk that only has its name.
    sandbox.maqet(&["disk", "detach", "@web", "root"]).ok();
    let add = [
        "disk",
        "add",
        "@web",
        "root",
        "--size",
        "1M",
        "file=other.qcow2",
    ];
    sandbox.maqet(&add).ok();
    restore().fails(1).saying("other.qcow2 now");
    assert!(images(&sandbox)[0].0.ends_with("other.qcow2"));
}

#[test]
fn a_running_vm_goes_back_to_disks_by_a_reset_and_only_then() {
    let sandbox = two_kinds();
    let iso = sandbox.path("cd.iso");
    std::fs::write(&iso, [0; 4096]).unwrap();
    let restore = |name: &str, words: &[&str]| {
        sandbox.maqet(&[&["snapshot", "restore", "@web", name], words].concat())
    };
    write(&sandbox, 1);
    external(&sandbox, "one").ok();
    write(&sandbox, 2);
    let cd = format!("disk.cd.file={}", iso.display());
    let set = ["set", "@web", &cd, "disk.cd.read-only=true"];
    sandbox.maqet(&set).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    let pid = sandbox.pid("web");
    restore("one", &[])
        .fails(1)
        .saying("is running")
        .saying("`--reset`");
    // What is in the way is found before.
    let create = ["snapshot", "create", "@web", "other", "--external"];
    sandbox.maqet(&create).ok();
    let image = images(&sandbox)[0].0.clone();
    std::fs::rename(sandbox.path("data.raw"), sandbox.path("away")).unwrap();
    restore("one", &["--reset"]).fails(1).saying("is gone");
    std::fs::rename(sandbox.path("away"), sandbox.path("data.raw")).unwrap();
    assert_eq!(
        (sandbox.pid("web"), images(&sandbox)[0].0.clone()),
        (pid, image)
    );
    let restored = restore("one", &["--reset", "--json"]).json();
    assert_eq!(restored["goes_on"], "booted");
    assert_ne!(sandbox.pid("web"), pid);
    assert_eq!(sandbox.state("web"), "prelaunch");
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    // It is there, whether it can be started again or not.
    std::fs::remove_file(iso).unwrap();
    restore("other", &["--reset"])
        .fails(1)
        .saying("is at snapshot `other`, and is off")
        .saying("cd.iso");
    sandbox.maqet(&["unset", "@web", "disk.cd"]).ok();
    assert!(reads(&sandbox, 2));
    restore("one", &["--reset"]).ok();
    assert!(reads(&sandbox, 1));
}

#[test]
fn a_snapshot_below_an_overlay_is_there_until_that_is_merged() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '4M'");
    sandbox.maqet(&["snapshot", "create", "@web", "first"]).ok();
    external(&sandbox, "one").ok();
    let rm = || sandbox.maqet(&["snapshot", "rm", "@web", "first"]);
    rm().fails(1)
        .saying("stands on it")
        .saying("snapshot merge");
    let prune = ["snapshot", "prune", "@web", "--keep", "0"];
    sandbox
        .maqet(&prune)
        .ok()
        .saying("no snapshot")
        .saying("kept `first`: it is in images below")
        .saying("kept `one`: it is external");
    sandbox.maqet(&["snapshot", "merge", "@web", "one"]).ok();
    rm().ok();
    let images = images(&sandbox);
    let within = tool("qemu-img", &["snapshot", "-l"], &images[0].0);
    assert!(!within.contains("first"), "{within}");
}

#[test]
fn an_overlay_that_is_moved_is_the_snapshot_s_as_before() {
    let sandbox = two_kinds();
    write(&sandbox, 1);
    external(&sandbox, "one").ok();
    write(&sandbox, 2);
    std::fs::create_dir(sandbox.path("out")).unwrap();
    let to = sandbox.path("out/root.img");
    let args = ["disk", "move", "@web", "root", to.to_str().unwrap()];
    sandbox.maqet(&args).ok();
    sandbox.maqet(&["snapshot", "restore", "@web", "one"]).ok();
    assert!(reads(&sandbox, 1));
    assert!(!to.exists(), "what was written since is gone");
    check(&sandbox, 2);
    sandbox.maqet(&args).ok();
    sandbox.maqet(&["snapshot", "merge", "@web", "one"]).ok();
    assert!(!to.exists());
    check(&sandbox, 0);
}

#[test]
fn a_running_guest_goes_on_in_the_overlay_and_a_restart_finds_it_there() {
    let sandbox = counting_on("disk.data.size = '1M'\nunit.Restart = 'on-failure'");
    external(&sandbox, "then").ok();
    goes_on(&sandbox);
    let diff = sandbox.maqet(&["diff", "@web"]).ok().stdout;
    assert_eq!(diff, "", "what runs is what is defined");
    let images_now = images(&sandbox);
    // A crash, and systemd starts it again.
    let pid = sandbox.pid("web");
    signal(pid, libc::SIGKILL);
    wait_until("it runs again", || {
        let now = sandbox.pid("web");
        now != pid && now != 0 && sandbox.state("web") == "running"
    });
    assert_eq!(images(&sandbox), images_now);
    sandbox.wait_for_console("web", "probe: ready");
    goes_on(&sandbox);
    sandbox.maqet(&["snapshot", "merge", "@web", "then"]).ok();
    goes_on(&sandbox);
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    assert!(listed(&sandbox).is_empty());
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    check(&sandbox, 0);
}

#[test]
fn a_qemu_that_is_killed_while_it_merges_loses_nothing() {
    let sandbox = counting_on("disk.data.size = '1M'");
    for delay in [0, 10, 30, 60, 100] {
        external(&sandbox, "then").ok();
        goes_on(&sandbox);
        let pid = sandbox.pid("web");
        let merge = sandbox.spawn(&["snapshot", "merge", "@web", "then"]);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        signal(pid, libc::SIGKILL);
        Ran::of(merge);
        wait_until("QEMU is gone", || sandbox.state("web") != "running");
        sandbox.maqet(&["start", "@web"]).ok();
        goes_on(&sandbox);
        if !listed(&sandbox).is_empty() {
            sandbox.maqet(&["snapshot", "merge", "@web", "then"]).ok();
        }
    }
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let image = sandbox.vm_dir("web").join("data.qcow2");
    let status = Command::new("qemu-img")
        .args(["check", "-q", "-r", "leaks"])
        .arg(&image)
        .status();
    assert!(status.unwrap().success());
    assert!(Path::new(&image).exists());
}

#[test]
fn nothing_is_merged_into_images_one_of_which_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    for runs in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.add_lines("web", "disk.data.size = '1M'\ndisk.root.size = '4M'");
        let root = sandbox.vm_dir("web").join("root.qcow2");
        if runs {
            sandbox.maqet(&["start", "@web"]).ok();
        }
        external(&sandbox, "x").ok();
        let chmod = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&root, mode).unwrap();
        };
        chmod(0o444);
        let merge = ["snapshot", "merge", "@web", "x"];
        sandbox.maqet(&merge).fails(1).saying("chmod u+rw");
        // It is none that is merged in part.
        let all = sandbox.maqet(&["snapshot", "ls", "@web"]).ok().stdout;
        assert!(!all.contains("merged"), "{all}");
        chmod(0o644);
        sandbox.maqet(&merge).ok();
    }
}

#[test]
fn a_snapshot_that_was_cut_short_is_listed_as_unfinished() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '4M'");
    let create = ["snapshot", "create", "@web", "x"];
    let calls = kill::count(&sandbox, &create);
    let mut seen = 0;
    for at in 1..=calls {
        // It settles what is left, and may find nothing then.
        let _ = sandbox.maqet(&["snapshot", "rm", "@web", "x"]);
        kill::at(&sandbox, at, &create);
        let all = sandbox.maqet(&["snapshot", "ls", "@web", "--json"]).json();
        for it in all.as_array().unwrap() {
            assert_eq!(it["is_foreign"], false, "{at}: {it}");
            seen += usize::from(it["is_unfinished"] == true);
        }
    }
    assert!(seen > 0);
}
