//! What a disk is made from: an image of whatever format, from wherever.
//!
//! It may be hostile. Nothing is read but the file itself: an image that names others, as
//! a backing file or for its data, would have them copied into the disk.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::image::{self, Access, Header, Info, Kind, Link, Watch};
use crate::ops::Error;

use super::Error as Why;

/// What a disk is made from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// What its SHA-256 must be, in hexadecimal digits.
    pub sha256: Option<String>,
    /// Its format, as QEMU calls it, if it is not to be told by the first bytes.
    pub format: Option<String>,
    /// Whether other files that it names are read, too.
    pub trusted: bool,
}

impl Source {
    /// Verifies the file, and what it says that it is.
    pub(super) fn check(&self, watch: Watch<'_>) -> Result<Kind, Error> {
        let failed = || Error::io(format!("cannot read {}", self.file.display()));
        if fs::metadata(&self.file).map_err(failed())?.is_dir() {
            return Err(failed()(std::io::ErrorKind::IsADirectory.into()));
        }
        let kind = Kind::of(&self.file).map_err(failed())?;
        if let Kind::Compressed(suffix) = kind
            && !matches!(suffix, "gz" | "xz" | "zst")
            && self.format.is_none()
        {
            return Err(Why::Unpack {
                file: self.file.clone(),
                suffix,
            }
            .into());
        }
        if let Some(expected) = &self.sha256 {
            let is = image::sha256(&self.file, watch)?;
            if !is.eq_ignore_ascii_case(expected) {
                return Err(Why::OtherSum {
                    file: self.file.clone(),
                    is,
                    expected: expected.clone(),
                }
                .into());
            }
        }
        Ok(kind)
    }

    /// The image itself: the file, or what it is unpacked to, at `unpacked`.
    pub(super) fn image(
        &self,
        kind: Kind,
        unpacked: &Path,
        watch: Watch<'_>,
    ) -> Result<Link, Error> {
        let (path, kind) = match (kind, &self.format) {
            // Said to be a disk as it is, whatever that looks like.
            (Kind::Compressed(_), Some(format)) if format == "raw" => (self.file.clone(), kind),
            (Kind::Compressed(suffix), _) => {
                let length = fs::metadata(&self.file).map(|file| file.len());
                image::require(unpacked, length.unwrap_or_default())?;
                image::unpack(&self.file, suffix, unpacked, watch)?;
                let kind = Kind::of(unpacked).map_err(Error::io(format_args!(
                    "cannot read {}",
                    unpacked.display()
                )))?;
                (unpacked.to_owned(), kind)
            }
            (kind, _) => (self.file.clone(), kind),
        };
        let format = match (&self.format, kind) {
            (Some(format), _) => format.clone(),
            (None, Kind::Compressed(suffix)) => {
                let file = self.file.clone();
                return Err(Why::Unpack { file, suffix }.into());
            }
            (None, kind) => kind.driver().unwrap_or("raw").to_owned(),
        };
        let link = Link { path, format };
        if !self.trusted {
            let names = other_files(&link)?;
            if !names.is_empty() {
                return Err(Why::Foreign {
                    file: self.file.clone(),
                    names: names.join(", "),
                }
                .into());
            }
        }
        Ok(link)
    }
}

/// The other files that an image names, found without opening them.
fn other_files(link: &Link) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let failed = || Error::io(format!("cannot read {}", link.path.display()));
    match link.format.as_str() {
        "raw" => return Ok(names),
        "qcow2" => {
            let header = Header::read(&link.path).map_err(failed())?;
            names.extend(header.backing);
            if header.has_data_file {
                names.push("a file with its data".to_owned());
            }
        }
        "vmdk" => names.extend(vmdk_extents(&link.path).map_err(failed())?),
        _ => {}
    }
    if names.is_empty() {
        let info = Info::of(&link.path, &link.format, Access::Alone)?;
        names.extend(info.backing);
        names.extend(info.data_file);
    }
    Ok(names)
}

/// The files of a VMDK descriptor that are not plain files beside it.
///
/// A line is `RW 20480 FLAT "disk-flat.vmdk" 0` (Virtual Disk Format 5.0, "The Extent
/// Description").
fn vmdk_extents(path: &Path) -> std::io::Result<Vec<String>> {
    let mut text = Vec::new();
    File::open(path)?.take(1 << 20).read_to_end(&mut text)?;
    if !text.starts_with(b"# Disk DescriptorFile") {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&text);
    let dir = path.parent().unwrap_or(Path::new("/"));
    let is_beside = |name: &str| {
        // Of a link, who knows where it leads.
        let is_file = |path: PathBuf| path.symlink_metadata().is_ok_and(|it| it.is_file());
        !name.contains(['/', ':']) && is_file(dir.join(name))
    };
    let extents = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let access = words.next()?;
        ["RW", "RDONLY", "NOACCESS"]
            .contains(&access)
            .then_some(())?;
        line.split('"').nth(1)
    });
    let names = extents.filter(|name| !is_beside(name));
    Ok(names.map(str::to_owned).collect())
}
