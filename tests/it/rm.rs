use std::fs;
use std::process::Command;

use crate::sandbox::Sandbox;

#[test]
fn a_running_vm_is_not_removed() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["rm", "@web"])
        .fails(1)
        .saying("is running")
        .saying("maqet stop");
    assert_eq!(sandbox.state("web"), "prelaunch");
    sandbox.maqet(&["stop", "@web"]).ok();
    sandbox.maqet(&["rm", "@web"]).ok().saying("removed");
    sandbox.maqet(&["rm", "@web"]).fails(4);
    assert!(!sandbox.vm_dir("web").exists());
}

#[test]
fn only_disks_that_maqet_made_are_deleted_and_only_when_asked() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("mine.raw"), vec![7; 1 << 20]).unwrap();
    let add = |name: &str| {
        sandbox.add(name, &["--disk", "mine.raw:1M", "--disk", "made.qcow2:1M"]);
    };
    add("web");
    sandbox
        .maqet(&["rm", "@web"])
        .ok()
        .saying("kept")
        .saying("made.qcow2");
    assert!(sandbox.path("mine.raw").exists());
    assert!(sandbox.path("made.qcow2").exists());

    // Now it is one that was there before: no longer maqet's.
    add("web");
    sandbox.maqet(&["rm", "@web", "--disks"]).ok();
    assert!(sandbox.path("made.qcow2").exists());

    fs::remove_file(sandbox.path("made.qcow2")).unwrap();
    add("web");
    sandbox
        .maqet(&["rm", "@web", "--disks"])
        .ok()
        .saying("deleted");
    assert!(!sandbox.path("made.qcow2").exists());
    assert_eq!(
        fs::read(sandbox.path("mine.raw")).unwrap(),
        vec![7; 1 << 20]
    );
}

#[test]
fn a_disk_that_was_detached_is_not_taken_along() {
    let sandbox = Sandbox::new();
    let add = || sandbox.add_lines("web", "disk.root.size = '1M'\ndisk.data.size = '1M'");
    let detach = || sandbox.maqet(&["disk", "detach", "@web", "data"]);
    add();
    let kept = sandbox.path("keep.qcow2");
    let args = ["disk", "move", "@web", "data", kept.to_str().unwrap()];
    sandbox.maqet(&args).ok();
    detach().ok().saying("kept");
    sandbox
        .maqet(&["rm", "@web", "--disks"])
        .ok()
        .saying(&format!("kept {}", kept.display()));
    assert!(kept.exists());
    assert!(!sandbox.vm_dir("web").exists());
    // Nor is it another's to take along, which has it now.
    add();
    sandbox.add_lines("db", "");
    detach().ok();
    let data = sandbox.vm_dir("web").join("data.qcow2");
    let args = ["disk", "attach", "@db", "data", data.to_str().unwrap()];
    sandbox.maqet(&args).ok();
    for name in ["@web", "@db"] {
        sandbox.maqet(&["rm", name, "--disks"]).ok();
        assert!(data.exists());
    }
    // What an external snapshot needs is the VM's.
    fs::remove_file(&data).unwrap();
    add();
    let snapshot = ["snapshot", "create", "@web", "x", "--external"];
    sandbox.maqet(&snapshot).ok();
    for disk in ["root", "data"] {
        let flat = ["disk", "rebase", "@web", disk, "--flat"];
        sandbox.maqet(&flat).ok();
    }
    sandbox.maqet(&["rm", "@web", "--disks"]).ok();
    assert!(!sandbox.vm_dir("web").exists());
}

#[test]
fn a_disk_that_another_vm_uses_is_kept() {
    let sandbox = Sandbox::new();
    sandbox.add("a", &["--disk", "shared.qcow2:1M"]);
    sandbox.add("b", &["--disk", "shared.qcow2"]);
    sandbox.maqet(&["rm", "@a", "--disks"]).ok().saying("kept");
    assert!(sandbox.path("shared.qcow2").exists());
}

#[test]
fn what_has_taken_a_made_disk_s_place_is_kept() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--disk", "root.qcow2:1M"]);
    fs::remove_file(sandbox.path("root.qcow2")).unwrap();
    fs::write(sandbox.path("root.qcow2"), "mine").unwrap();
    sandbox
        .maqet(&["rm", "@web", "--disks"])
        .ok()
        .saying("kept");
    assert_eq!(fs::read(sandbox.path("root.qcow2")).unwrap(), b"mine");
}

#[test]
fn a_definition_that_cannot_be_removed_keeps_its_disk() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--disk", "root.qcow2:1M"]);
    let db = rusqlite::Connection::open(sandbox.path("data/maqet/maqet.db")).unwrap();
    db.execute_batch("BEGIN EXCLUSIVE").unwrap();
    sandbox.maqet(&["rm", "@web", "--disks"]).fails(1);
    assert!(sandbox.path("root.qcow2").exists());
    drop(db);
    sandbox
        .maqet(&["rm", "@web", "--disks"])
        .ok()
        .saying("deleted");
}

#[test]
fn a_failure_is_forgotten_with_its_vm() {
    let sandbox = Sandbox::new();
    sandbox.add(
        "web",
        &["--qemu-arg=-machine", "--qemu-arg=no-such-machine"],
    );
    sandbox.maqet(&["start", "@web"]).fails(1);
    sandbox.maqet(&["rm", "@web"]).ok();
    sandbox.add_prelaunch("web");
    assert_eq!(sandbox.state("web"), "stopped");
}

#[test]
fn a_protected_vm_is_not_removed_whatever_is_asked() {
    let sandbox = Sandbox::new();
    for (name, protect) in [("a", "true"), ("b", "false")] {
        let file = sandbox.path(&format!("{}.toml", sandbox.name(name)));
        let text = format!("protect = {protect}\ndisk.root.size = \"1M\"\n");
        fs::write(&file, text).unwrap();
        sandbox.maqet(&["add", file.to_str().unwrap()]).ok();
    }
    let disk = sandbox.vm_dir("a").join("root.qcow2");
    assert!(disk.exists());
    sandbox
        .maqet(&["rm", "@a", "--disks", "--discard-saved"])
        .fails(1)
        .saying("is protected")
        .saying(&format!("maqet set {} protect=false", sandbox.name("a")));
    assert!(disk.exists());
    let all = sandbox.name("*");
    sandbox
        .maqet(&["rm", &all, "--disks"])
        .fails(1)
        .saying("is protected")
        .saying("removed");
    assert!(disk.exists());
    assert_eq!(sandbox.state("a"), "stopped");
    assert_eq!(sandbox.state("b"), "not listed");
}

#[test]
fn protection_begins_and_ends_while_the_vm_runs() {
    let sandbox = Sandbox::running();
    let said = sandbox
        .maqet(&["set", "@web", "protect=true", "labels.env=ci"])
        .ok();
    assert!(!said.stderr.contains("next start"), "{}", said.stderr);
    assert_eq!(sandbox.listed("web")["labels"]["env"], "ci");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox
        .maqet(&["rm", "@web"])
        .fails(1)
        .saying("is protected");
    sandbox.maqet(&["unset", "@web", "protect"]).ok();
    sandbox.maqet(&["rm", "@web"]).ok();
}

#[test]
fn a_pattern_removes_what_matches() {
    let sandbox = Sandbox::new();
    for name in ["ci-1", "ci-2", "web"] {
        sandbox.add_prelaunch(name);
    }
    let pattern = sandbox.name("ci-*");
    sandbox.maqet(&["rm", &pattern]).ok();
    assert_eq!(sandbox.state("ci-2"), "not listed");
    assert_eq!(sandbox.state("web"), "stopped");
    sandbox
        .maqet(&["rm", &pattern])
        .fails(4)
        .saying("no VM's name matches");
}

#[test]
fn on_a_full_disk_vms_are_listed_and_removed() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    let script = format!(
        "say() {{ echo \"== $1\"; shift; \"$maqet\" \"$@\" 2>&1; echo \"= $?\"; }}
        maqet=$1; mkdir data; mount -t tmpfs -o size=4M none data || exit
        say add add --name {name} --memory 64M --accel tcg 
        say disk disk add {name} data --size 1M
        cat /dev/zero >data/full
        say ls ls; say status status {name};
        say change set {name} cpus=2; say rm rm {name}; say disks rm {name} --disks; say last ls"
    );
    let maqet = sandbox.command(&[]);
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-current-user", "--keep-caps", "--mount"])
        .args(["sh", "-c", &script, "sh"])
        .arg(maqet.get_program())
        .envs(
            maqet
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .current_dir(sandbox.dir.path());
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let of = |what: &str| {
        let said = said.split(&format!("== {what}\n")).nth(1);
        let said = said.and_then(|said| said.split("== ").next());
        said.unwrap_or_else(|| panic!("{what}: {done:?}"))
            .to_owned()
    };
    let [ls, status] = ["ls", "status"].map(of);
    assert!(ls.contains(&name) && ls.ends_with("= 0\n"), "{ls}");
    assert!(
        status.contains(": stopped") && status.ends_with("= 3\n"),
        "{status}"
    );
    for refused in ["change", "rm"].map(of) {
        assert!(refused.contains("file system is full"), "{refused}");
        assert!(refused.ends_with("= 1\n"), "{refused}");
    }
    let removed = of("disks");
    assert!(
        removed.contains("removed") && removed.ends_with("= 0\n"),
        "{removed}"
    );
    assert!(!of("last").contains(&name));
}

#[test]
fn what_a_disk_that_is_kept_stands_on_is_kept() {
    for at_once in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.add("web", &["--disk", "base.qcow2:1M"]);
        let [base, over] = ["base.qcow2", "over.qcow2"].map(|file| sandbox.path(file));
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .args([&base, &over])
            .status();
        assert!(made.unwrap().success());
        sandbox.add("other", &["--disk", "over.qcow2"]);
        match at_once {
            true => drop(sandbox.maqet(&["rm", "@web", "@other", "--disks"]).ok()),
            false => {
                sandbox.maqet(&["rm", "@web", "--disks"]).ok();
                sandbox
                    .maqet(&["rm", "@other", "--disks"])
                    .ok()
                    .saying(&format!("kept {}", base.display()))
                    .saying(&format!("kept {}", over.display()));
            }
        }
        assert!(base.exists() && over.exists());
    }
}
