//! Where the data of an image is, and how much room a copy of it takes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use super::tool::Tool;

/// A part of a disk that is of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Where it begins on the disk, in bytes.
    pub start: u64,
    /// In bytes.
    pub length: u64,
    /// Which image of the chain has it: 0 the disk's own, 1 its backing file, and so on.
    pub depth: u32,
    /// Whether it reads as zeroes.
    pub zero: bool,
    /// Whether it takes up room.
    pub data: bool,
    /// Where it begins in the image, in bytes, if it is there as it is.
    #[serde(default)]
    pub offset: Option<u64>,
    /// The image, if `offset` is in one.
    #[serde(default)]
    pub filename: Option<PathBuf>,
}

/// All parts of a disk, from its beginning.
pub fn map(path: &Path, format: &str) -> Result<Vec<Extent>, Error> {
    let tool = Tool::new("map", "read", path).args(["--output=json", "-f", format]);
    answer(path, &tool.file(path)?.run()?)
}

/// How much room a copy would take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measure {
    /// As much as there is now.
    pub required: u64,
    /// Every byte of the disk.
    pub fully_allocated: u64,
}

/// Measures a copy in format `to`, of the image and those below it. A running QEMU may have
/// it: what that has not written yet is not counted.
pub fn measure(path: &Path, format: &str, to: &str) -> Result<Measure, Error> {
    let tool = Tool::new("measure", "read", path);
    let tool = tool.args(["--output=json", "-U", "-f", format, "-O", to]);
    answer(path, &tool.file(path)?.run()?)
}

fn answer<T: for<'a> Deserialize<'a>>(path: &Path, said: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(said).map_err(|error| Error::Failed {
        doing: "read",
        path: path.to_owned(),
        words: format!("qemu-img gave no answer: {error}"),
    })
}
