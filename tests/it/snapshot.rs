use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::kill;
use crate::sandbox::{Sandbox, signal, wait_until};

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
    create("").fails(1).saying("it is empty");
    create(&"x".repeat(256))
        .fails(1)
        .saying("longer than 255 bytes");
    create("a\nb").fails(1).saying("control characters");
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
fn a_running_vm_s_memory_is_in_its_snapshot_unless_it_is_of_the_disks_alone() {
    let sandbox = two_disks();
    sandbox.maqet(&["start", "@web"]).ok();
    let made = sandbox
        .maqet(&["snapshot", "create", "@web", "all", "--json"])
        .json();
    let memory = made["memory_bytes"].clone();
    assert!(memory.as_u64().unwrap() > 100_000, "{made}");
    let made = sandbox
        .maqet(&[
            "snapshot",
            "create",
            "@web",
            "disks",
            "--disk-only",
            "--json",
        ])
        .json();
    assert_eq!(made["memory_bytes"], Value::Null);
    assert_eq!(sandbox.state("web"), "prelaunch");
    let jobs = sandbox.maqet(&["jobs", "@web", "--json"]).json();
    assert_eq!(jobs.as_array().unwrap().len(), 0, "{jobs}");
    let all = listed(&sandbox);
    assert_eq!(all[0]["memory_bytes"], memory);
    sandbox.maqet(&["snapshot", "rm", "@web", "all"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    for disk in disks(&sandbox) {
        assert_eq!(names(&disk), ["disks"]);
    }
    check(&sandbox);
}

#[test]
fn what_keeps_a_snapshot_from_being_made_is_named_before_anything_is_done() {
    let sandbox = Sandbox::new();
    sandbox.add_lines(
        "web",
        "disk.root.size = '1M'\ndisk.a = { file = 'a.raw', size = '1M' }\n\
         disk.b = { file = 'b.raw', size = '1M', interface = 'scsi' }",
    );
    let create = || {
        sandbox
            .maqet(&["snapshot", "create", "@web", "x"])
            .fails(1)
            .saying("disk `a` is not a qcow2 image")
            .saying("disk `b` is not a qcow2 image")
            .saying("--external")
    };
    create();
    sandbox.maqet(&["start", "@web"]).ok();
    create();
    assert!(listed(&sandbox).is_empty());
}

#[test]
fn a_qemu_that_is_killed_while_it_loads_leaves_the_disks_at_the_snapshot() {
    let sandbox = counting();
    sandbox.maqet(&["snapshot", "create", "@web", "then"]).ok();
    for delay in [0, 20, 50, 100, 200] {
        goes_on(&sandbox);
        let pid = sandbox.pid("web");
        let restore = sandbox.spawn(&["snapshot", "restore", "@web", "then"]);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        signal(pid, libc::SIGKILL);
        crate::sandbox::Ran::of(restore);
        wait_until("QEMU is gone", || sandbox.state("web") != "running");
        // Whether it goes on there or boots, its disk is whole.
        sandbox.maqet(&["start", "@web"]).ok();
        goes_on(&sandbox);
        assert_eq!(listed(&sandbox)[0]["resumes"], false);
    }
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["snapshot", "rm", "@web", "then"]).ok();
    tool(
        "qemu-img",
        &["check", "-q"],
        &sandbox.vm_dir("web").join("data.qcow2"),
    );
}

#[test]
fn a_qemu_that_is_killed_meanwhile_leaves_no_part_of_a_snapshot() {
    let sandbox = two_disks();
    for delay in [0, 5, 20, 50, 100] {
        sandbox.maqet(&["start", "@web"]).ok();
        let pid = sandbox.pid("web");
        let create = sandbox.spawn(&["snapshot", "create", "@web", "x"]);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        signal(pid, libc::SIGKILL);
        let ran = crate::sandbox::Ran::of(create);
        wait_until("QEMU is gone", || sandbox.state("web") != "prelaunch");
        let [root, data] = disks(&sandbox);
        if ran.status == 0 {
            sandbox.maqet(&["snapshot", "rm", "@web", "x"]).ok();
        }
        sandbox.maqet(&["start", "@web"]).ok();
        sandbox.maqet(&["stop", "--force", "@web"]).ok();
        assert!(
            names(&root).is_empty() && names(&data).is_empty(),
            "{}",
            ran.stderr
        );
        check(&sandbox);
    }
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
         append = 'console=ttyS0 quiet probe.write=1'\n{lines}\n",
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
fn a_guest_goes_on_at_a_snapshot_at_once_if_it_runs_and_with_its_next_start_if_not() {
    let sandbox = counting();
    sandbox
        .maqet(&["snapshot", "create", "@web", "then"])
        .ok()
        .saying("with memory");
    goes_on(&sandbox);
    sandbox
        .maqet(&["snapshot", "restore", "@web", "then"])
        .ok()
        .saying("goes on there");
    assert_eq!(sandbox.state("web"), "running");
    goes_on(&sandbox);
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let later = count(&sandbox);

    sandbox
        .maqet(&["snapshot", "restore", "@web", "then"])
        .ok()
        .saying("the next start goes on there");
    let then = count(&sandbox);
    assert!(then < later, "{then} {later}");
    assert_eq!(listed(&sandbox)[0]["resumes"], true);
    // Until then it is of use.
    for args in [
        &["snapshot", "rm", "@web", "then"][..],
        &["snapshot", "create", "@web", "other"],
        &["snapshot", "create", "@web", "other", "--external"],
        &["disk", "resize", "@web", "data", "+1M"],
        &["disk", "detach", "@web", "data"],
        &["disk", "move", "@web", "data", "elsewhere"],
    ] {
        sandbox.maqet(args).fails(1).saying("saved state");
    }
    sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
    assert_eq!(sandbox.state("web"), "running");
    assert!(!has_booted(&sandbox));
    assert_eq!(listed(&sandbox)[0]["resumes"], false);
    goes_on(&sandbox);
    // A crash is none of the snapshot's: the guest boots.
    signal(sandbox.pid("web"), libc::SIGKILL);
    wait_until("it has failed", || sandbox.state("web") == "failed");
    assert!(count(&sandbox) > then);
    sandbox.maqet(&["start", "@web"]).ok().saying("started");
    sandbox.wait_for_console("web", "probe: ready");
}

#[test]
fn a_guest_that_was_paused_is_paused_at_the_snapshot() {
    let sandbox = counting();
    sandbox.maqet(&["pause", "@web"]).ok();
    sandbox
        .maqet(&["snapshot", "create", "@web", "paused"])
        .ok();
    assert_eq!(sandbox.state("web"), "paused");
    sandbox.maqet(&["resume", "@web"]).ok();
    goes_on(&sandbox);
    sandbox
        .maqet(&["snapshot", "restore", "@web", "paused"])
        .ok();
    assert_ne!(sandbox.state("web"), "running");
    sandbox.maqet(&["resume", "@web"]).ok();
    goes_on(&sandbox);
}

#[test]
fn memory_that_does_not_fit_the_machine_is_refused_and_what_differs_is_told() {
    let sandbox = two_disks();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["snapshot", "create", "@web", "ram"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let restore = |options: &[&str]| {
        sandbox.maqet(&[&["snapshot", "restore", "@web", "ram"][..], options].concat())
    };
    sandbox
        .maqet(&[
            "set",
            "@web",
            "memory=128M",
            "labels.a=b",
            "disk.new.size=1M",
        ])
        .ok();
    restore(&[])
        .fails(1)
        .saying("`memory` was 64M and is 128M")
        .saying("it had not the disk")
        .saying("--disk-only");
    restore(&["--disk-only"])
        .ok()
        .saying("new.qcow2 is not in the snapshot");
    sandbox.maqet(&["unset", "@web", "disk.new"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    restore(&[]).fails(1).saying("`memory` was 64M");
    restore(&["--disk-only"]).fails(1).saying("is running");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    // What the guest does not see may differ.
    sandbox.maqet(&["set", "@web", "memory=64M"]).ok();
    restore(&[]).ok().saying("the next start goes on there");
    // It is the start that finds what was changed after that.
    sandbox.maqet(&["set", "@web", "memory=128M"]).ok();
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("`memory` was 64M");
    sandbox.maqet(&["start", "@web", "--discard-saved"]).ok();
    assert_eq!(listed(&sandbox)[0]["resumes"], false);
}

#[test]
fn a_saved_state_is_not_lost_by_a_snapshot() {
    let sandbox = counting();
    sandbox
        .maqet(&["snapshot", "create", "@web", "then", "--disk-only"])
        .ok();
    sandbox.maqet(&["save", "@web"]).ok();
    for verb in ["create", "rm", "restore"] {
        let name = if verb == "create" { "other" } else { "then" };
        let ran = sandbox.maqet(&["snapshot", verb, "@web", name]);
        ran.fails(1)
            .saying("has a saved state")
            .saying("--discard-saved");
    }
    sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
    sandbox
        .maqet(&["snapshot", "restore", "@web", "then"])
        .fails(1)
        .saying("is of the disks alone");
    sandbox.maqet(&["save", "@web"]).ok();
    sandbox
        .maqet(&["snapshot", "restore", "@web", "nosuch", "--discard-saved"])
        .fails(1);
    let image = sandbox.vm_dir("web").join("data.qcow2");
    tool("qemu-img", &["snapshot", "-d", "then"], &image);
    let restore = ["snapshot", "restore", "@web", "then", "--discard-saved"];
    sandbox.maqet(&restore).fails(1).saying("is not whole");
    assert_eq!(sandbox.state("web"), "saved");
    tool("qemu-img", &["snapshot", "-c", "then"], &image);
    sandbox.maqet(&restore).ok();
    assert_eq!(sandbox.state("web"), "stopped");
    sandbox.maqet(&["start", "@web"]).ok().saying("started");
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
    sandbox.maqet(&prune).ok().saying("deleted: `1`, `2`");
    sandbox.maqet(&prune).ok().saying("no snapshot");
    let [root, data] = disks(&sandbox);
    assert_eq!(names(&root), ["mine", "3", "4"]);
    assert_eq!(names(&root), names(&data));
}

/// What the guest agent says of the file systems of `web`.
fn frozen(sandbox: &Sandbox) -> String {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let lock = sandbox.runtime("web").join("agent.lock");
    let lock = std::fs::File::options().write(true).open(lock).unwrap();
    lock.lock().unwrap();
    let mut agent = UnixStream::connect(sandbox.runtime("web").join("agent.sock")).unwrap();
    agent
        .set_read_timeout(Some(crate::sandbox::PATIENCE))
        .unwrap();
    agent
        .write_all(b"{\"execute\":\"guest-fsfreeze-status\"}\n")
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(&agent), &mut line).unwrap();
    let reply: Value = serde_json::from_str(&line).unwrap();
    reply["return"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_guest_that_was_frozen_for_a_snapshot_is_thawed_whatever_becomes_of_the_command() {
    let sandbox = Sandbox::new();
    sandbox.add_debian("web", "ready.level = 'agent'\nready.timeout = '400s'");
    sandbox.maqet(&["start", "@web"]).ok();
    let create = [
        "snapshot",
        "create",
        "@web",
        "x",
        "--disk-only",
        "--quiesce",
    ];
    let calls = kill::count(&sandbox, &create);
    assert_eq!(frozen(&sandbox), "thawed");
    sandbox.maqet(&["snapshot", "rm", "@web", "x"]).ok();
    for point in 0..8 {
        // The guest is frozen in the second half of it.
        let at = calls / 2 + point * (calls / 2) / 8;
        kill::at(&sandbox, at, &create);
        wait_until("the guest is thawed", || frozen(&sandbox) == "thawed");
        sandbox
            .maqet(&["snapshot", "create", "@web", "probe", "--disk-only"])
            .ok();
        sandbox.maqet(&["snapshot", "rm", "@web", "probe"]).ok();
        if listed(&sandbox).iter().any(|it| it["name"] == "x") {
            sandbox.maqet(&["snapshot", "rm", "@web", "x"]).ok();
        }
    }
    // It fails, and the guest does not notice.
    sandbox.maqet(&create).ok();
    sandbox.maqet(&create).fails(1).saying("already");
    assert_eq!(frozen(&sandbox), "thawed");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let image = sandbox.path("root.qcow2");
    assert_eq!(names(&image), ["x"]);
    // What is in it needs no repair.
    tool("qemu-img", &["snapshot", "-a", "x"], &image);
    tool("qemu-img", &["check", "-q"], &image);
}

#[test]
fn a_guest_without_an_agent_is_not_frozen_and_no_snapshot_is_made() {
    let sandbox = two_disks();
    sandbox.maqet(&["start", "@web"]).ok();
    let create = [
        "snapshot",
        "create",
        "@web",
        "x",
        "--disk-only",
        "--quiesce",
    ];
    sandbox
        .maqet(&create)
        .fails(1)
        .saying("no guest agent runs");
    assert!(listed(&sandbox).is_empty());
    sandbox
        .maqet(&["snapshot", "create", "@web", "x", "--quiesce"])
        .fails(2);
}
