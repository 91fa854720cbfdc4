//! An image without what takes up room for nothing.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::DeviceName;
use crate::image::{self, Conversion, Watch};
use crate::ops::add::made_disk;
use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host};
use crate::vm::VmName;

use super::plan::{Plan, is_made};
use super::{definition, find, guard, live};

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
/// it stays below it. While the VM runs, the new one gets another name, beside the old one.
///
/// # Errors
/// [`Why::HasSnapshots`](super::Error::HasSnapshots), which would be lost.
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
    let reach = guard::reach(&work, host, name)?;
    let from = taken(&it.path)?;
    if let Reach::Running(monitor) = reach {
        let file = free_name(&it.path);
        image::require_place(&file)?;
        live::relocate(host, &work, monitor, (&config, &it), (&file, true), watch)?;
        return Ok(Compacted {
            vm: name.clone(),
            disk: disk.clone(),
            from,
            to: taken(&file)?,
            file,
        });
    }
    // A link is not to become a file.
    let path = it.path.canonicalize().map_err(Error::io(format_args!(
        "cannot look at {}",
        it.path.display()
    )))?;
    definition::text(&path)?;
    image::require_place(&path)?;
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
            // By whatever name it is opened, what is below it is to be found.
            image::convert(conversion, file, &it.path, watch)
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
        from,
        to: taken(&path)?,
        file: path,
    })
}

/// What a file takes up on the host, in bytes.
fn taken(file: &Path) -> Result<u64, Error> {
    let metadata = file.metadata();
    let failed = Error::io(format!("cannot look at {}", file.display()));
    Ok(metadata.map_err(failed)?.blocks() * 512)
}

/// A name beside an image that no file has: its own with a number.
fn free_name(image: &Path) -> PathBuf {
    let stem = image.file_stem().unwrap_or_default().to_string_lossy();
    // It may have one already.
    let stem = match stem.rsplit_once('.') {
        Some((stem, number)) if number.parse::<u32>().is_ok() => stem,
        _ => &stem,
    };
    let suffix = image.extension().unwrap_or_default().to_string_lossy();
    let dot = if suffix.is_empty() { "" } else { "." };
    let names = (1..).map(|n| image.with_file_name(format!("{stem}.{n}{dot}{suffix}")));
    let mut free = names.filter(|path| path.symlink_metadata().is_err());
    free.next().expect("there are more numbers than files")
}
