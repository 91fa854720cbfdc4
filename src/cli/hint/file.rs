//! Hints about files and the room that there is for them.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::image::{self, room};

use super::quoted;

/// Of a file that could not be made or written, if it is for its rights or its directory's.
pub(super) fn unwritable(file: &Path) -> Option<String> {
    match image::require_writable(file) {
        Err(image::Error::Directory { dir, source }) => Some(of_directory(&dir, &source)),
        _ => match access(file, Access::READ_OK | Access::WRITE_OK) {
            Err(Errno::ACCESS) => Some(format!(
                "`chmod u+rw {}`, by whose it is, lets it be used",
                quoted(&file.to_string_lossy())
            )),
            _ => None,
        },
    }
}

/// Of something that found no room when it was begun already, in the words of strerror(3).
pub(in crate::cli) fn no_room(error: &anyhow::Error) -> Option<String> {
    let words: Vec<String> = error.chain().map(ToString::to_string).collect();
    let says = |text: &str| words.iter().any(|it| it.contains(text));
    if says("Disk quota exceeded") {
        return Some(by_quota());
    }
    says("No space left on device").then(no_space)
}

pub(super) fn no_space() -> String {
    "make room there: `df -h` shows how full it is".to_owned()
}

/// What to do where a file has no room.
pub(super) fn full(file: &Path) -> String {
    match room(file) {
        Ok(Some(room)) if room.by_quota => by_quota(),
        _ => format!(
            "the file system of {} is full: make room there",
            file.display()
        ),
    }
}

pub(super) fn by_quota() -> String {
    "your quota is used up: delete files of yours there, or have it raised; `quota -s` shows it"
        .to_owned()
}

pub(super) fn of_directory(dir: &Path, why: &io::Error) -> String {
    let shown = quoted(&dir.to_string_lossy());
    match why.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "it is mounted read-only: `mount -o remount,rw \"$(stat -c %m {shown})\"`, as root, ends that"
            )
        }
        _ if stat(dir).is_ok_and(|it| it.st_uid != geteuid().as_raw()) => {
            format!("{shown} is another user's: another directory may be yours")
        }
        // Without that, nothing in it can be named.
        _ if access(dir, Access::EXEC_OK).is_err() => {
            format!("`chmod u+rwx {shown}`, by whose it is, lets it be used")
        }
        _ => format!("`chmod u+w {shown}`, by whose it is, lets it be written"),
    }
}

/// Of a path that can name no file.
pub(super) fn of_path(path: &Path, why: &io::Error) -> Option<String> {
    match why.kind() {
        io::ErrorKind::NotADirectory => {
            // Without a slash at its end.
            let path: PathBuf = path.components().collect();
            let mut above = path.ancestors().skip_while(|it| !it.exists());
            let file = above.next().filter(|it| !it.is_dir())?;
            Some(format!("{} is not a directory", file.display()))
        }
        io::ErrorKind::InvalidFilename => Some(
            "most file systems take names of 255 bytes, and until it is finished, its name has up \
             to 40 more: give it a shorter one"
                .to_owned(),
        ),
        io::ErrorKind::NotFound if path.to_string_lossy().ends_with('/') => Some(format!(
            "`mkdir {}` makes that directory",
            quoted(&path.to_string_lossy())
        )),
        _ => None,
    }
}
