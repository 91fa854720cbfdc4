//! What qemu-img(1) knows of one image.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use super::tool::Tool;

/// Whether someone else may have the image open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody may, and that is looked at.
    Alone,
    /// It does not matter: what is asked for may be a moment old.
    Shared,
}

/// One image, without those below it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Info {
    /// Its file.
    pub path: PathBuf,
    /// Its format, as QEMU calls it.
    pub format: String,
    /// Size of the disk, in bytes.
    pub virtual_size: u64,
    /// What it takes up on the host, in bytes; 0 for a block device.
    pub actual_size: u64,
    /// In bytes, for formats that have clusters.
    pub cluster_size: Option<u64>,
    /// The backing file, as the image names it.
    pub backing: Option<String>,
    /// Its format, as the image says.
    pub backing_format: Option<String>,
    /// The file that has the data, if that is another one.
    pub data_file: Option<String>,
    /// Internal snapshots.
    pub snapshots: Vec<Snapshot>,
    /// Whether the image was marked as damaged.
    pub corrupt: bool,
    /// Whether whoever had it open for writing did not come to its end.
    pub dirty: bool,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The files that a VMDK image is spread over.
    pub extents: Vec<String>,
}

/// An internal snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its number, unique in the image.
    pub id: String,
    /// Its name, which may be another one's number or name.
    pub name: String,
    /// How much of RAM and devices it has, in bytes; 0 for one of the disk alone.
    #[serde(rename(deserialize = "vm-state-size"))]
    pub vm_state_size: u64,
    /// When it was made, in seconds since 1970.
    #[serde(rename(deserialize = "date-sec"))]
    pub date: u64,
    /// How long the guest had run, in seconds.
    #[serde(rename(deserialize = "vm-clock-sec"))]
    pub vm_clock: u64,
}

impl Snapshot {
    /// When it was made.
    pub fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.date)
    }
}

/// QEMU's `ImageInfo`, which `query-named-block-nodes` answers with, too.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Answer {
    format: String,
    virtual_size: u64,
    #[serde(default)]
    actual_size: u64,
    cluster_size: Option<u64>,
    backing_filename: Option<String>,
    backing_filename_format: Option<String>,
    #[serde(default)]
    snapshots: Vec<Snapshot>,
    #[serde(default)]
    dirty_flag: bool,
    #[serde(default)]
    encrypted: bool,
    #[serde(default)]
    format_specific: Value,
}

impl Info {
    /// Asks qemu-img.
    pub fn of(path: &Path, format: &str, access: Access) -> Result<Self, Error> {
        let tool = Tool::new("info", "read", path).args(["--output=json", "-f", format]);
        let tool = match access {
            Access::Alone => tool,
            Access::Shared => tool.arg("-U"),
        };
        let said = tool.file(path)?.run()?;
        let said: Value = serde_json::from_slice(&said).unwrap_or_default();
        Self::read(path, &said).map_err(|error| Error::Failed {
            doing: "read",
            path: path.to_owned(),
            words: format!("qemu-img gave no answer: {error}"),
        })
    }

    /// Reads QEMU's `ImageInfo`.
    pub fn read(path: &Path, said: &Value) -> Result<Self, serde_json::Error> {
        let answer = Answer::deserialize(said)?;
        let specific = &answer.format_specific["data"];
        let extents = specific["extents"].as_array().into_iter().flatten();
        Ok(Self {
            extents: extents
                .filter_map(|extent| Some(extent["filename"].as_str()?.to_owned()))
                .collect(),
            data_file: specific["data-file"].as_str().map(str::to_owned),
            corrupt: specific["corrupt"] == true,
            path: path.to_owned(),
            format: answer.format,
            virtual_size: answer.virtual_size,
            actual_size: answer.actual_size,
            cluster_size: answer.cluster_size,
            backing: answer.backing_filename,
            backing_format: answer.backing_filename_format,
            snapshots: answer.snapshots,
            dirty: answer.dirty_flag,
            encrypted: answer.encrypted,
        })
    }
}
