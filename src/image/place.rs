//! Files that are there whole or not at all.

use std::fmt::Display;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::paths::create_private_dir;

use super::Error;

/// The name of a file that is to be at `path`, until it is finished: in the same
/// directory, and with `tag`, which nobody else uses.
pub fn unfinished(path: &Path, tag: impl Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{tag}.unfinished"));
    PathBuf::from(name)
}

/// Has a file made under its unfinished name, and gives it the name `path` when it is
/// whole and on the disk. Never takes the place of a file that is there.
pub fn place<T, E: From<Error>>(
    path: &Path,
    tag: impl Display,
    make: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    // Unlike rename(2), link(2) fails where a file is.
    put(path, tag, make, |unfinished, path| {
        fs::hard_link(unfinished, path)
    })
}

/// The same, in the place of the file that is there.
pub fn replace<T, E: From<Error>>(
    path: &Path,
    tag: impl Display,
    make: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    put(path, tag, make, |unfinished, path| {
        fs::set_permissions(unfinished, fs::metadata(path)?.permissions())?;
        fs::rename(unfinished, path)
    })
}

fn put<T, E: From<Error>>(
    path: &Path,
    tag: impl Display,
    make: impl FnOnce(&Path) -> Result<T, E>,
    name: impl FnOnce(&Path, &Path) -> std::io::Result<()>,
) -> Result<T, E> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    create_private_dir(dir).map_err(Error::file("make", path))?;
    let unfinished = unfinished(path, tag);
    let named = make(&unfinished).and_then(|made| {
        let synced = File::open(&unfinished).and_then(|file| file.sync_all());
        synced
            .and_then(|()| name(&unfinished, path))
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(Error::file("make", path))?;
        Ok(made)
    });
    // It is a second name of the image by now, or of no use.
    let _ = fs::remove_file(&unfinished);
    named
}
