use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::kill;
use crate::sandbox::Sandbox;

const MOVE: [&str; 5] = ["disk", "move", "@web", "d", "there/d.qcow2"];

/// With a disk, and what is in the way of another.
fn world() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.d.size = '1M'");
    fs::write(sandbox.path("file"), "").unwrap();
    symlink("loop", sandbox.path("loop")).unwrap();
    symlink("nowhere", sandbox.path("dangling")).unwrap();
    fs::create_dir(sandbox.path("closed")).unwrap();
    chmod(&sandbox.path("closed"), 0);
    sandbox
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn where_no_file_can_be_no_disk_is_made_or_moved_to_and_nothing_is_begun() {
    let sandbox = world();
    let long = format!("{}.qcow2", "a".repeat(249));
    // It is too long until it is finished.
    let longer = format!("{}.qcow2", "a".repeat(230));
    let (below, longer_below) = (format!("new/{long}"), format!("new/{longer}"));
    let targets = [
        ("file/", "file is not a directory"),
        ("file/x.qcow2", "file is not a directory"),
        ("file/x/y.qcow2", "file is not a directory"),
        ("new/", "mkdir"),
        ("loop/x.qcow2", "symbolic links"),
        ("dangling/x.qcow2", "No such file"),
        ("closed/x.qcow2", "chmod u+rwx"),
        ("closed/y/x.qcow2", "chmod u+rwx"),
        (&long, "a shorter one"),
        (&longer, "a shorter one"),
        (&below, "a shorter one"),
        (&longer_below, "a shorter one"),
    ];
    let look = || {
        let names = fs::read_dir(sandbox.dir.path()).unwrap();
        let mut names: Vec<_> = names.map(|it| it.unwrap().file_name()).collect();
        names.sort();
        (names, sandbox.maqet(&["show", "@web"]).ok().stdout)
    };
    for runs in [false, true] {
        if runs {
            sandbox.maqet(&["start", "@web"]).ok();
        }
        let before = look();
        for (target, said) in targets {
            let file = format!("file={target}");
            for words in [
                &["move", "@web", "d", target][..],
                &["add", "@web", "new", "--size", "1M", &file],
            ] {
                let ran = sandbox.maqet(&[&["disk"], words].concat());
                let ran = ran.fails(1).saying(said).saying("error: cannot make");
                assert!(!ran.stderr.contains("begun"), "{}", ran.stderr);
                assert!(look() == before, "{words:?} has changed something");
            }
        }
        // Nothing is in the way of the next.
        sandbox.maqet(&["disk", "resize", "@web", "d", "+1M"]).ok();
    }
}

#[test]
fn an_image_whose_name_is_too_long_to_be_rewritten_is_left_as_it_is() {
    let sandbox = world();
    let file = format!("{}.qcow2", "a".repeat(240));
    sandbox.qemu_img(&["create", "-q", "-f", "qcow2", &file, "1M"]);
    sandbox
        .maqet(&["disk", "attach", "@web", "long", &file])
        .ok();
    let compact = ["disk", "compact", "@web", "long"];
    sandbox.maqet(&compact).fails(1).saying("a shorter one");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&compact).fails(1).saying("a shorter one");
    sandbox
        .maqet(&["disk", "resize", "@web", "long", "2M"])
        .ok();
}

/// A move that was killed when it had made something in the directory `there`.
#[track_caller]
fn cut_short() -> Sandbox {
    for at in 1..1000 {
        let sandbox = world();
        fs::create_dir(sandbox.path("there")).unwrap();
        kill::at(&sandbox, at, &MOVE);
        if fs::read_dir(sandbox.path("there"))
            .unwrap()
            .next()
            .is_some()
        {
            return sandbox;
        }
    }
    panic!("it never makes anything");
}

#[test]
fn what_was_begun_where_no_directory_is_any_more_is_undone() {
    let in_the_way: [fn(&Path); 3] = [
        |there| fs::write(there, "").unwrap(),
        |there| symlink("there", there).unwrap(),
        |_| {},
    ];
    for put in in_the_way {
        let sandbox = cut_short();
        let there = sandbox.path("there");
        fs::remove_dir_all(&there).unwrap();
        put(&there);
        sandbox
            .maqet(&["disk", "resize", "@web", "d", "2M"])
            .ok()
            .saying("which was cut short, is undone");
        let info = sandbox.maqet(&["disk", "info", "@web", "--json"]).json();
        assert!(info[0]["file"].as_str().unwrap().ends_with("/d.qcow2"));
        assert_eq!(info[0]["virtual_size"], 2 << 20);
    }
}

#[test]
fn what_was_begun_in_a_directory_that_was_closed_since_says_how_it_can_be_undone() {
    let sandbox = cut_short();
    let there = sandbox.path("there");
    for mode in [0, 0o555] {
        chmod(&there, mode);
        let ran = sandbox.maqet(&["start", "@web"]).fails(1);
        let ran = ran.saying("cannot delete").saying("chmod u+");
        assert!(
            ran.stderr.contains(&*there.to_string_lossy()),
            "{}",
            ran.stderr
        );
    }
    chmod(&there, 0o755);
    sandbox
        .maqet(&["start", "@web"])
        .ok()
        .saying("which was cut short, is undone");
    assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
}
