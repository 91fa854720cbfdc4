use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::sandbox::{Sandbox, wait_until};

/// Beside images, with overlays.
mod external;
/// With memory and devices.
mod memory;
/// Of a VM that has not all of the disks now.
mod missing;
/// With the guest's file systems frozen.
mod quiesce;
/// Of images that others have, or stand on.
mod shared;

/// A VM `web` whose guest never runs an instruction, with two disks.
fn two_disks() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '4M'\ndisk.data.size = '1M'");
    sandbox
}

fn disks(sandbox: &Sandbox) -> [PathBuf; 2] {
    ["root.qcow2", "data.qcow2"].map(|file| sandbox.vm_dir("web").join(file))
}

/// Runs a tool on an image that no QEMU has open; what it printed.
#[track_caller]
pub fn tool(program: &str, args: &[&str], image: &PathBuf) -> String {
    let output = Command::new(program)
        .args(args)
        .arg(image)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?} {}: {words}{}",
        image.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    words
}

/// The names of the snapshots in an image.
#[track_caller]
fn names(image: &PathBuf) -> Vec<String> {
    let info = tool("qemu-img", &["info", "-U", "--output=json"], image);
    let info: Value = serde_json::from_str(&info).unwrap();
    let all = info["snapshots"].as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Writes a byte over the first 64 KiB of an image that no QEMU has open.
#[track_caller]
pub fn write_as(image: &PathBuf, format: &str, byte: u8) {
    let command = format!("write -P {byte} 0 64k");
    tool("qemu-io", &["-f", format, "-c", &command], image);
}

/// Whether the first 64 KiB of an image are this byte.
#[track_caller]
pub fn reads_as(image: &PathBuf, format: &str, byte: u8) -> bool {
    let pattern = format!("read -P {byte} 0 64k");
    let mut qemu_io = Command::new("qemu-io");
    let qemu_io = qemu_io.args(["-f", format, "-c", &pattern]).arg(image);
    let ran = qemu_io.output().unwrap();
    let words = String::from_utf8_lossy(&ran.stdout);
    assert!(words.contains("64 KiB"), "{words}");
    !words.contains("Pattern verification failed")
}

#[track_caller]
fn write(image: &PathBuf, byte: u8) {
    write_as(image, "qcow2", byte);
}

#[track_caller]
fn reads(image: &PathBuf, byte: u8) -> bool {
    reads_as(image, "qcow2", byte)
}

#[track_caller]
fn check(sandbox: &Sandbox) {
    for disk in disks(sandbox) {
        tool("qemu-img", &["check", "-q"], &disk);
    }
}

/// The snapshots as `ls --json` shows them.
#[track_caller]
pub fn listed(sandbox: &Sandbox) -> Vec<Value> {
    let list = sandbox.maqet(&["snapshot", "ls", "@web", "--json"]).json();
    list.as_array().unwrap().clone()
}

/// A guest that counts on its disk, without end; and booted just now.
fn counting() -> Sandbox {
    counting_on("disk.data.size = '1M'")
}

/// The same with these lines in its definition.
pub fn counting_on(lines: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let guest = crate::sandbox::guests().join("probe");
    let text = format!(
        "memory = '128M'\naccel = 'tcg'\nkernel = '{0}/kernel'\ninitrd = '{0}/initrd'\n\
         append = 'console=ttyS0 quiet cryptomgr.notests probe.write=1'\n{lines}\n",
        guest.display()
    );
    let file = sandbox.path(&format!("{}.toml", sandbox.name("web")));
    std::fs::write(&file, text).unwrap();
    sandbox.maqet(&["add", file.to_str().unwrap()]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    wait_until("the guest counts", || written(&sandbox) > 3);
    sandbox
}

/// How often the guest has written, as QEMU counts.
fn written(sandbox: &Sandbox) -> u64 {
    let stats = sandbox
        .maqet(&["qmp", "@web", "query-blockstats", "--json"])
        .json();
    let all = stats.as_array().unwrap();
    let data = all
        .iter()
        .find(|it| it["qdev"].as_str().is_some_and(|id| id.contains("data")));
    data.unwrap()["stats"]["wr_operations"].as_u64().unwrap()
}

/// Waits until the guest has counted on.
pub fn goes_on(sandbox: &Sandbox) {
    let then = written(sandbox);
    wait_until("the guest counts on", || written(sandbox) > then + 2);
}

/// The number that the guest of a VM that does not run wrote last.
fn count(sandbox: &Sandbox) -> u64 {
    let raw = sandbox.path("data.raw");
    let data = sandbox.vm_dir("web").join("data.qcow2");
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "qcow2", "-O", "raw"])
        .args([&data, &raw])
        .status();
    assert!(status.unwrap().success());
    let digits = std::fs::read(&raw).unwrap();
    let digits: String = digits
        .iter()
        .map(|&byte| char::from(byte))
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap()
}

fn has_booted(sandbox: &Sandbox) -> bool {
    let console = sandbox.maqet(&["logs", "--console", "@web"]).ok().stdout;
    console.contains("probe: ready")
}

#[test]
fn a_stopped_vm_goes_back_to_any_of_its_snapshots() {
    let sandbox = two_disks();
    let [root, data] = disks(&sandbox);
    // None of these is taken for a number or an option.
    for (byte, name) in [
        (1, "2"),
        (2, "1"),
        (3, "-d"),
        (4, "a 'b' \"c\", ä ☃"),
        (5, "last"),
    ] {
        write(&root, byte);
        write(&data, byte);
        let args = [
            "snapshot",
            "create",
            "@web",
            "--description",
            "why",
            "--",
            name,
        ];
        sandbox.maqet(&args).ok().saying("of 2 disks");
    }
    for (byte, name) in [(2, "1"), (4, "a 'b' \"c\", ä ☃"), (1, "2"), (3, "-d")] {
        sandbox
            .maqet(&["snapshot", "restore", "@web", "--", name])
            .ok();
        assert!(reads(&root, byte) && reads(&data, byte), "{name}");
    }
    // The next one comes from where the disks are now.
    sandbox
        .maqet(&["snapshot", "create", "@web", "branch"])
        .ok();
    let all = listed(&sandbox);
    let parent = |name: &str| {
        let found = all.iter().find(|it| it["name"] == name).unwrap();
        found["parent"].as_str().map(str::to_owned)
    };
    assert_eq!(parent("2"), None);
    assert_eq!(parent("1").as_deref(), Some("2"));
    assert_eq!(parent("branch").as_deref(), Some("-d"));
    let table = sandbox.maqet(&["snapshot", "ls", "@web"]).ok().stdout;
    assert!(
        table.contains("\n  1 ") && table.contains("      branch *"),
        "{table}"
    );
    // What came from a snapshot that is deleted came from the one before.
    sandbox.maqet(&["snapshot", "rm", "@web", "--", "1"]).ok();
    let shown = sandbox
        .maqet(&["snapshot", "show", "@web", "--json", "--", "-d"])
        .json();
    assert_eq!(shown["parent"], "2");
    assert!(shown["definition"].as_str().unwrap().contains("disk.data"));
    assert_eq!(
        names(&root),
        ["2", "-d", "a 'b' \"c\", ä ☃", "last", "branch"]
    );
    assert_eq!(names(&root), names(&data));
    check(&sandbox);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let sandbox = two_disks();
    let create = |name: &str| sandbox.maqet(&["snapshot", "create", "@web", name]);
    create("one").ok();
    create("one")
        .fails(1)
        .saying("has a snapshot `one` already");
    create("").fails(2).saying("it is empty");
    create(&"x".repeat(256))
        .fails(2)
        .saying("longer than 255 bytes");
    create("a\nb").fails(2).saying("control characters");
    for verb in ["restore", "rm", "show"] {
        let ran = sandbox.maqet(&["snapshot", verb, "@web", "onne"]).fails(1);
        ran.saying("has no snapshot `onne`")
            .saying("did you mean `one`?");
        sandbox
            .maqet(&["snapshot", verb, "@nobody", "one"])
            .fails(4);
    }
    assert_eq!(listed(&sandbox).len(), 1);
    sandbox.maqet(&["snapshot", "restore", "@web", "one"]).ok();
}

#[test]
fn images_say_which_snapshots_there_are() {
    let sandbox = two_disks();
    let [root, data] = disks(&sandbox);
    sandbox.maqet(&["snapshot", "create", "@web", "ours"]).ok();
    tool("qemu-img", &["snapshot", "-c", "theirs"], &root);
    tool("qemu-img", &["snapshot", "-d", "ours"], &data);
    let all = listed(&sandbox);
    assert_eq!(all[0]["missing"][0], data.to_str().unwrap());
    assert_eq!(
        (&all[1]["name"], &all[1]["is_foreign"]),
        (&"theirs".into(), &true.into())
    );
    sandbox
        .maqet(&["snapshot", "restore", "@web", "ours"])
        .fails(1)
        .saying("is not whole: it is not in")
        .saying("data.qcow2");
    sandbox
        .maqet(&["snapshot", "create", "@web", "theirs"])
        .fails(1)
        .saying("already");
    for name in ["theirs", "ours"] {
        sandbox.maqet(&["snapshot", "rm", "@web", name]).ok();
    }
    assert!(listed(&sandbox).is_empty());
}

#[test]
fn a_snapshot_follows_a_disk_that_is_moved() {
    let sandbox = counting();
    sandbox.maqet(&["snapshot", "create", "@web", "then"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let there = sandbox.path("there.img");
    let there = there.to_str().unwrap();
    sandbox.maqet(&["disk", "move", "@web", "data", there]).ok();
    let list = listed(&sandbox);
    assert_eq!(list[0]["disks"][0], there);
    assert_eq!(list[0]["missing"][0], Value::Null);
    sandbox
        .maqet(&["snapshot", "restore", "@web", "then"])
        .ok()
        .saying("the next start goes on there");
    sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
    goes_on(&sandbox);
}

#[test]
fn an_image_that_is_not_sound_is_named_and_nothing_is_changed() {
    let sandbox = two_disks();
    let [root, data] = disks(&sandbox);
    let away = data.with_extension("away");
    std::fs::rename(&data, &away).unwrap();
    let create = || sandbox.maqet(&["snapshot", "create", "@web", "x"]);
    create().fails(1).saying("data.qcow2 does not exist");
    std::fs::write(&data, "not a qcow2 image").unwrap();
    create()
        .fails(1)
        .saying("it is no qcow2 image")
        .saying("data.qcow2");
    std::fs::remove_file(&data).unwrap();
    let base = ["-u", "-F", "qcow2", "-b", "/nonexistent/base"];
    let status = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .args(base)
        .arg(&data)
        .arg("1M")
        .status();
    assert!(status.unwrap().success());
    create().fails(1).saying("/nonexistent/base");
    assert!(names(&root).is_empty());
}

#[test]
fn an_image_that_cannot_be_written_is_found_before_anything_is_written() {
    let sandbox = two_disks();
    let [root, data] = disks(&sandbox);
    sandbox.maqet(&["snapshot", "create", "@web", "x"]).ok();
    let closed = |is_closed: bool| {
        let mode = if is_closed { 0o444 } else { 0o644 };
        std::fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
    };
    for words in [
        &["snapshot", "create", "@web", "y"][..],
        &["snapshot", "restore", "@web", "x"],
        &["snapshot", "rm", "@web", "x"],
        &["snapshot", "prune", "@web", "--keep", "0"],
    ] {
        write(&root, 7);
        if words[1] == "prune" {
            // Another than that which the VM is at.
            sandbox.maqet(&["snapshot", "create", "@web", "z"]).ok();
        }
        closed(true);
        sandbox
            .maqet(words)
            .fails(1)
            .saying("cannot write")
            .saying(&format!("hint: `chmod u+rw {}`", data.display()));
        assert!(reads(&root, 7), "{words:?}");
        assert_eq!(names(&root), names(&data), "{words:?}");
        assert!(names(&root).contains(&"x".to_owned()), "{words:?}");
        // Nothing is begun: nobody has to be rid of it first.
        sandbox.maqet(&["set", "@web", "cpus=1"]).ok();
        closed(false);
    }
    sandbox.maqet(&["start", "@web"]).ok();
    closed(true);
    sandbox
        .maqet(&["snapshot", "restore", "@web", "x", "--reset"])
        .fails(1)
        .saying("cannot write");
    assert_eq!(sandbox.state("web"), "prelaunch");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    closed(false);
    assert!(reads(&root, 7));
    check(&sandbox);
}

#[test]
fn the_oldest_are_pruned_and_those_that_someone_counts_on_are_not() {
    let sandbox = two_disks();
    for name in ["1", "2", "3", "4"] {
        sandbox.maqet(&["snapshot", "create", "@web", name]).ok();
        if name == "2" {
            let args = [
                "snapshot",
                "create",
                "@web",
                "mine",
                "--description",
                "for good",
            ];
            sandbox.maqet(&args).ok();
        }
    }
    let prune = ["snapshot", "prune", "@web", "--keep", "1"];
    let would = sandbox
        .maqet(&[&prune[..], &["--dry-run"]].concat())
        .ok()
        .stdout;
    assert_eq!(would, "1\n2\n");
    sandbox
        .maqet(&prune)
        .ok()
        .saying("deleted: `1`, `2`")
        .saying("kept `mine`: it has a description")
        .saying("kept `4`: the VM is at it");
    sandbox.maqet(&prune).ok().saying("no snapshot");
    let [root, data] = disks(&sandbox);
    assert_eq!(names(&root), ["mine", "3", "4"]);
    assert_eq!(names(&root), names(&data));
    // What would be refused is not said to be done.
    for verb in ["start", "resume", "save"] {
        sandbox.maqet(&[verb, "@web"]).ok();
    }
    let all = ["snapshot", "prune", "@web", "--keep", "0"];
    for words in [&all[..], &[&all[..], &["--dry-run"]].concat()] {
        let ran = sandbox.maqet(words).fails(1).saying("has a saved state");
        assert_eq!(ran.stdout, "");
    }
    assert_eq!(names(&root), ["mine", "3", "4"]);
}

#[test]
fn a_description_is_shown_whole_and_on_its_line_whatever_is_in_it() {
    let sandbox = two_disks();
    let long = "y".repeat(70_000);
    for (name, text) in [("long", &*long), ("wild", "a\u{1b}[31m\nforged x")] {
        let create = ["snapshot", "create", "@web", name, "--description", text];
        sandbox.maqet(&create).ok();
    }
    let shown = sandbox.maqet(&["snapshot", "ls", "@web"]).ok().stdout;
    assert!(shown.contains(&long));
    assert!(shown.contains("a\\u{1b}[31m\\nforged x"), "{shown:?}");
    assert_eq!(shown.lines().count(), 3);
}
