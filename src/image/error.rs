use std::io;
use std::path::PathBuf;

use super::{Fault, Room};

/// Why something could not be done with an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// qemu-img could not be run.
    #[error("cannot run qemu-img")]
    Run(#[source] io::Error),
    /// qemu-img failed, in its own words.
    #[error("cannot {doing} {}: {words}", .path.display())]
    Failed {
        /// What was to be done with it.
        doing: &'static str,
        /// The image.
        path: PathBuf,
        /// What qemu-img said.
        words: String,
    },
    /// A file could not be read or written, or put in its place.
    #[error("cannot {doing} {}", .path.display())]
    File {
        /// What was to be done with it.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was called off; that was about this file.
    #[error("called off: nothing has changed")]
    Canceled(PathBuf),
    /// The file system has too little room, or the user's quota.
    #[error(
        "{}{} has room for {}, and {} are needed",
        if .room.by_quota { "your quota in " } else { "" }, .dir.display(), mebibytes(.room.bytes), mebibytes(*.needed)
    )]
    NoSpace {
        /// Where.
        dir: PathBuf,
        /// In bytes.
        needed: u64,
        /// How much there is.
        room: Room,
    },
    /// No file can be made or deleted in a directory.
    #[error("cannot make or delete files in {}", .dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is below the image is not as the image says.
    #[error(transparent)]
    Chain(#[from] Fault),
}

impl Error {
    pub(super) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
