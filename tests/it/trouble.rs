//! Images that are gone, damaged, in a circle or out of reach: found before anything is
//! changed, whatever was to be done.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sandbox::Sandbox;

/// What is done to VM `web`, which has disk `d`: `over.qcow2` on `base.qcow2`.
type Operation = &'static [&'static str];

/// Without snapshots.
const PLAIN: &[Operation] = &[
    &["snapshot", "create", "@web", "y"],
    &["snapshot", "create", "@web", "y", "--external"],
    &["clone", "@web", "@zoe"],
    &["clone", "@web", "@zoe", "--full"],
    &["disk", "resize", "@web", "d", "3M"],
    &["disk", "move", "@web", "d", "elsewhere.qcow2"],
    &["disk", "compact", "@web", "d"],
    &["disk", "rebase", "@web", "d", "images/other.qcow2"],
    &["disk", "rebase", "@web", "d", "--flat"],
    &["disk", "merge", "@web", "d", "--into", "images/base.qcow2"],
    &["start", "@web"],
];

/// With a snapshot within the image.
const WITHIN: &[Operation] = &[
    &["snapshot", "create", "@web", "y"],
    &["snapshot", "restore", "@web", "x"],
    &["snapshot", "rm", "@web", "x"],
    &["snapshot", "prune", "@web", "--keep", "0"],
    &["clone", "@web", "@zoe", "--full", "--snapshot", "x"],
];

/// With one beside it: the disk is in an overlay, `d.1.qcow2`.
const BESIDE: &[Operation] = &[
    &["snapshot", "restore", "@web", "x"],
    &["snapshot", "merge", "@web", "x"],
    &["clone", "@web", "@zoe", "--snapshot", "x"],
    &["clone", "@web", "@zoe", "--full", "--snapshot", "x"],
    &["disk", "compact", "@web", "d"],
];

/// Without snapshots, while it runs.
const LIVE: &[Operation] = &[
    &["snapshot", "create", "@web", "y"],
    &["snapshot", "create", "@web", "y", "--disk-only"],
    &["snapshot", "create", "@web", "y", "--external"],
    &["clone", "@web", "@zoe"],
    &["clone", "@web", "@zoe", "--full"],
    &["disk", "resize", "@web", "d", "3M"],
    &["disk", "move", "@web", "d", "elsewhere.qcow2"],
    &["disk", "compact", "@web", "d"],
    &["disk", "merge", "@web", "d", "--into", "images/base.qcow2"],
];

/// With one within the image.
const LIVE_WITHIN: &[Operation] = &[
    &["snapshot", "create", "@web", "y"],
    &["snapshot", "restore", "@web", "x"],
    &["snapshot", "restore", "@web", "x", "--reset"],
    &["snapshot", "rm", "@web", "x"],
    &["clone", "@web", "@zoe", "--full", "--snapshot", "x"],
];

/// With one beside it.
const LIVE_BESIDE: &[Operation] = &[
    &["snapshot", "restore", "@web", "x", "--reset"],
    &["snapshot", "merge", "@web", "x"],
    &["clone", "@web", "@zoe", "--snapshot", "x"],
    &["clone", "@web", "@zoe", "--full", "--snapshot", "x"],
    &["disk", "compact", "@web", "d"],
];

/// What a running VM is asked besides.
const SEEN_BY: &[Operation] = &[
    &["show", "@web"],
    &["snapshot", "ls", "@web", "--json"],
    &["qmp", "@web", "query-status"],
    &["qmp", "@web", "query-block-jobs"],
    &["qmp", "@web", "query-named-block-nodes", "flat=true"],
];

/// What is wrong.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    NoBase,
    NoImage,
    Circle,
    BaseIsJunk,
    ImageIsJunk,
    MarkedCorrupt,
    /// A part of the table of its clusters names none.
    Torn,
    UnreadableBase,
    UnreadableImage,
}

impl Trouble {
    /// Those that can come about while a QEMU has the images open.
    const LIVE: [Self; 5] = [
        Self::NoBase,
        Self::NoImage,
        Self::BaseIsJunk,
        Self::UnreadableBase,
        Self::UnreadableImage,
    ];

    /// Those that are seen without a look at all that is in an image.
    const SEEN: [Self; 8] = [
        Self::NoBase,
        Self::NoImage,
        Self::Circle,
        Self::BaseIsJunk,
        Self::ImageIsJunk,
        Self::MarkedCorrupt,
        Self::UnreadableBase,
        Self::UnreadableImage,
    ];
}

fn qemu_img(dir: &Path, args: &[&str]) {
    let ran = Command::new("qemu-img")
        .args(args)
        .current_dir(dir)
        .output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{args:?}: {ran:?}");
}

/// All files below a directory but maqet's own, with what is in them.
fn files(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files(&path, found);
        } else if !name.starts_with("maqet.db") && !name.ends_with(".lock") && name != "lock" {
            let content = fs::read(&path).unwrap_or_default();
            found.insert(path, content);
        }
    }
}

fn seen(sandbox: &Sandbox) -> (BTreeMap<PathBuf, Vec<u8>>, String) {
    let mut found = BTreeMap::new();
    files(sandbox.dir.path(), &mut found);
    let mut text = String::new();
    for args in SEEN_BY {
        text += &sandbox.maqet(args).stdout;
    }
    (found, text)
}

fn world(prepare: Operation, runs: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("images");
    fs::create_dir(&dir).unwrap();
    let create = ["create", "-q", "-f", "qcow2"];
    for name in ["base.qcow2", "other.qcow2"] {
        qemu_img(&dir, &[&create[..], &[name, "2M"]].concat());
    }
    let on = ["-F", "qcow2", "-b", "base.qcow2", "over.qcow2"];
    qemu_img(&dir, &[&create[..], &on].concat());
    for (byte, name) in [(1, "base.qcow2"), (2, "over.qcow2")] {
        crate::snapshot::write_as(&dir.join(name), "qcow2", byte);
    }
    sandbox.add_lines("web", "disk.d.file = 'images/over.qcow2'");
    if runs {
        sandbox.maqet(&["start", "@web"]).ok();
    }
    if !prepare.is_empty() {
        sandbox.maqet(prepare).ok();
    }
    sandbox
}

/// Brings a trouble about; the file that is named then.
fn bring_about(sandbox: &Sandbox, trouble: Trouble) -> &'static str {
    let dir = sandbox.path("images");
    let (base, over) = (dir.join("base.qcow2"), dir.join("over.qcow2"));
    let overwrite = |image: &Path, at: u64, bytes: &[u8]| {
        let image = fs::File::options().write(true).open(image).unwrap();
        image.write_all_at(bytes, at).unwrap();
    };
    let chmod = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    match trouble {
        Trouble::NoBase => fs::rename(base, sandbox.path("away")).unwrap(),
        Trouble::NoImage => fs::rename(over, sandbox.path("away")).unwrap(),
        Trouble::Circle => {
            let onto = ["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b"];
            qemu_img(&dir, &[&onto[..], &["over.qcow2", "base.qcow2"]].concat());
        }
        Trouble::BaseIsJunk => overwrite(&base, 0, b"junk"),
        Trouble::ImageIsJunk => overwrite(&over, 0, b"junk"),
        Trouble::MarkedCorrupt => overwrite(&over, 79, &[2]),
        Trouble::Torn => {
            let at = fs::read(&over).unwrap()[40..48].try_into().unwrap();
            overwrite(&over, u64::from_be_bytes(at), &[0x7f; 8]);
        }
        Trouble::UnreadableBase => chmod(&base, 0o000),
        Trouble::UnreadableImage => chmod(&over, 0o000),
    }
    match trouble {
        Trouble::NoBase | Trouble::Circle | Trouble::BaseIsJunk | Trouble::UnreadableBase => {
            "base.qcow2"
        }
        _ => "over.qcow2",
    }
}

/// Each of the operations is refused in any trouble, by the name of the file that is to be
/// mended, and with what mends it; and all is as it was.
#[track_caller]
fn refused(prepare: Operation, runs: bool, operations: &[Operation], troubles: &[Trouble]) {
    let mut wrong = Vec::new();
    for &it in troubles {
        let mut last = None;
        for operation in operations {
            let (sandbox, named) = last.take().unwrap_or_else(|| {
                let sandbox = world(prepare, runs);
                let named = bring_about(&sandbox, it);
                (sandbox, named)
            });
            let before = seen(&sandbox);
            let ran = sandbox.maqet(operation);
            let is_same = seen(&sandbox) == before;
            let is_told = [named, "hint: "].iter().all(|it| ran.stderr.contains(it));
            if ran.status != 1 || !is_told || !is_same {
                wrong.push(format!(
                    "{it:?}: {operation:?} ({}{}) {}{}",
                    ran.status,
                    if is_same { "" } else { ", changed" },
                    ran.stdout,
                    ran.stderr
                ));
            }
            if is_same {
                last = Some((sandbox, named));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_wrong_below_a_disk_is_found_before_anything_is_done_with_it() {
    refused(&[], false, PLAIN, &Trouble::SEEN);
}

#[test]
fn what_is_wrong_below_a_disk_is_found_before_anything_is_done_with_snapshots_in_it() {
    let create = &["snapshot", "create", "@web", "x"];
    refused(create, false, WITHIN, &Trouble::SEEN);
}

#[test]
fn what_is_wrong_below_a_disk_is_found_before_anything_is_done_with_snapshots_beside_it() {
    refused(
        &["snapshot", "create", "@web", "x", "--external"],
        false,
        BESIDE,
        &Trouble::SEEN,
    );
}

#[test]
fn what_is_wrong_below_a_disk_of_a_running_vm_is_found_before_anything_is_done() {
    refused(&[], true, LIVE, &Trouble::LIVE);
    // What was never let run is not saved.
    refused(
        &["resume", "@web"],
        true,
        &[&["save", "@web"]],
        &Trouble::LIVE,
    );
}

#[test]
fn what_is_wrong_below_a_disk_of_a_running_vm_is_found_before_anything_is_done_with_snapshots() {
    let within = &["snapshot", "create", "@web", "x"];
    refused(within, true, LIVE_WITHIN, &Trouble::LIVE);
    let beside = &["snapshot", "create", "@web", "x", "--external"];
    refused(beside, true, LIVE_BESIDE, &Trouble::LIVE);
}

#[test]
fn an_image_that_contradicts_itself_is_not_written_or_copied() {
    let torn = &[Trouble::Torn];
    let within = &["snapshot", "create", "@web", "x"];
    let beside = &["snapshot", "create", "@web", "x", "--external"];
    refused(within, false, &[WITHIN[0], WITHIN[1], WITHIN[2]], torn);
    refused(beside, false, &[BESIDE[1]], torn);
    let all = ["resize", "compact", "rebase"];
    let mut plain = PLAIN.to_vec();
    plain.retain(|it| it.contains(&"--full") || all.contains(&it[1]));
    refused(&[], false, &plain, torn);
}

/// What needs to write to a directory, which is named from `data/maqet`.
const BY_DIR: &[(&str, bool, Operation)] = &[
    (
        "vms/@",
        false,
        &["snapshot", "create", "@web", "y", "--external"],
    ),
    (
        "vms/@",
        false,
        &["disk", "add", "@web", "new", "--size", "1M"],
    ),
    (
        "vms/@",
        false,
        &["disk", "add", "@web", "new", "--from", "images/other.qcow2"],
    ),
    ("vms/@", false, &["clone", "@web", "@zoe"]),
    (
        "vms/@",
        false,
        &["disk", "move", "@web", "d", "data/maqet/vms/@"],
    ),
    ("vms/@", false, &["start", "@web"]),
    ("vms", false, &["clone", "@web", "@zoe"]),
    ("vms", false, &["clone", "@web", "@zoe", "--full"]),
    ("vms", false, &["rename", "@web", "@www"]),
    ("../../images", false, &["disk", "compact", "@web", "d"]),
    (
        "../../images",
        false,
        &["disk", "move", "@web", "d", "elsewhere.qcow2"],
    ),
    (
        "../../images",
        false,
        &["disk", "move", "@web", "d", "images/there.qcow2"],
    ),
    ("", false, &["snapshot", "create", "@web", "y"]),
    ("", false, &["disk", "add", "@web", "new", "--size", "1M"]),
    ("", false, &["set", "@web", "cpus=2"]),
    (
        "vms/@",
        true,
        &["snapshot", "create", "@web", "y", "--external"],
    ),
    (
        "vms/@",
        true,
        &["disk", "add", "@web", "new", "--size", "1M"],
    ),
    ("vms/@", true, &["clone", "@web", "@zoe"]),
    ("vms", true, &["clone", "@web", "@zoe", "--full"]),
    ("../../images", true, &["disk", "compact", "@web", "d"]),
    (
        "../../images",
        true,
        &["disk", "move", "@web", "d", "elsewhere.qcow2"],
    ),
    ("saved", true, &["save", "@web"]),
    ("", true, &["snapshot", "create", "@web", "y"]),
    ("vms/@", false, &["disk", "rm", "@web", "made", "--delete"]),
    ("vms/@", false, &["rm", "@web"]),
    ("vms/@", false, &["rm", "@web", "--disks"]),
    ("", false, &["rm", "@web", "--disks"]),
];

#[test]
fn a_directory_that_cannot_be_written_is_named_before_anything_is_done() {
    let mut wrong = Vec::new();
    let mut last: Option<(Sandbox, bool)> = None;
    for &(dir, runs, operation) in BY_DIR {
        let same = last.take().filter(|(_, ran)| *ran == runs);
        let (sandbox, _) = same.unwrap_or_else(|| {
            let prepare: Operation = if runs {
                &["resume", "@web"]
            } else {
                &["disk", "add", "@web", "made", "--size", "1M"]
            };
            (world(prepare, runs), runs)
        });
        let dir = sandbox
            .path("data/maqet")
            .join(dir.replace('@', &sandbox.name("web")));
        fs::create_dir_all(&dir).unwrap();
        let dir = dir.canonicalize().unwrap();
        let before = seen(&sandbox);
        fs::set_permissions(&dir, Permissions::from_mode(0o555)).unwrap();
        let ran = sandbox.maqet(operation);
        // It can be read all the same.
        let is_same = seen(&sandbox) == before;
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        let is_same = is_same && seen(&sandbox) == before;
        let mends = format!("`chmod u+w {}`", dir.display());
        let is_told = ran.stderr.contains(&mends);
        if ran.status != 1 || !is_told || !is_same {
            wrong.push(format!(
                "{operation:?} in {} ({}{}) {}{}",
                dir.display(),
                ran.status,
                if is_same { "" } else { ", changed" },
                ran.stdout,
                ran.stderr
            ));
        }
        if is_same {
            last = Some((sandbox, runs));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
