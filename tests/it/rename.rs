use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use crate::kill::vm::with_detached;
use crate::sandbox::{Ran, Sandbox, guests, systemctl, wait_until_open};
use crate::snapshot::reads_as;

/// A VM with a disk of its own, a MAC address that is derived, and one that requires it.
fn add(sandbox: &Sandbox) {
    sandbox.add_lines(
        "old",
        "disk.root.size = '1M'\nnet.lan = {}\nlabels.env = 'ci'\ndescription = 'old'",
    );
    sandbox.add_lines("app", "requires = ['@old'] # it");
}

fn mac(sandbox: &Sandbox, vm: &str) -> String {
    let argv = sandbox.maqet(&["show", "--argv", vm]).ok().stdout;
    argv.split("mac=").nth(1).unwrap()[..17].to_owned()
}

/// Everything belongs to the VM of one name, and nothing to one of the other.
#[track_caller]
fn is_whole(sandbox: &Sandbox, name: &str, other: &str) {
    let vm = format!("@{name}");
    sandbox.maqet(&["show", &format!("@{other}")]).fails(4);
    assert!(sandbox.vm_dir(name).join("root.qcow2").exists());
    assert!(!sandbox.vm_dir(other).exists());
    let app = sandbox.maqet(&["show", "@app"]).ok().stdout;
    let requires = format!("requires = ['{}'] # it", sandbox.name(name));
    let requires_anew = format!("requires = [\"{}\"] # it", sandbox.name(name));
    assert!(
        app.contains(&requires) || app.contains(&requires_anew),
        "{app}"
    );
    sandbox.maqet(&["start", "@app"]).ok();
    assert_eq!(sandbox.state(name), "prelaunch");
    sandbox.maqet(&["stop", "--force", "@app", &vm]).ok();
}

#[test]
fn a_renamed_vm_is_the_same_with_all_that_belongs_to_it() {
    let sandbox = Sandbox::new();
    sandbox.install_template();
    add(&sandbox);
    sandbox.maqet(&["enable", "@old"]).ok();
    sandbox.maqet(&["start", "@old"]).ok();
    sandbox.maqet(&["snapshot", "create", "@old", "then"]).ok();
    sandbox
        .maqet(&["rename", "@old", "@new"])
        .fails(1)
        .saying("is running")
        .saying("maqet stop");
    sandbox.maqet(&["stop", "--force", "@old"]).ok();
    let before = mac(&sandbox, "@old");
    let said = sandbox.maqet(&["rename", "@old", "@new", "--json"]).json();
    assert_eq!(said["name"], sandbox.name("new"));
    assert_eq!(said["followed"][0], sandbox.name("app"));
    assert_eq!(said["enabled"], true);

    assert_eq!(mac(&sandbox, "@new"), before);
    assert_eq!(sandbox.listed("new")["enabled"], true);
    assert_eq!(sandbox.listed("new")["labels"]["env"], "ci");
    let shown = sandbox.maqet(&["show", "@new"]).ok().stdout;
    assert!(shown.contains("description = 'old'"), "{shown}");
    let kept = fs::read_to_string(sandbox.vm_dir("new").join("definition.toml")).unwrap();
    assert!(kept.contains(&sandbox.name("new")), "{kept}");
    is_whole(&sandbox, "new", "old");
    let old = format!("maqet@{}.service", sandbox.name("old"));
    assert_ne!(systemctl(&["is-enabled", &old]).status, 0);

    // So has its snapshot.
    let ran = sandbox.maqet(&["snapshot", "restore", "@new", "then"]);
    ran.ok().saying("the next start goes on there");
    sandbox.maqet(&["start", "@new"]).ok().saying("goes on");
    sandbox.maqet(&["stop", "--force", "@new"]).ok();

    // The disk is maqet's own all the same.
    sandbox.maqet(&["rm", "@app", "@new", "--disks"]).ok();
    assert!(!sandbox.vm_dir("new").exists());
}

#[test]
fn a_name_that_is_taken_or_has_files_is_refused_and_nothing_changes() {
    let sandbox = Sandbox::new();
    add(&sandbox);
    sandbox
        .maqet(&["rename", "@old", "@app"])
        .fails(1)
        .saying("there is a VM");
    sandbox.maqet(&["rename", "@old", "@old"]).fails(1);
    sandbox.maqet(&["rename", "@nosuch", "@new"]).fails(4);
    sandbox.maqet(&["rename", "@old", "a/b"]).fails(2);
    let left = sandbox.vm_dir("new");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("root.qcow2"), "mine").unwrap();
    sandbox
        .maqet(&["rename", "@old", "@new"])
        .fails(1)
        .saying("is there already");
    assert_eq!(fs::read(left.join("root.qcow2")).unwrap(), b"mine");
    fs::remove_dir_all(&left).unwrap();
    is_whole(&sandbox, "old", "new");
}

#[test]
fn a_saved_vm_goes_on_under_its_new_name() {
    let sandbox = Sandbox::new();
    let guest = guests().join("probe");
    let text = format!(
        "memory = '128M'\naccel = 'tcg'\nkernel = '{0}/kernel'\ninitrd = '{0}/initrd'\n\
         append = 'console=ttyS0 quiet cryptomgr.notests probe.write=1'\ndisk.data.size = '1M'\n",
        guest.display()
    );
    let file = sandbox.path(&format!("{}.toml", sandbox.name("old")));
    fs::write(&file, text).unwrap();
    sandbox.maqet(&["add", file.to_str().unwrap()]).ok();
    sandbox.maqet(&["start", "@old"]).ok();
    sandbox.wait_for_console("old", "probe: ready");
    sandbox.maqet(&["save", "@old"]).ok();
    sandbox.maqet(&["rename", "@old", "@new"]).ok();
    assert_eq!(sandbox.state("new"), "saved");
    sandbox
        .maqet(&["start", "@new"])
        .ok()
        .saying("goes on where it was saved");
    assert_eq!(sandbox.state("new"), "running");
}

#[test]
fn a_saved_vm_on_overlays_goes_on_under_its_new_name_too() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("old", "disk.data.size = '1M'");
    sandbox.maqet(&["start", "@old"]).ok();
    sandbox.maqet(&["resume", "@old"]).ok();
    let create = ["snapshot", "create", "@old", "x", "--external"];
    sandbox.maqet(&create).ok();
    sandbox.maqet(&["save", "@old"]).ok();
    sandbox.maqet(&["rename", "@old", "@new"]).ok();
    let started = sandbox.maqet(&["start", "@new"]).ok();
    started.saying("goes on where it was saved");
}

#[test]
fn a_rename_that_is_killed_leaves_the_old_name_or_the_new_one() {
    let sandbox = Sandbox::new();
    add(&sandbox);
    let (mut name, mut other) = ("old", "new");
    // Before it has done anything, at its steps, and after the last.
    for micros in (0..40_000).step_by(2_000) {
        let from = format!("@{name}");
        let mut child = sandbox.spawn(&["rename", &from, &format!("@{other}")]);
        thread::sleep(Duration::from_micros(micros));
        child.kill().unwrap();
        child.wait().unwrap();
        if sandbox.maqet(&["show", &from]).status != 0 {
            (name, other) = (other, name);
        }
        // An earlier try may have left the place of a lock.
        let _ = fs::remove_file(sandbox.vm_dir(other).join("lock"));
        let _ = fs::remove_dir(sandbox.vm_dir(other));
        is_whole(&sandbox, name, other);
    }
}

#[test]
fn the_next_command_finishes_what_a_killed_rename_has_begun() {
    let sandbox = Sandbox::new();
    add(&sandbox);
    let (old, new) = (sandbox.name("old"), sandbox.name("new"));
    sandbox.maqet(&["rename", "@old", "@new"]).ok();
    // As it is just after the database has been changed.
    fs::rename(sandbox.vm_dir("new"), sandbox.vm_dir("old")).unwrap();
    let db = rusqlite::Connection::open(sandbox.path("data/maqet/maqet.db")).unwrap();
    db.execute("INSERT INTO renaming VALUES (?1, ?2, 0)", [&old, &new])
        .unwrap();
    sandbox.maqet(&["show", "@new"]).ok();
    is_whole(&sandbox, "new", "old");

    // As it is when a start of the old name came too late.
    fs::create_dir_all(sandbox.vm_dir("old")).unwrap();
    fs::write(sandbox.vm_dir("old").join("lock"), "").unwrap();
    db.execute("INSERT INTO renaming VALUES (?1, ?2, 0)", [&old, &new])
        .unwrap();
    is_whole(&sandbox, "new", "old");
    let left: u32 = db
        .query_row("SELECT count(*) FROM renaming", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_disk_that_was_detached_finds_what_it_stands_on_under_the_new_name() {
    let sandbox = Sandbox::new();
    with_detached(&sandbox);
    // A raw disk is never taken for an image, whatever its guest writes.
    let overlay = sandbox.vm_dir("web").join("root.1.qcow2");
    let raw = sandbox.vm_dir("web").join("raw.raw");
    sandbox
        .maqet(&["disk", "add", "@web", "raw", "--size", "1M", "format=raw"])
        .ok();
    let written = fs::read(&overlay).unwrap();
    fs::write(&raw, &written).unwrap();
    let add = ["disk", "add", "@web", "loose", "--size", "1M", "format=raw"];
    sandbox.maqet(&add).ok();
    fs::write(sandbox.vm_dir("web").join("loose.raw"), &written).unwrap();
    sandbox.maqet(&["disk", "detach", "@web", "loose"]).ok();

    fs::set_permissions(&overlay, Permissions::from_mode(0o400)).unwrap();
    let ran = sandbox.maqet(&["rename", "@web", "@www"]).fails(1);
    ran.saying("root.1.qcow2").saying("chmod u+rw");
    sandbox.maqet(&["show", "@web"]).ok();
    fs::set_permissions(&overlay, Permissions::from_mode(0o600)).unwrap();

    sandbox.maqet(&["rename", "@web", "@www"]).ok();
    assert!(reads_as(
        &sandbox.vm_dir("www").join("root.1.qcow2"),
        "qcow2",
        1
    ));
    for raw in ["raw.raw", "loose.raw"] {
        let file = sandbox.vm_dir("www").join(raw);
        assert_eq!(fs::read(file).unwrap(), written, "{raw}");
    }
}

#[test]
fn a_command_that_waits_for_a_vm_that_goes_away_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("old", "disk.root.size = '1M'");
    sandbox
        .maqet(&["disk", "resize", "@old", "root", "2M"])
        .ok();
    let path = sandbox.vm_dir("old").join("operation.lock");
    let lock = File::open(&path).unwrap();
    lock.lock().unwrap();
    let waiting = sandbox.spawn(&["disk", "resize", "@old", "root", "3M"]);
    wait_until_open(&waiting, &path);
    // As a rename has it: the lock goes along, and is given back.
    let db = rusqlite::Connection::open(sandbox.path("data/maqet/maqet.db")).unwrap();
    db.execute("DELETE FROM vm", []).unwrap();
    fs::rename(sandbox.vm_dir("old"), sandbox.vm_dir("new")).unwrap();
    drop(lock);
    Ran::of(waiting).fails(4);
    assert!(!sandbox.vm_dir("old").exists());

    // Nor is the place of a lock taken for anybody's disk, or in the way.
    fs::remove_dir_all(sandbox.vm_dir("new")).unwrap();
    add(&sandbox);
    for lock in ["lock", "operation.lock"] {
        fs::create_dir_all(sandbox.vm_dir("new")).unwrap();
        fs::write(sandbox.vm_dir("new").join(lock), "").unwrap();
    }
    let orphans = sandbox.maqet(&["disk", "orphans", "--json"]).json();
    assert_eq!(orphans["files"], serde_json::json!([]));
    sandbox.maqet(&["rename", "@old", "@new"]).ok();
    is_whole(&sandbox, "new", "old");
}

#[test]
fn a_vm_whose_images_something_stands_on_that_is_nobody_s_keeps_its_name() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '1M'");
    for new in ["@kept", "@away"] {
        sandbox.maqet(&["clone", "@web", new]).ok();
    }
    let away = sandbox.path("away.qcow2");
    let to = ["disk", "move", "@away", "root", away.to_str().unwrap()];
    sandbox.maqet(&to).ok();
    sandbox.maqet(&["disk", "detach", "@away", "root"]).ok();
    sandbox.maqet(&["rm", "@kept"]).ok();
    let kept = sandbox.vm_dir("kept").join("root.qcow2");
    let orphans = format!("`maqet disk orphans --delete {}`", kept.display());
    for (file, delete) in [
        (&kept, orphans),
        (&away, format!("`rm {}`", away.display())),
    ] {
        sandbox
            .maqet(&["rename", "@web", "@www"])
            .fails(1)
            .saying(&format!("{} stands on it", file.display()))
            .saying(&delete);
        sandbox.maqet(&["status", "@web"]).fails(3);
        std::fs::remove_file(file).unwrap();
    }
    sandbox.maqet(&["rename", "@web", "@www"]).ok();
}
