//! All that is known of a disk.

use serde::Serialize;
use serde_json::Value;

use crate::config::DeviceName;
use crate::image::{self, Access, Chain, Snapshot};
use crate::ops::device::ls::block_image;
use crate::ops::error::with_causes;
use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::ls::{Listed, look};
use super::{User, no_such, users};

/// One disk, with what its image stands on and who uses it.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// What a list tells, too.
    #[serde(flatten)]
    pub listed: Listed,
    /// Its own image and those below it, as far as they are there.
    pub chain: Vec<image::Info>,
    /// The snapshots in its own image.
    #[serde(rename = "snapshot_list")]
    pub snapshots: Vec<Snapshot>,
    /// All disks that have its image, or stand on it, this one included.
    pub users: Vec<User>,
}

/// Tells of the disks of a VM, or of one of them.
///
/// A running QEMU is asked; where none is, qemu-img.
pub fn info(host: &Host, name: &VmName, disk: Option<&DeviceName>) -> Result<Vec<Info>, Error> {
    let (listed, said) = look(host, name)?;
    let is_asked = |it: &Listed| disk.is_none_or(|disk| it.disk == disk.as_str());
    if let Some(disk) = disk
        && !listed.iter().any(is_asked)
    {
        let known = listed.iter().map(|it| it.disk.as_str());
        return Err(no_such(name, disk, known).into());
    }
    let asked = listed.into_iter().zip(said).filter(|(it, _)| is_asked(it));
    asked.map(|(it, said)| tell(host, it, &said)).collect()
}

fn tell(host: &Host, mut listed: Listed, said: &Value) -> Result<Info, Error> {
    let chain = match (&listed.file, said.is_null()) {
        (None, _) => Vec::new(),
        (Some(_), false) => running(said),
        (Some(_), true) => stopped(&mut listed),
    };
    let users = match &listed.file {
        Some(file) => users::of(host, file)?,
        None => Vec::new(),
    };
    let snapshots = chain.first().map(|image| image.snapshots.clone());
    Ok(Info {
        snapshots: snapshots.unwrap_or_default(),
        listed,
        chain,
        users,
    })
}

fn running(said: &Value) -> Vec<image::Info> {
    let mut chain = Vec::new();
    let mut image = block_image(said);
    while let Some(file) = image["filename"].as_str() {
        chain.extend(image::Info::read(file.as_ref(), image).ok());
        image = &image["backing-image"];
    }
    chain
}

fn stopped(listed: &mut Listed) -> Vec<image::Info> {
    let (Some(file), Some(format)) = (&listed.file, &listed.format) else {
        return Vec::new();
    };
    let mut chain = Vec::new();
    for link in Chain::of(file, format).links {
        match image::Info::of(&link.path, &link.format, Access::Shared) {
            Ok(image) => chain.push(image),
            Err(error) => {
                let words = with_causes(&error);
                listed.fault.get_or_insert(words);
                break;
            }
        }
    }
    if let Some(image) = chain.iter().find(|image| image.corrupt) {
        let words = format!("{} is marked as damaged", image.path.display());
        listed.fault.get_or_insert(words);
    }
    chain
}
