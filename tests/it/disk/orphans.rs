use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox};

fn delete(sandbox: &Sandbox, files: &[&Path]) -> Ran {
    let files = files.iter().map(|file| file.to_str().unwrap());
    let words: Vec<&str> = ["disk", "orphans", "--delete"]
        .into_iter()
        .chain(files)
        .collect();
    sandbox.maqet(&words)
}

#[test]
fn what_another_orphan_stands_on_goes_with_that_or_not_at_all() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '1M'");
    for name in ["one", "two"] {
        let create = ["snapshot", "create", "@web", name, "--external"];
        sandbox.maqet(&create).ok();
    }
    sandbox.maqet(&["rm", "@web"]).ok();
    let dir = sandbox.vm_dir("web");
    let [base, over, top] =
        ["root.qcow2", "root.1.qcow2", "root.2.qcow2"].map(|name| dir.join(name));
    let other = dir.join("other.img");
    fs::write(&other, "").unwrap();
    let before = sandbox.orphans();
    assert_eq!(before.len(), 4, "{before:?}");
    for (files, above) in [
        (&[&*base][..], &over),
        (&[&other, &base], &over),
        (&[&base, &over], &top),
        (&[&base, &top], &over),
    ] {
        delete(&sandbox, files)
            .fails(1)
            .saying("root.qcow2 is needed")
            .saying(&above.to_string_lossy())
            .saying("hint: ");
        assert_eq!(sandbox.orphans(), before);
    }
    delete(&sandbox, &[&top]).ok();
    delete(&sandbox, &[&base, &over]).ok();
    assert_eq!(sandbox.orphans().len(), 1);
}

#[test]
fn nothing_is_an_orphan_when_the_database_has_lost_whose_it_was() {
    let sandbox = Sandbox::new();
    let database = |suffix: &str| sandbox.path(&format!("data/maqet/maqet.db{suffix}"));
    let away = |from: &str, to: &str| {
        for suffix in ["", "-wal", "-shm"] {
            let [from, to] = [from, to].map(|at| database(&format!("{at}{suffix}")));
            let _ = fs::rename(from, to);
        }
    };
    // Where nothing ever was, nothing is lost.
    assert!(sandbox.orphans().is_empty());
    sandbox.add_prelaunch("web");
    sandbox.disk("add", &["d", "--size", "1M"]).ok();
    let file = sandbox.vm_dir("web").join("d.qcow2");
    let refused = |said: &str| {
        for ran in [
            sandbox.maqet(&["disk", "orphans"]),
            sandbox.maqet(&["disk", "orphans", "--json"]),
            delete(&sandbox, &[&file]),
        ] {
            let ran = ran.fails(1).saying(said).saying("hint: ");
            assert_eq!(ran.stdout, "");
        }
        assert!(file.exists());
    };
    // One that was never started has left no definition.
    away("", ".away");
    refused("there is no database");
    assert!(!database("").exists());
    away(".away", "");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    away("", ".away");
    let name = format!("`{}`", sandbox.name("web"));
    refused(&name);
    // Another one may have been made since.
    sandbox.add_prelaunch("new");
    refused(&name);
    sandbox.maqet(&["doctor", "--rebuild"]).ok();
    assert!(sandbox.orphans().is_empty());
    let orphans = sandbox.maqet(&["disk", "orphans", "--json"]).json();
    assert_eq!(orphans["missing"], Value::Array(Vec::new()));
}

#[test]
fn what_a_disk_that_was_moved_away_and_detached_stands_on_is_no_orphan() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '1M'");
    sandbox.maqet(&["clone", "@web", "@other"]).ok();
    let away = sandbox.path("away.qcow2");
    let to = ["disk", "move", "@other", "root", away.to_str().unwrap()];
    sandbox.maqet(&to).ok();
    sandbox.maqet(&["rm", "@web", "--disks"]).ok();
    sandbox.maqet(&["disk", "detach", "@other", "root"]).ok();
    assert_eq!(sandbox.orphans(), [] as [Value; 0]);
    sandbox.qemu_img(&["check", "-q", "away.qcow2"]);
}
