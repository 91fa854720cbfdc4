//! How much room a file system has.

use std::path::Path;

use super::Error;

/// The room that this user has where `path` is or would be, in bytes; `None` where
/// the file system does not count.
pub fn free(path: &Path) -> Result<Option<u64>, Error> {
    let mut dirs = path.ancestors().filter(|dir| dir.is_dir());
    let dir = dirs.next().unwrap_or(Path::new("/"));
    let stat =
        rustix::fs::statvfs(dir).map_err(|error| Error::file("look at", dir)(error.into()))?;
    // A tmpfs without a limit has no blocks.
    Ok((stat.f_blocks > 0).then(|| stat.f_bavail * stat.f_frsize))
}

/// Fails if there is less room than that, in bytes.
pub fn require(path: &Path, needed: u64) -> Result<(), Error> {
    match free(path)? {
        Some(free) if free < needed => Err(Error::NoSpace {
            dir: path.parent().unwrap_or(path).to_owned(),
            needed,
            free,
        }),
        _ => Ok(()),
    }
}
