//! Disk images, mostly through qemu-img(1), while no QEMU has them open.
//!
//! A format is always said and never guessed by qemu-img, which would take the first
//! bytes of a raw disk, that its guest writes, for the header of an image.

mod chain;
mod check;
mod convert;
mod copy;
mod create;
mod error;
mod format;
mod header;
mod info;
mod map;
mod overlay;
mod place;
mod rebase;
mod resize;
pub mod snapshot;
mod space;
#[cfg(test)]
mod tests;
mod tool;
mod unpack;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

pub use chain::{Chain, Fault, Link};
pub use check::{Checked, check, is_locked, repair, repair_leaks, require_sound};
pub use convert::{Conversion, convert};
pub use copy::{copy, dig, is_same};
pub use create::{Empty, commit, create, create_at, create_unopened};
pub use error::Error;
pub use format::Kind;
pub use header::{Header, is_untouched};
pub use info::{Access, Info, Snapshot};
pub use map::{Extent, Measure, map, measure};
pub use overlay::create_overlay;
pub use place::{place, replace, unfinished};
pub use rebase::{Onto, put_back, rebase, rename_backing};
pub use resize::resize;
pub use space::{
    Room, is_absent, is_used_up, require, require_file_writable, require_place, require_writable,
    room,
};
pub use tool::{Progress, Watch, unwatched};
pub use unpack::{sha256, unpack};

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
