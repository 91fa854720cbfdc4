use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox, signal, wait_until};

/// A VM `web` whose guest never runs an instruction, with a qcow2 and a raw disk and a
/// medium for reading.
fn three_disks() -> Sandbox {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("medium.iso"), [7; 4096]).unwrap();
    sandbox.add_lines(
        "web",
        "description = 'one'\nprotect = true\nlabels.env = 'ci'\n\
         net.lan.mac = '52:54:00:12:34:56'\n\
         disk.root.size = '4M'\n\
         disk.data = { file = 'data.raw', size = '2M' }\n\
         disk.medium = { file = 'medium.iso', interface = 'cdrom' }",
    );
    sandbox
}

/// Runs a tool on images that no QEMU has open; what it printed.
#[track_caller]
fn tool(program: &str, args: &[&str], image: &Path) -> String {
    let output = Command::new(program).args(args).arg(image).output();
    let output = output.unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?} {}: {words}{complaint}",
        image.display()
    );
    words
}

impl Sandbox {
    /// The image of a VM's disk, and its format, by its definition.
    #[track_caller]
    fn disk_image(&self, vm: &str, disk: &str) -> (PathBuf, String) {
        let list = self.maqet(&["disk", "ls", vm, "--json"]).json();
        let found = list.as_array().unwrap().iter();
        let found = found.clone().find(|it| it["disk"] == disk).unwrap();
        assert_eq!(found["fault"], Value::Null, "{found}");
        let text = |key: &str| found[key].as_str().unwrap().to_owned();
        (text("file").into(), text("format"))
    }

    /// Writes a byte over a part of a disk of a VM that does not run.
    #[track_caller]
    fn fill(&self, vm: &str, disk: &str, byte: u8, at: &str) {
        let (image, format) = self.disk_image(vm, disk);
        let pattern = format!("write -P {byte} {at} 64k");
        tool("qemu-io", &["-f", &format, "-c", &pattern], &image);
    }

    /// Whether a part of a disk is this byte.
    #[track_caller]
    fn is_filled(&self, vm: &str, disk: &str, byte: u8, at: &str) -> bool {
        let (image, format) = self.disk_image(vm, disk);
        let pattern = format!("read -P {byte} {at} 64k");
        let mut qemu_io = Command::new("qemu-io");
        let args = ["-r", "-U", "-f", &format, "-c", &pattern];
        let ran = qemu_io.args(args).arg(&image).output().unwrap();
        let words = String::from_utf8_lossy(&ran.stdout);
        assert!(words.contains("64 KiB"), "{words} {ran:?}");
        !words.contains("Pattern verification failed")
    }

    /// Checks all qcow2 images of VMs.
    #[track_caller]
    fn check_all(&self) {
        for dir in std::fs::read_dir(self.path("data/maqet/vms")).unwrap() {
            for file in std::fs::read_dir(dir.unwrap().path()).unwrap() {
                let file = file.unwrap().path();
                if file.extension().is_some_and(|suffix| suffix == "qcow2") {
                    tool("qemu-img", &["check", "-q", "-U"], &file);
                }
            }
        }
    }

    /// What a VM's directory has that it should not have.
    fn unfinished(&self, vm: &str) -> Vec<String> {
        let files = std::fs::read_dir(self.vm_dir(vm)).into_iter().flatten();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("unfinished")).collect()
    }

    fn has_vm(&self, vm: &str) -> bool {
        self.maqet(&["show", vm]).status == 0
    }
}

#[test]
fn a_clone_and_its_source_have_the_same_disks_and_then_each_its_own() {
    let sandbox = three_disks();
    sandbox.fill("@web", "root", 1, "0");
    sandbox.fill("@web", "data", 2, "0");
    let made = sandbox.maqet(&["clone", "@web", "@new", "--json"]).json();
    assert_eq!(made["disks"].as_array().unwrap().len(), 3, "{made}");
    for (disk, byte) in [("root", 1), ("data", 2)] {
        assert!(sandbox.is_filled("@new", disk, byte, "0"), "{disk}");
        sandbox.fill("@web", disk, 3, "0");
        sandbox.fill("@new", disk, 4, "0");
        assert!(sandbox.is_filled("@web", disk, 3, "0"), "{disk}");
        assert!(sandbox.is_filled("@new", disk, 4, "0"), "{disk}");
    }
    assert_eq!(
        sandbox.disk_image("@new", "medium").0,
        sandbox.path("medium.iso")
    );
    // Both run at the same time.
    for vm in ["@web", "@new"] {
        sandbox.maqet(&["start", vm]).ok();
    }
    for vm in ["@web", "@new"] {
        sandbox.maqet(&["stop", "--force", vm]).ok();
    }
    sandbox.check_all();
}

#[test]
fn a_clone_is_someone_else() {
    let sandbox = three_disks();
    sandbox
        .maqet(&["clone", "@web", "@new", "--set", "memory=96M"])
        .ok();
    let text = |vm: &str| sandbox.maqet(&["show", vm]).ok().stdout;
    let (web, new) = (text("@web"), text("@new"));
    for kept in ["description = 'one'", "labels.env = 'ci'", "disk.medium"] {
        assert!(new.contains(kept), "{kept}: {new}");
    }
    for dropped in ["protect", "52:54:00:12:34:56"] {
        assert!(web.contains(dropped) && !new.contains(dropped), "{new}");
    }
    assert!(new.contains("memory = \"96M\"") && web.contains("memory = \"64M\""));
    let argv = |vm: &str| sandbox.maqet(&["show", "--argv", vm]).ok().stdout;
    let word = |vm: &str, option: &str| {
        let argv = argv(vm);
        let at = argv.find(option).unwrap();
        argv[at..].split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_ne!(word("@web", "-uuid"), word("@new", "-uuid"));
    assert!(argv("@web").contains("mac=52:54:00:12:34:56"));
    assert!(!argv("@new").contains("mac=52:54:00:12:34:56"));
}

#[test]
fn a_base_is_not_written_deleted_or_moved_as_long_as_someone_stands_on_it() {
    let sandbox = three_disks();
    sandbox.maqet(&["unset", "@web", "protect"]).ok();
    sandbox.fill("@web", "root", 1, "0");
    let (base, _) = sandbox.disk_image("@web", "root");
    sandbox.maqet(&["clone", "@web", "@new"]).ok();
    // A definition of before is not what it was.
    let file = format!("disk.root.file={}", base.display());
    sandbox
        .maqet(&["set", "@web", &file])
        .fails(2)
        .saying("root.qcow2: disk `root` of VM")
        .saying("stands on it");
    sandbox
        .try_lines("third", &format!("disk.a.file = '{}'", base.display()))
        .fails(1)
        .saying("stands on it");
    sandbox
        .maqet(&["rename", "@web", "@renamed"])
        .fails(1)
        .saying("is needed: disk `root` of VM");
    sandbox.maqet(&["rename", "@new", "@clone"]).ok();
    assert!(sandbox.is_filled("@clone", "root", 1, "0"));
    let removed = sandbox.maqet(&["rm", "@web", "--disks"]).ok();
    removed.saying("kept").saying("root.1.qcow2");
    assert!(sandbox.is_filled("@clone", "root", 1, "0"));
    // The last one takes it along.
    let removed = sandbox.maqet(&["rm", "@clone", "--disks"]).ok();
    removed.saying("deleted");
    assert!(!base.exists());
    assert!(!sandbox.path("data.raw").exists(), "maqet made it");
}

#[test]
fn a_source_can_be_renamed_when_its_clones_are_gone() {
    let sandbox = three_disks();
    sandbox.fill("@web", "root", 1, "0");
    sandbox.maqet(&["clone", "@web", "@new"]).ok();
    sandbox.maqet(&["rm", "@new", "--disks"]).ok();
    sandbox.maqet(&["rename", "@web", "@renamed"]).ok();
    assert!(sandbox.is_filled("@renamed", "root", 1, "0"));
}

#[test]
fn a_clone_of_what_has_not_changed_needs_no_further_layer() {
    let sandbox = three_disks();
    sandbox.fill("@web", "root", 1, "0");
    sandbox.maqet(&["clone", "@web", "@a"]).ok();
    let root = sandbox.disk_image("@web", "root");
    sandbox.maqet(&["clone", "@web", "@b"]).ok();
    sandbox.maqet(&["clone", "@b", "@c"]).ok();
    assert_eq!(sandbox.disk_image("@web", "root"), root);
    assert_eq!(
        sandbox.disk_image("@b", "root").0,
        sandbox.vm_dir("b").join("root.qcow2")
    );
    sandbox.fill("@b", "root", 2, "64k");
    sandbox.maqet(&["clone", "@b", "@d"]).ok();
    for (vm, has) in [("@a", false), ("@c", false), ("@b", true), ("@d", true)] {
        assert!(sandbox.is_filled(vm, "root", 1, "0"), "{vm}");
        assert_eq!(sandbox.is_filled(vm, "root", 2, "64k"), has, "{vm}");
    }
    sandbox.check_all();
}

#[test]
fn a_clone_that_makes_no_sense_changes_nothing() {
    let sandbox = three_disks();
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    let clone = |new: &str| sandbox.maqet(&["clone", "@web", new]);
    clone("@web").fails(1).saying("there is a VM");
    sandbox.maqet(&["clone", "@nobody", "@new"]).fails(4);
    std::fs::create_dir_all(sandbox.vm_dir("new")).unwrap();
    let left = sandbox.vm_dir("new").join("root.qcow2");
    std::fs::write(&left, "someone's").unwrap();
    clone("@new").fails(1).saying("root.qcow2 is there already");
    assert_eq!(std::fs::read_to_string(&left).unwrap(), "someone's");
    sandbox
        .maqet(&["clone", "@web", "@other", "--set", "cpus=0"])
        .fails(2)
        .saying("--set cpus=0: ");
    sandbox.maqet(&["snapshot", "ls", "@web"]).ok();
    let root = sandbox.disk_image("@web", "root").0;
    tool("qemu-img", &["snapshot", "-c", "mine"], &root);
    clone("@other")
        .fails(1)
        .saying("has 1 snapshot in its image");
    tool("qemu-img", &["snapshot", "-d", "mine"], &root);
    std::fs::rename(sandbox.path("data.raw"), sandbox.path("away")).unwrap();
    clone("@other").fails(1).saying("data.raw");
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    assert!(!sandbox.has_vm("@other") && !sandbox.vm_dir("other").exists());
}

#[test]
fn a_running_vm_goes_on_while_it_is_cloned() {
    let sandbox = three_disks();
    sandbox.fill("@web", "root", 1, "0");
    sandbox.fill("@web", "data", 2, "0");
    sandbox.maqet(&["start", "@web"]).ok();
    let pid = sandbox.pid("web");
    let write = |byte| write_live(&sandbox, "@web", "root", byte, "64k");
    write(3);
    sandbox.maqet(&["clone", "@web", "@a"]).ok();
    let (image, _) = sandbox.disk_image("@web", "root");
    assert_eq!(image, sandbox.vm_dir("web").join("root.1.qcow2"));
    write(4);
    sandbox.maqet(&["clone", "@web", "@b"]).ok();
    // They can run at once.
    for vm in ["@a", "@b"] {
        sandbox.maqet(&["start", vm]).ok();
        sandbox.maqet(&["stop", "--force", vm]).ok();
    }
    assert_eq!(sandbox.pid("web"), pid);
    let waiting = sandbox.maqet(&["diff", "@web", "--json"]).json();
    assert!(!waiting.to_string().contains("disk"), "{waiting}");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    for (vm, byte) in [("@a", 3), ("@b", 4), ("@web", 4)] {
        assert!(sandbox.is_filled(vm, "root", 1, "0"), "{vm}");
        assert!(sandbox.is_filled(vm, "data", 2, "0"), "{vm}");
        assert!(sandbox.is_filled(vm, "root", byte, "64k"), "{vm}");
    }
    sandbox.check_all();
    sandbox.maqet(&["start", "@web"]).ok();
}

#[test]
fn a_disk_that_is_unplugged_takes_its_layers_along() {
    let sandbox = Sandbox::new();
    sandbox.add_lines(
        "web",
        "disk.root.size = '4M'\ndisk.usb = { size = '1M', interface = 'usb' }",
    );
    sandbox.maqet(&["start", "@web"]).ok();
    for new in ["@a", "@b"] {
        sandbox.maqet(&["clone", "@web", new]).ok();
    }
    sandbox.maqet(&["device", "rm", "@web", "disk.usb"]).ok();
    let nodes = sandbox
        .maqet(&["qmp", "@web", "query-named-block-nodes", "flat=true"])
        .json();
    assert!(!nodes.to_string().contains("disk-usb"), "{nodes}");
}

#[test]
fn a_full_clone_stands_on_nothing() {
    let sandbox = three_disks();
    sandbox.fill("@web", "root", 1, "0");
    sandbox.fill("@web", "data", 2, "0");
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    sandbox.maqet(&["clone", "@web", "@new", "--full"]).ok();
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    let root = sandbox.vm_dir("new").join("root.qcow2");
    let data = sandbox.vm_dir("new").join("data.raw");
    assert_eq!(sandbox.disk_image("@new", "root"), (root, "qcow2".into()));
    assert_eq!(sandbox.disk_image("@new", "data"), (data, "raw".into()));
    let removed = sandbox.maqet(&["clone", "@new", "@link"]).ok();
    removed.saying("goes on in");
    for vm in ["@new", "@link"] {
        assert!(sandbox.is_filled(vm, "root", 1, "0"), "{vm}");
        assert!(sandbox.is_filled(vm, "data", 2, "0"), "{vm}");
    }
    // A copy of what is on top of others has all of it.
    sandbox.maqet(&["clone", "@link", "@whole", "--full"]).ok();
    let list = sandbox.maqet(&["disk", "ls", "@whole", "--json"]).json();
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .all(|it| it["bases"] == serde_json::json!([]))
    );
    assert!(sandbox.is_filled("@whole", "root", 1, "0"));
    sandbox.check_all();
}

/// Writes a byte to a part of a disk of a running VM, where its guest would.
pub fn write_live(sandbox: &Sandbox, vm: &str, disk: &str, byte: u8, at: &str) {
    let device = format!("/machine/peripheral/disk-{disk}/virtio-backend");
    let command = format!("qemu-io -d {device} \"write -P {byte} {at} 64k\"");
    let said = sandbox.maqet(&["hmp", vm, &command]).ok().stdout;
    assert_eq!(said.trim(), "");
}

#[test]
fn a_full_clone_of_a_running_vm_is_of_one_moment_and_the_vm_goes_on() {
    let sandbox = Sandbox::new();
    sandbox.add_lines(
        "web",
        "disk.root = { size = '4M', iothread = true }\n\
         disk.data = { file = 'data.raw', size = '2049k', limits.bps = '1G' }",
    );
    sandbox.fill("@web", "root", 1, "0");
    sandbox.maqet(&["start", "@web"]).ok();
    let pid = sandbox.pid("web");
    // It stands on another image by then.
    sandbox.maqet(&["clone", "@web", "@link"]).ok();
    for disk in ["root", "data"] {
        write_live(&sandbox, "@web", disk, 2, "64k");
    }
    let made = ["clone", "@web", "@new", "--full", "--json"];
    let made = sandbox.maqet(&made).json();
    assert_eq!(made["disks"][0]["how"], "copied", "{made}");
    for disk in ["root", "data"] {
        write_live(&sandbox, "@web", disk, 3, "64k");
    }
    assert_eq!(sandbox.pid("web"), pid);
    // QEMU has nothing more to do with it.
    let jobs = sandbox.maqet(&["jobs", "@web", "--json"]).json();
    assert_eq!(jobs, serde_json::json!([]));
    let nodes = ["qmp", "@web", "query-named-block-nodes", "flat=true"];
    let nodes = sandbox.maqet(&nodes).json().to_string();
    assert!(!nodes.contains(sandbox.vm_dir("new").to_str().unwrap()));
    sandbox.maqet(&["start", "@new"]).ok();
    sandbox.maqet(&["stop", "--force", "@new", "@web"]).ok();
    for disk in ["root", "data"] {
        assert!(sandbox.is_filled("@new", disk, 2, "64k"), "{disk}");
        assert!(sandbox.is_filled("@web", disk, 3, "64k"), "{disk}");
    }
    assert!(sandbox.is_filled("@new", "root", 1, "0"));
    let list = sandbox.maqet(&["disk", "ls", "@new", "--json"]).json();
    for disk in list.as_array().unwrap() {
        assert_eq!(disk["bases"], serde_json::json!([]));
        // What nobody has written takes up no room.
        assert!(disk["actual_size"].as_u64().unwrap() < 1 << 20, "{disk}");
    }
    sandbox.check_all();
}

/// Waits until a clone has begun to copy, or has been quicker than that was seen.
#[track_caller]
fn wait_until_it_copies(sandbox: &Sandbox, new: &str, clone: &mut Child) {
    wait_until("it copies", || {
        !sandbox.unfinished(new).is_empty() || clone.try_wait().unwrap().is_some()
    });
}

/// Calls off a command, unless it has ended: its number may be another's by then.
fn interrupt(command: &mut Child) {
    if command.try_wait().unwrap().is_none() {
        signal(command.id(), libc::SIGINT);
    }
}

#[test]
fn a_full_clone_of_a_vm_that_ends_meanwhile_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root = { file = 'root.raw', size = '256M' }");
    let image = sandbox.path("root.raw");
    tool("qemu-io", &["-f", "raw", "-c", "write -P 1 0 256M"], &image);
    for ends in [true, false] {
        sandbox.maqet(&["start", "@web"]).ok();
        let mut clone = sandbox.spawn(&["clone", "@web", "@new", "--full"]);
        wait_until_it_copies(&sandbox, "new", &mut clone);
        match ends {
            true => signal(sandbox.pid("web"), libc::SIGKILL),
            false => interrupt(&mut clone),
        }
        let ran = Ran::of(clone);
        // It may have been quicker.
        if ran.status == 0 {
            sandbox.maqet(&["rm", "@new", "--disks"]).ok();
        }
        assert!(!sandbox.has_vm("@new"), "{}", ran.stderr);
        assert!(!sandbox.vm_dir("new").exists(), "{}", ran.stderr);
        if !ends {
            let jobs = sandbox.maqet(&["jobs", "@web", "--json"]).json();
            assert_eq!(jobs, serde_json::json!([]), "{}", ran.stderr);
        }
    }
    sandbox.maqet(&["clone", "@web", "@new", "--full"]).ok();
}

#[test]
fn a_full_clone_can_be_of_a_snapshot() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '4M'");
    sandbox.fill("@web", "root", 1, "0");
    // None of these is taken for a number.
    for name in ["2", "1"] {
        sandbox.maqet(&["snapshot", "create", "@web", name]).ok();
        sandbox.fill("@web", "root", 5 + name.parse::<u8>().unwrap(), "0");
    }
    let clone = |new: &str, name: &str| {
        sandbox.maqet(&["clone", "@web", new, "--full", "--snapshot", name])
    };
    clone("@a", "2").ok();
    clone("@b", "1").ok();
    assert!(sandbox.is_filled("@a", "root", 1, "0"));
    assert!(sandbox.is_filled("@b", "root", 7, "0"));
    // Also while it runs, and writes elsewhere.
    sandbox.maqet(&["start", "@web"]).ok();
    write_live(&sandbox, "@web", "root", 9, "0");
    clone("@e", "2").ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    assert!(sandbox.is_filled("@e", "root", 1, "0"));
    assert!(sandbox.is_filled("@web", "root", 9, "0"));
    clone("@c", "3").fails(1).saying("has no snapshot `3`");
    // The disk is as large as it was then.
    let resize = |to: &[&str]| {
        let args = [&["disk", "resize", "@web", "root"], to].concat();
        sandbox.maqet(&args).ok();
    };
    resize(&["5M"]);
    clone("@d", "2").ok();
    let list = sandbox.maqet(&["disk", "ls", "@d", "--json"]).json();
    assert_eq!(list[0]["virtual_size"], 4 << 20);
    assert!(sandbox.is_filled("@d", "root", 1, "0"));
    resize(&["1M", "--shrink"]);
    clone("@c", "2").fails(1).saying("had 4194304 bytes then");
    sandbox
        .maqet(&["clone", "@web", "@c", "--snapshot", "2"])
        .fails(1)
        .saying("`--full` copies");
    assert!(!sandbox.vm_dir("c").exists());
    sandbox.check_all();
}

#[test]
fn a_clone_can_stand_on_a_snapshot_beside_its_images() {
    let sandbox = three_disks();
    let fill = |vm: &str, byte: u8| {
        for disk in ["root", "data"] {
            sandbox.fill(vm, disk, byte, "0");
        }
    };
    let is_filled = |vm: &str, byte: u8| {
        let all = ["root", "data"].map(|disk| sandbox.is_filled(vm, disk, byte, "0"));
        assert_eq!(all[0], all[1], "the disks of {vm} are of two moments");
        all[0]
    };
    fill("@web", 1);
    let create = ["snapshot", "create", "@web", "x", "--external"];
    sandbox.maqet(&create).ok();
    fill("@web", 2);
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    for new in ["@a", "@b"] {
        let clone = ["clone", "@web", new, "--snapshot", "x"];
        sandbox.maqet(&clone).ok();
        assert!(is_filled(new, 1));
        // Again of one that runs.
        sandbox.maqet(&["start", "@web"]).ok();
    }
    let full = ["clone", "@web", "@full", "--snapshot", "x", "--full"];
    sandbox.maqet(&full).ok();
    assert!(is_filled("@full", 1));
    let list = sandbox.maqet(&["disk", "ls", "@full", "--json"]).json();
    let mut list = list.as_array().unwrap().iter();
    assert!(list.all(|it| it["bases"] == serde_json::json!([])));
    sandbox
        .maqet(&["clone", "@web", "@c", "--snapshot", "y"])
        .fails(1)
        .saying("has no snapshot `y`");
    // The source is as it was, and each goes its own way.
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    sandbox.maqet(&["start", "@a", "@b"]).ok();
    sandbox.maqet(&["stop", "--force", "@web", "@a", "@b"]).ok();
    fill("@a", 3);
    assert!(is_filled("@web", 2) && is_filled("@b", 1));
    // What they stand on stays, as long as one of them does.
    let merge = ["snapshot", "merge", "@web", "x"];
    sandbox.maqet(&merge).fails(1).saying("stands on");
    sandbox.maqet(&["rm", "@a", "--disks"]).ok();
    sandbox.maqet(&merge).fails(1).saying("stands on");
    sandbox.maqet(&["rm", "@b", "--disks"]).ok();
    sandbox.maqet(&merge).ok();
    assert!(is_filled("@web", 2));
    // What stands on a snapshot's overlay can be cloned as well.
    sandbox.maqet(&create).ok();
    sandbox.maqet(&["clone", "@web", "@d"]).ok();
    fill("@web", 4);
    sandbox.maqet(&["clone", "@web", "@e"]).ok();
    assert!(is_filled("@d", 2) && is_filled("@e", 4));
    sandbox.check_all();
}

#[test]
fn what_a_snapshot_of_another_vm_stands_on_is_not_written() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '4M'");
    sandbox.fill("@web", "root", 1, "0");
    let ok = |words: &[&str]| drop(sandbox.maqet(words).ok());
    let refused = |words: &[&str]| {
        let ran = sandbox.maqet(words).fails(1);
        ran.saying("snapshot `before` of VM").saying("stands on")
    };
    ok(&["snapshot", "create", "@web", "g", "--external"]);
    sandbox.fill("@web", "root", 2, "64k");
    for (new, snapshot) in [("@a", true), ("@b", false)] {
        let words: &[&str] = &["clone", "@web", new, "--snapshot", "g"];
        ok(&words[..if snapshot { 5 } else { 3 }]);
        ok(&["snapshot", "create", new, "before", "--external"]);
        // Its disk stands on nothing, and what it was does.
        ok(&["disk", "rebase", new, "root", "--flat"]);
    }
    let image = sandbox.vm_dir("web").join("root.qcow2");
    for start in [false, true] {
        if start {
            ok(&["start", "@web"]);
        }
        refused(&["snapshot", "merge", "@web", "g"]);
        refused(&["disk", "merge", "@web"]);
        refused(&[
            "disk",
            "merge",
            "@web",
            "root",
            "--into",
            image.to_str().unwrap(),
        ]);
    }
    ok(&["stop", "--force", "@web"]);
    let base = sandbox.vm_dir("a").join("root.qcow2");
    let to_base = format!("disk.root.file={}", base.display());
    let ran = sandbox.maqet(&["set", "@a", &to_base]).fails(2);
    ran.saying("snapshot `before` of VM")
        .saying("so it must not be written");
    for (new, written) in [("@a", 0), ("@b", 2)] {
        ok(&["snapshot", "restore", new, "before"]);
        assert!(sandbox.is_filled(new, "root", 1, "0"), "{new}");
        assert!(sandbox.is_filled(new, "root", written, "64k"), "{new}");
        ok(&["start", new]);
        ok(&["stop", "--force", new]);
        ok(&["rm", new, "--disks"]);
    }
    ok(&["disk", "merge", "@web"]);
    ok(&["snapshot", "merge", "@web", "g"]);
    assert!(sandbox.is_filled("@web", "root", 1, "0"));
    sandbox.check_all();
}

#[test]
fn of_two_clones_at_once_each_is_whole_and_of_one_name_there_is_one() {
    let sandbox = three_disks();
    sandbox.add_lines("other", "disk.root.size = '4M'");
    sandbox.fill("@web", "root", 1, "0");
    sandbox.fill("@other", "root", 2, "0");
    for round in 0..4 {
        let name = |suffix: &str| format!("@r{round}{suffix}");
        let (one, two, same) = (name("one"), name("two"), name("same"));
        let clones = [
            ["clone", "@web", &one],
            ["clone", "@web", &two],
            ["clone", "@web", &same],
            ["clone", "@other", &same],
        ]
        .map(|args| sandbox.spawn(&args));
        // A source that starts or stops meanwhile is waited for.
        let verb = match round % 2 {
            0 => &["start", "@web"][..],
            _ => &["stop", "--force", "@web"],
        };
        sandbox.maqet(verb).ok();
        let done = clones.map(Ran::of);
        let words = done.each_ref().map(|ran| &ran.stderr);
        let [one_is, two_is, first, second] = done.each_ref().map(|ran| ran.status == 0);
        assert!(one_is && two_is && first != second, "{words:#?}");
        for vm in [&one, &two] {
            assert!(sandbox.is_filled(vm, "root", 1, "0"), "{vm}");
        }
        let byte = if first { 1 } else { 2 };
        assert!(sandbox.is_filled(&same, "root", byte, "0"));
        let orphans = sandbox.maqet(&["disk", "orphans", "--json"]).json();
        assert_eq!(orphans["files"].as_array().unwrap().len(), 0, "{orphans}");
    }
    sandbox.check_all();
}

#[test]
fn a_full_clone_that_is_called_off_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root = { file = 'root.raw', size = '256M' }");
    let image = sandbox.path("root.raw");
    tool("qemu-io", &["-f", "raw", "-c", "write -P 1 0 256M"], &image);
    let mut clone = sandbox.spawn(&["clone", "@web", "@new", "--full"]);
    wait_until_it_copies(&sandbox, "new", &mut clone);
    interrupt(&mut clone);
    let ran = Ran::of(clone);
    // It may have been quicker.
    if ran.status == 0 {
        return;
    }
    assert!(!sandbox.has_vm("@new") && !sandbox.vm_dir("new").exists());
    sandbox.maqet(&["clone", "@web", "@new", "--full"]).ok();
}

#[test]
fn disks_go_back_into_their_images_when_the_clones_are_gone() {
    for runs in [false, true] {
        let sandbox = three_disks();
        sandbox.fill("@web", "root", 1, "0");
        sandbox.fill("@web", "data", 1, "0");
        let images = ["root", "data"].map(|disk| sandbox.disk_image("@web", disk));
        if runs {
            sandbox.maqet(&["start", "@web"]).ok();
        }
        let merge = ["disk", "merge", "@web"];
        sandbox.maqet(&merge).fails(1).saying("stands on nothing");
        for new in ["@a", "@b"] {
            sandbox.maqet(&["clone", "@web", new]).ok();
            match runs {
                true => write_live(&sandbox, "@web", "root", 2, "64k"),
                false => sandbox.fill("@web", "root", 2, "64k"),
            }
        }
        sandbox.maqet(&merge).fails(1).saying("disk `root` of VM");
        sandbox.maqet(&["rm", "@a", "--disks"]).ok();
        sandbox.maqet(&merge).fails(1).saying("disk `root` of VM");
        // What it leaves behind is still good for something.
        sandbox.maqet(&["rm", "@b"]).ok();
        sandbox.maqet(&merge).fails(1).saying("is no VM's");
        for disk in ["root", "data"] {
            let file = sandbox.vm_dir("b").join(format!("{disk}.qcow2"));
            let delete = ["disk", "orphans", "--delete", file.to_str().unwrap()];
            sandbox.maqet(&delete).ok();
        }
        let merged = sandbox.maqet(&["disk", "merge", "@web", "--json"]).json();
        assert_eq!(merged["disks"].as_array().unwrap().len(), 2, "{merged}");
        let images_now = ["root", "data"].map(|disk| sandbox.disk_image("@web", disk));
        assert_eq!(images_now, images);
        sandbox.maqet(&merge).fails(1).saying("stands on nothing");
        if runs {
            write_live(&sandbox, "@web", "data", 3, "64k");
            sandbox.maqet(&["stop", "--force", "@web"]).ok();
            assert!(sandbox.is_filled("@web", "data", 3, "64k"));
        }
        assert!(sandbox.is_filled("@web", "root", 1, "0"));
        assert!(sandbox.is_filled("@web", "root", 2, "64k"));
        assert!(sandbox.is_filled("@web", "data", 1, "0"));
        let left = std::fs::read_dir(sandbox.vm_dir("web")).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name != "root.qcow2").collect();
        let mut left = left.iter().map(|name| name.to_string_lossy());
        assert!(left.all(|name| !name.contains("qcow2")), "{runs}");
        sandbox.maqet(&["start", "@web"]).ok();
        sandbox.maqet(&["stop", "--force", "@web"]).ok();
        sandbox.check_all();
    }
}

#[test]
fn an_image_that_maqet_did_not_make_is_merged_into_only_by_its_name() {
    let sandbox = Sandbox::new();
    let mine = sandbox.path("mine.raw");
    std::fs::write(&mine, [1; 1 << 20]).unwrap();
    sandbox.add_lines("web", "disk.root.file = 'mine.raw'");
    sandbox.maqet(&["clone", "@web", "@new"]).ok();
    sandbox.fill("@web", "root", 2, "64k");
    let removed = sandbox.maqet(&["rm", "@new", "--disks"]).ok();
    removed.saying("`maqet disk merge");
    let merge = ["disk", "merge", "@web", "root"];
    sandbox
        .maqet(&merge)
        .fails(1)
        .saying("mine.raw was not made by maqet");
    let into = |file: &str| sandbox.maqet(&[&merge[..], &["--into", file]].concat());
    std::fs::write(sandbox.path("other.raw"), "x").unwrap();
    into("other.raw").fails(1).saying("and not on other.raw");
    into("nowhere.raw")
        .fails(1)
        .saying("and not on nowhere.raw");
    assert_eq!(std::fs::read(&mine).unwrap(), [1; 1 << 20]);
    into(mine.to_str().unwrap()).ok();
    assert_eq!(sandbox.disk_image("@web", "root"), (mine, "raw".to_owned()));
    assert!(sandbox.is_filled("@web", "root", 2, "64k"));
}

#[test]
fn a_disk_is_merged_as_far_down_as_no_snapshot_is_within_an_overlay() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '1M'");
    let mut overlays = Vec::new();
    for byte in [1, 2] {
        sandbox.maqet(&["clone", "@web", "@new"]).ok();
        sandbox.maqet(&["rm", "@new", "--disks"]).ok();
        sandbox.fill("@web", "root", byte, "0");
        overlays.push(sandbox.disk_image("@web", "root").0);
    }
    let within = |does: &str| tool("qemu-img", &["snapshot", "-q", does, "x"], &overlays[0]);
    within("-c");
    let merge = ["disk", "merge", "@web", "root"];
    let merged = sandbox.maqet(&merge).ok();
    merged.saying("no further: snapshot `x` is within");
    assert_eq!(sandbox.disk_image("@web", "root").0, overlays[0]);
    assert!(!overlays[1].exists() && sandbox.is_filled("@web", "root", 2, "0"));
    sandbox
        .maqet(&merge)
        .fails(1)
        .saying("snapshot `x` is within");
    within("-d");
    let merged = sandbox.maqet(&[&merge[..], &["--json"]].concat()).json();
    assert_eq!(merged["obstacles"], serde_json::json!([]));
    assert!(sandbox.is_filled("@web", "root", 2, "0"));
    sandbox.check_all();
}

#[test]
fn a_disk_is_merged_no_further_down_than_into_the_image_that_is_named() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '1M'");
    let image = || sandbox.disk_image("@web", "root").0;
    let mut images = vec![image()];
    for byte in [1, 2] {
        sandbox.maqet(&["clone", "@web", "@new"]).ok();
        sandbox.maqet(&["rm", "@new", "--disks"]).ok();
        sandbox.fill("@web", "root", byte, "0");
        images.push(image());
    }
    let into = |file: &Path| {
        let file = file.to_str().unwrap();
        sandbox.maqet(&["disk", "merge", "@web", "root", "--into", file])
    };
    // One of the disk's own, but not one that it stands on.
    for other in [&images[2], &sandbox.path("nowhere.qcow2")] {
        into(other).fails(1).saying("and not on");
        assert_eq!(image(), images[2]);
    }
    for below in [&images[1], &images[0]] {
        into(below).ok();
        assert_eq!(image(), *below);
        assert!(sandbox.is_filled("@web", "root", 2, "0"));
    }
    sandbox.check_all();
}

#[test]
fn a_full_clone_of_a_snapshot_in_an_image_that_an_overlay_stands_on_is_as_it_was() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '1M'");
    sandbox.fill("@web", "root", 1, "0");
    sandbox.maqet(&["snapshot", "create", "@web", "one"]).ok();
    sandbox.fill("@web", "root", 2, "0");
    let create = ["snapshot", "create", "@web", "over", "--external"];
    sandbox.maqet(&create).ok();
    sandbox.fill("@web", "root", 3, "0");
    for (runs, new) in [(false, "@a"), (true, "@b")] {
        if runs {
            sandbox.maqet(&["start", "@web"]).ok();
        }
        let clone = ["clone", "@web", new, "--snapshot", "one", "--full"];
        sandbox.maqet(&clone).ok();
        assert!(sandbox.is_filled(new, "root", 1, "0"));
    }
    // What is called so in the image of another VM is not this one's.
    sandbox.maqet(&["stop", "@web"]).ok();
    sandbox.maqet(&["clone", "@web", "@c"]).ok();
    sandbox
        .maqet(&["clone", "@c", "@d", "--snapshot", "one", "--full"])
        .fails(1)
        .saying("has no snapshot `one`");
    sandbox.check_all();
}
