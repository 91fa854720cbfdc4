//! Disk images, through qemu-img(1), while no QEMU has them open.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::paths::create_private_dir;

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// qemu-img could not be run.
    #[error("cannot run qemu-img")]
    Run(#[source] io::Error),
    /// qemu-img failed, in its own words.
    #[error("cannot make {}: {words}", .path.display())]
    Create {
        /// The image.
        path: PathBuf,
        /// What qemu-img said.
        words: String,
    },
    /// The finished image could not be put in its place.
    #[error("cannot make {}", .path.display())]
    Place {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What tells a file from another that takes its name, or after it its inode: the
/// inode's number, and where the file system knows it, the time of its birth.
pub fn identity(path: &Path) -> io::Result<String> {
    let metadata = fs::symlink_metadata(path)?;
    let born = metadata.created().ok();
    let born = born.and_then(|born| born.duration_since(SystemTime::UNIX_EPOCH).ok());
    Ok(format!(
        "{}:{}",
        metadata.ino(),
        born.map_or(0, |born| born.as_nanos())
    ))
}

/// Makes an empty image of `size` bytes, `format` as qemu-img names it.
///
/// The image appears at `path` whole or not at all, and never takes the place
/// of a file that is there.
pub fn create(path: &Path, format: &str, size: u64) -> Result<(), Error> {
    let place = |source| Error::Place {
        path: path.to_owned(),
        source,
    };
    if let Some(dir) = path.parent() {
        create_private_dir(dir).map_err(place)?;
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.unfinished", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    // qemu-img reads `a:b` as a protocol; an absolute path says that this is a file.
    let absolute = std::path::absolute(&unfinished).map_err(place)?;
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", format])
        .arg(&absolute)
        .arg(size.to_string())
        .output()
        .map_err(Error::Run)?;
    let result = if made.status.success() {
        // Unlike rename(2), link(2) fails where a file is.
        fs::hard_link(&unfinished, path).map_err(place)
    } else {
        let words = String::from_utf8_lossy(&made.stderr);
        let words = words.trim().trim_start_matches("qemu-img: ");
        Err(Error::Create {
            path: path.to_owned(),
            words: words
                .trim_start_matches(&*format!("{}: ", unfinished.display()))
                .to_owned(),
        })
    };
    // It is a second name of the image by now, or of no use.
    let _ = fs::remove_file(&unfinished);
    result
}
