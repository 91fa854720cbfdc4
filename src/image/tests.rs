use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::*;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn link(&self, name: &str, format: &str) -> Link {
        Link {
            path: self.path(name),
            format: format.to_owned(),
        }
    }

    /// Writes the byte `pattern` to a part of a disk, as a guest would.
    fn write(&self, link: &Link, pattern: u8, offset: u64, length: u64) {
        self.io(link, &format!("write -P {pattern} {offset} {length}"));
    }

    /// Fails unless that part has that byte.
    #[track_caller]
    fn assert_reads(&self, link: &Link, pattern: u8, offset: u64, length: u64) {
        let said = self.io(link, &format!("read -P {pattern} {offset} {length}"));
        assert!(!said.contains("failed"), "{said}");
    }

    #[track_caller]
    fn io(&self, link: &Link, command: &str) -> String {
        let done = Command::new("qemu-io")
            .args(["-f", &link.format, "-c", command])
            .arg(&link.path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{command}: {said}");
        said
    }

    /// Names of files that there are.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

#[track_caller]
fn assert_clean(link: &Link) {
    let checked = check(&link.path, &link.format).unwrap();
    assert!(checked.is_sound(), "{checked:?}");
}

/// Fails unless both read the same, with what is below them.
#[track_caller]
fn assert_same(a: &Link, b: &Link) {
    let compared = Command::new("qemu-img")
        .args(["compare", "-q", "-f", &a.format, "-F", &b.format])
        .args([&a.path, &b.path])
        .status();
    assert!(compared.unwrap().success(), "{a:?} and {b:?} differ");
}

fn copy(from: &Link, format: &str, to: &Link, watch: Watch<'_>) -> Result<(), Error> {
    let conversion = Conversion {
        from,
        format,
        backing: None,
        snapshot: None,
    };
    place(&to.path, "7", |file| {
        convert(conversion, file, &to.path, watch)
    })
}

#[test]
fn an_image_is_copied_whole_with_what_is_below_it_or_not_at_all() {
    let dir = Dir::new();
    let (base, over) = (dir.link("base", "qcow2"), dir.link("a,b: c", "qcow2"));
    create(&base.path, "qcow2", 8 << 20).unwrap();
    dir.write(&base, 1, 0, 1 << 20);
    create_overlay(&over.path, &over.path, &base, None, false).unwrap();
    dir.write(&over, 2, 1 << 20, 1 << 20);
    for format in ["raw", "qcow2"] {
        let to = dir.link(&format!("copy.{format}"), format);
        let mut heard = Vec::new();
        let mut watch = |progress: Progress| {
            heard.push(progress.done);
            true
        };
        copy(&over, format, &to, &mut watch).unwrap();
        assert!(heard.is_sorted(), "{heard:?}");
        assert_same(&over, &to);
        assert_clean(&to);
    }
    let files = dir.files();
    // Nothing is overwritten, and nothing left.
    let taken = dir.link("copy.raw", "raw");
    let before = fs::read(&taken.path).unwrap();
    let error = copy(&base, "raw", &taken, &mut unwatched).unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
    assert!(fs::read(&taken.path).unwrap() == before);
    let error = copy(&over, "raw", &dir.link("off", "raw"), &mut |_| false).unwrap_err();
    assert!(matches!(error, Error::Canceled(_)), "{error}");
    assert_eq!(dir.files(), files);

    // The copy of an overlay alone.
    let to = dir.link("over2", "qcow2");
    let conversion = Conversion {
        from: &over,
        format: "qcow2",
        backing: Some(&base),
        snapshot: None,
    };
    place(&to.path, "7", |file| {
        convert(conversion, file, &to.path, &mut unwatched)
    })
    .unwrap();
    assert_eq!(Chain::of(&to.path, "qcow2").sound().unwrap().len(), 2);
    assert_same(&over, &to);
    let mapped = map(&to.path, "qcow2").unwrap();
    assert_eq!(mapped[0].depth, 1);
    assert_eq!((mapped[1].start, mapped[1].depth), (1 << 20, 0));
}

#[test]
fn a_disk_grows_and_shrinks_only_when_told() {
    let dir = Dir::new();
    for format in ["raw", "qcow2"] {
        let disk = dir.link(format, format);
        create(&disk.path, format, 4 << 20).unwrap();
        dir.write(&disk, 3, 0, 4 << 20);
        resize(&disk.path, format, 8 << 20, false).unwrap();
        dir.assert_reads(&disk, 3, 0, 4 << 20);
        dir.assert_reads(&disk, 0, 4 << 20, 4 << 20);
        let error = resize(&disk.path, format, 1 << 20, false).unwrap_err();
        assert!(error.to_string().contains("--shrink"), "{error}");
        resize(&disk.path, format, 1 << 20, true).unwrap();
        let info = Info::of(&disk.path, format, Access::Alone).unwrap();
        assert_eq!(info.virtual_size, 1 << 20);
        assert_clean(&disk);
    }
}

#[test]
fn an_image_gets_another_base_or_none_and_reads_as_before() {
    let dir = Dir::new();
    let (base, other, over) = (
        dir.link("base", "qcow2"),
        dir.link("other", "qcow2"),
        dir.link("over", "qcow2"),
    );
    for link in [&base, &other] {
        create(&link.path, "qcow2", 4 << 20).unwrap();
    }
    dir.write(&base, 1, 0, 1 << 20);
    dir.write(&other, 9, 0, 2 << 20);
    create_overlay(&over.path, &over.path, &base, None, false).unwrap();
    dir.write(&over, 2, 2 << 20, 1 << 20);
    rebase(&over, Onto::Image(&other), &mut unwatched).unwrap();
    let links = Chain::of(&over.path, "qcow2").sound().unwrap();
    assert_eq!(links[1], other);
    dir.assert_reads(&over, 1, 0, 1 << 20);
    dir.assert_reads(&over, 0, 1 << 20, 1 << 20);
    dir.assert_reads(&over, 2, 2 << 20, 1 << 20);

    // Both are moved together, and then the base alone.
    let there = dir.path("there");
    fs::create_dir(&there).unwrap();
    for name in ["other", "over"] {
        fs::rename(dir.path(name), there.join(name)).unwrap();
    }
    let links = Chain::of(&there.join("over"), "qcow2").sound().unwrap();
    assert_eq!(links.len(), 2);
    for name in ["other", "over"] {
        fs::rename(there.join(name), dir.path(name)).unwrap();
    }
    let moved = dir.link("moved", "qcow2");
    fs::rename(&other.path, &moved.path).unwrap();
    assert!(Chain::of(&over.path, "qcow2").sound().is_err());
    rename_backing(&over, &moved).unwrap();
    dir.assert_reads(&over, 1, 0, 1 << 20);

    rebase(&over, Onto::Nothing, &mut unwatched).unwrap();
    assert_eq!(Chain::of(&over.path, "qcow2").sound().unwrap().len(), 1);
    dir.assert_reads(&over, 1, 0, 1 << 20);
    dir.assert_reads(&over, 2, 2 << 20, 1 << 20);
    assert_clean(&over);
}

#[test]
fn what_is_wrong_with_an_image_is_told_in_qemus_words_with_its_name() {
    let dir = Dir::new();
    let bad = dir.path("bad");
    fs::write(&bad, "no image").unwrap();
    let error = Info::of(&bad, "qcow2", Access::Alone).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("bad") && text.contains("qcow2"), "{text}");

    // A cluster that the table of reference counts does not know.
    let disk = dir.link("disk", "qcow2");
    create(&disk.path, "qcow2", 4 << 20).unwrap();
    dir.write(&disk, 1, 0, 1 << 20);
    assert_clean(&disk);
    let file = fs::OpenOptions::new().write(true).open(&disk.path).unwrap();
    use std::os::unix::fs::FileExt;
    // The block of reference counts is the third cluster of what `create` makes.
    file.write_all_at(&[0; 64], 2 << 16).unwrap();
    let checked = check(&disk.path, "qcow2").unwrap();
    assert!(checked.corruptions > 0, "{checked:?}");
    let repaired = repair(&disk.path, "qcow2").unwrap();
    assert!(
        repaired.is_sound() && repaired.corruptions_fixed > 0,
        "{repaired:?}"
    );
    dir.assert_reads(&disk, 1, 0, 1 << 20);

    let raw = dir.path("raw");
    fs::write(&raw, [0; 512]).unwrap();
    assert!(!check(&raw, "raw").unwrap().can_be_checked);
}

#[test]
fn snapshots_of_an_image_are_told() {
    let dir = Dir::new();
    let disk = dir.link("disk", "qcow2");
    create(&disk.path, "qcow2", 1 << 20).unwrap();
    let made = Command::new("qemu-img")
        .args(["snapshot", "-c", "2 days ago"])
        .arg(&disk.path)
        .status();
    assert!(made.unwrap().success());
    let info = Info::of(&disk.path, "qcow2", Access::Shared).unwrap();
    assert_eq!(info.snapshots.len(), 1);
    assert_eq!(info.snapshots[0].id, "1");
    assert_eq!(info.snapshots[0].name, "2 days ago");
    assert!(info.snapshots[0].time() <= std::time::SystemTime::now());
}

#[test]
fn room_is_counted_before_it_is_used() {
    let dir = Dir::new();
    let free = room(&dir.path("x/y")).unwrap().map(|room| room.bytes);
    let error = require(&dir.path("x"), u64::MAX).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    require(&dir.path("x"), free.unwrap_or_default() / 2).unwrap();
    let disk = dir.link("disk", "qcow2");
    create(&disk.path, "qcow2", 1 << 20).unwrap();
    let measured = measure(&disk.path, "qcow2", "qcow2").unwrap();
    assert!(measured.required < measured.fully_allocated);
}
