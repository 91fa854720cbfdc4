//! An image without what takes up room for nothing.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::Serialize;

use crate::config::DeviceName;
use crate::image::{self, Conversion, Watch};
use crate::ops::add::made_disk;
use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::plan::{Plan, is_made};
use super::{definition, find, guard};

/// A disk that was compacted.
#[derive(Clone, Debug, Serialize)]
pub struct Compacted {
    /// The VM.
    pub vm: VmName,
    /// The disk.
    pub disk: DeviceName,
    /// Its image.
    pub file: PathBuf,
    /// What it took up on the host, in bytes.
    pub from: u64,
    /// What it takes up, in bytes.
    pub to: u64,
}

/// Writes the image of a disk anew, without zeroes and what was given back; what is below
/// it stays below it.
///
/// # Errors
/// [`Error::Running`]; [`Why::HasSnapshots`](super::Error::HasSnapshots), which would be lost.
pub fn compact(
    host: &Host,
    name: &VmName,
    disk: &DeviceName,
    watch: Watch<'_>,
) -> Result<Compacted, Error> {
    let work = Work::take(host, name)?;
    let config = host.config(&host.vm(name)?)?;
    let it = find(host, &config, disk)?;
    guard::file(&it, "rewrite")?;
    guard::writable(name, &it)?;
    let links = guard::sound(name, &it)?;
    guard::alone(host, name, &it)?;
    guard::no_snapshots(name, &it)?;
    let reach = guard::stopped(&work, host, name)?;
    let taken = || {
        let metadata = it.path.metadata();
        let metadata = metadata.map_err(Error::io(format_args!(
            "cannot look at {}",
            it.path.display()
        )))?;
        Ok::<u64, Error>(metadata.blocks() * 512)
    };
    let from = taken()?;
    // A link is not to become a file.
    let path = it.path.canonicalize().map_err(Error::io(format_args!(
        "cannot look at {}",
        it.path.display()
    )))?;
    definition::text(&path)?;
    image::require(&path, from)?;
    let made = is_made(host, name, &it.path)?;
    let plan = AnyPlan::Disk(Plan::Rewrite {
        disk: disk.clone(),
        file: path.clone(),
        made,
    });
    work.perform(&plan, reach, |id, _| {
        image::replace(&path, id.0, |file| {
            let conversion = Conversion {
                from: &links[0],
                format: it.disk.format.as_str(),
                backing: links.get(1),
                snapshot: None,
            };
            image::convert(conversion, file, &path, watch)
        })?;
        let mut store = host.store()?;
        if made {
            store.record_disk(name, &made_disk(&path)?)?;
        }
        Ok(store.end_operation(id.0)?)
    })?;
    Ok(Compacted {
        vm: name.clone(),
        disk: disk.clone(),
        file: path,
        from,
        to: taken()?,
    })
}
