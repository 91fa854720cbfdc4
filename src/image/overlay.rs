//! Empty qcow2 images on top of others, written as docs/interop/qcow2.txt in QEMU has them,
//! without a process of its own: of all that maqet makes, these are made most often.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::header::{BACKING_FORMAT, MAGIC, MAX_NAME};
use super::tool::{absolute, backing_name};
use super::{Access, Error, Header, Info, Link};

/// What qemu-img takes if it is not told.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;

/// What one entry of the first table is about: a cluster of entries of eight bytes each.
const BY_ENTRY: u64 = CLUSTER / 8 * CLUSTER;

/// No first table is longer in QEMU (`QCOW_MAX_L1_SIZE`).
const MAX_TABLE: u64 = 32 << 20;

/// The header of version 3, before its extensions.
const HEADER: u32 = 104;

/// Makes an empty qcow2 image on top of another one, which a QEMU may have open, in a
/// file that is not there and will be called `path`, in the same directory. `size` in bytes,
/// that of the other one if it is not given.
///
/// `in_full` names a backing file in the same directory in full, too. A running QEMU that
/// puts the one on top of the other takes any other name for another file's.
pub fn create_overlay(
    file: &Path,
    path: &Path,
    backing: &Link,
    size: Option<u64>,
    in_full: bool,
) -> Result<(), Error> {
    let name = match in_full {
        true => absolute(&backing.path)?,
        false => backing_name(file, &backing.path)?,
    };
    let size = match size {
        Some(size) => size,
        None => virtual_size(backing)?,
    };
    write(file, name.as_os_str(), &backing.format, size).map_err(Error::file("make", path))
}

/// Size of the disk that is in an image, in bytes.
fn virtual_size(image: &Link) -> Result<u64, Error> {
    let path = &image.path;
    let size = match image.format.as_str() {
        "qcow2" => Header::read(path).map(|header| header.virtual_size),
        // Of a block device, too.
        "raw" => File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0))),
        format => return Ok(Info::of(path, format, Access::Shared)?.virtual_size),
    };
    size.map_err(Error::file("read", path))
}

fn write(file: &Path, backing: &OsStr, format: &str, size: u64) -> io::Result<()> {
    let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why.to_owned()));
    // A guest's disk has whole sectors.
    let Some(size) = size.checked_next_multiple_of(512) else {
        return wrong("the disk is too large for a qcow2 image");
    };
    let entries = size.div_ceil(BY_ENTRY);
    if entries * 8 > MAX_TABLE {
        return wrong("the disk is too large for a qcow2 image");
    }
    let backing = backing.as_bytes();
    if backing.len() > MAX_NAME {
        return wrong("the name of its backing file is longer than 1023 bytes");
    }
    // One cluster each of the header, the table of tables of reference counts, and of
    // those; then the first table, in which nothing is allocated.
    let table = (entries * 8).div_ceil(CLUSTER);
    let (counts, count, first) = (CLUSTER, 2 * CLUSTER, 3 * CLUSTER);
    let name_at = HEADER as usize + 8 + format.len().next_multiple_of(8) + 8;
    let mut header = Vec::with_capacity(name_at + backing.len());
    header.extend(MAGIC);
    header.extend(3_u32.to_be_bytes());
    header.extend((name_at as u64).to_be_bytes());
    header.extend((backing.len() as u32).to_be_bytes());
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend([0; 4]); // not encrypted
    header.extend((entries as u32).to_be_bytes());
    header.extend(first.to_be_bytes());
    header.extend(counts.to_be_bytes());
    header.extend(1_u32.to_be_bytes());
    header.extend([0; 12]); // no snapshots
    header.extend([0; 24]); // no features
    header.extend(4_u32.to_be_bytes()); // reference counts have 1 << 4 bits
    header.extend(HEADER.to_be_bytes());
    header.extend(BACKING_FORMAT.to_be_bytes());
    header.extend((format.len() as u32).to_be_bytes());
    header.extend(format.as_bytes());
    header.resize(name_at, 0);
    header.extend(backing);
    let used = 3 + table;
    let file = OpenOptions::new().write(true).create_new(true).open(file)?;
    file.set_len(used * CLUSTER)?;
    file.write_all_at(&header, 0)?;
    file.write_all_at(&count.to_be_bytes(), counts)?;
    file.write_all_at(&[0, 1].repeat(used as usize), count)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;

    use serde_json::Value;

    use super::*;

    /// What qemu-img says; panics if it fails.
    #[track_caller]
    fn qemu_img(words: &[&str], files: &[&Path]) -> Vec<u8> {
        let done = Command::new("qemu-img").args(words).args(files).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{words:?} {files:?}: {done:?}");
        done.stdout
    }

    /// What `qemu-img info` says of an image, but for what it takes up and where it is.
    fn info(image: &Path) -> Value {
        let said = qemu_img(&["info", "-f", "qcow2", "--output=json"], &[image]);
        let mut said: Value = serde_json::from_slice(&said).unwrap();
        for key in ["filename", "actual-size", "children"] {
            said.as_object_mut().unwrap().remove(key);
        }
        said
    }

    /// Has qemu-img make the same image, and fails unless it says the same of both; ours.
    #[track_caller]
    fn assert_as_qemu_img(dir: &Path, backing: &Link, size: u64) -> PathBuf {
        let (ours, theirs) = (dir.join("ours"), dir.join("theirs"));
        for file in [&ours, &theirs] {
            let _ = fs::remove_file(file);
        }
        write(&ours, backing.path.as_os_str(), &backing.format, size).unwrap();
        let name = backing.path.to_str().unwrap();
        let words = ["create", "-q", "-u", "-f", "qcow2", "-F", &backing.format];
        let size = size.to_string();
        qemu_img(
            &[&words[..], &["-b", name]].concat(),
            &[&theirs, Path::new(&size)],
        );
        assert_eq!(info(&ours), info(&theirs), "{backing:?} {size}");
        let header = Header::read(&ours).unwrap();
        assert_eq!(header, Header::read(&theirs).unwrap());
        assert!(super::super::is_untouched(&ours).unwrap());
        ours
    }

    #[track_caller]
    fn assert_sound(image: &Path) {
        qemu_img(&["check", "-q", "-f", "qcow2"], &[image]);
    }

    #[test]
    fn an_overlay_is_as_qemu_img_makes_it_whatever_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let base = Link {
            path: dir.path().join("base"),
            format: "raw".to_owned(),
        };
        fs::write(&base.path, [7; 512]).unwrap();
        for size in [
            0,
            1,
            512,
            65_535,
            1 << 20,
            (512 << 20) - 512,
            512 << 20,
            (512 << 20) + 1,
            (2 << 40) + 12_345,
            // The first table needs a cluster, and one more.
            4 << 40,
            (4 << 40) + 512,
            100 << 40,
            2 << 50,
        ] {
            let ours = assert_as_qemu_img(dir.path(), &base, size);
            assert_sound(&ours);
        }
        let too_large = write(&dir.path().join("new"), "b".as_ref(), "raw", (2 << 50) + 1);
        assert_eq!(too_large.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let too_large = write(&dir.path().join("new"), "b".as_ref(), "raw", u64::MAX);
        assert_eq!(too_large.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(!dir.path().join("new").exists());
    }

    #[test]
    fn an_overlay_names_what_it_is_on_whatever_that_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let longest = format!("/{}", "long/".repeat(205))[..1023].to_owned();
        for name in [
            "b",
            "/a,b=c,,d",
            "/a b\n\"c\" 'd' \\",
            "/json:{}",
            "/nbd:x:1",
            "/Ĳë/ё",
            &longest,
        ] {
            for format in ["raw", "qcow2", "vmdk"] {
                let backing = Link {
                    path: name.into(),
                    format: format.to_owned(),
                };
                assert_as_qemu_img(dir.path(), &backing, 1 << 20);
            }
        }
        let new = dir.path().join("new");
        let error = write(&new, format!("{longest}x").as_ref(), "raw", 512).unwrap_err();
        assert!(error.to_string().contains("1023"), "{error}");
        assert!(!new.exists());
        // Nothing is overwritten.
        fs::write(&new, "mine").unwrap();
        let error = write(&new, "b".as_ref(), "raw", 512).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn an_overlay_reads_as_what_it_is_on_and_takes_writes() {
        let dir = tempfile::tempdir().unwrap();
        let io = |file: &Path, commands: &[&str]| {
            let mut qemu_io = Command::new("qemu-io");
            for command in commands {
                qemu_io.args(["-c", command]);
            }
            let done = qemu_io.args(["-f", "qcow2"]).arg(file).output().unwrap();
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            assert!(done.status.success(), "{commands:?}: {done:?}");
            assert!(!said.contains("failed"), "{said}");
        };
        let at = |name: &str| dir.path().join(name);
        // No whole sectors.
        fs::write(at("base.raw"), [7; 70_000]).unwrap();
        let mut below = Link {
            path: at("base.raw"),
            format: "raw".to_owned(),
        };
        for (name, in_full) in [("one", false), ("a, b:c", true), ("three", false)] {
            create_overlay(&at(name), &at(name), &below, None, in_full).unwrap();
            assert_eq!(Header::read(&at(name)).unwrap().virtual_size, 70_144);
            io(&at(name), &["read -P 7 0 68k"]);
            below = Link {
                path: at(name),
                format: "qcow2".to_owned(),
            };
        }
        io(&at("three"), &["write -P 9 1k 66k", "read -P 7 0 1k"]);
        io(&at("three"), &["read -P 9 1k 66k"]);
        io(&at("one"), &["read -P 7 0 68k"]);
        for name in ["one", "a, b:c", "three"] {
            assert_sound(&at(name));
        }
        // A disk at the end of which much is added.
        let large = at("large");
        create_overlay(&large, &large, &below, Some(3 << 40), false).unwrap();
        io(&large, &["write -P 5 2T 1M", "read -P 5 2T 1M"]);
        io(&large, &["read -P 9 1k 66k", "read -P 0 70144 1k"]);
        assert_sound(&large);
    }

    #[test]
    fn the_size_of_a_disk_is_that_which_qemu_img_tells() {
        let dir = tempfile::tempdir().unwrap();
        for format in ["raw", "qcow2", "vmdk"] {
            let image = Link {
                path: dir.path().join(format),
                format: format.to_owned(),
            };
            let words = ["create", "-q", "-f", format];
            qemu_img(&words, &[&image.path, Path::new("3M")]);
            assert_eq!(virtual_size(&image).unwrap(), 3 << 20, "{format}");
        }
    }
}
