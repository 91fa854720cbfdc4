//! A disk whose image, or block device, is there already.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::DeviceName;
use crate::ops::operation::Work;
use crate::ops::{Error, Host, check};
use crate::vm::VmName;

use super::definition::{New, Settings, file_word};
use super::plug::{When, plug};
use super::{Error as Why, guard};

/// A disk that was attached.
#[derive(Clone, Debug, Serialize)]
pub struct Attached {
    /// The VM.
    pub vm: VmName,
    /// The disk.
    pub disk: DeviceName,
    /// Its image.
    pub file: PathBuf,
    /// The format of that, as QEMU calls it.
    pub format: &'static str,
    /// From when on the VM has it.
    pub when: When,
}

/// Gives a VM a file or block device as a disk, which stays where it is and is not changed.
///
/// # Errors
/// [`Why::Unfit`]; [`Why::Needed`] when it would be written and others have it or stand on it.
pub fn attach(
    host: &Host,
    name: &VmName,
    disk: &DeviceName,
    settings: &Settings,
    file: &std::path::Path,
) -> Result<Attached, Error> {
    let _work = Work::take(host, name)?;
    let row = host.vm(name)?;
    let file = std::path::absolute(settings.dir.join(file))
        .map_err(Error::io("cannot tell the current directory"))?;
    let mut settings = settings.clone();
    settings.words.insert(0, file_word(&file)?);
    let new = New::read(host, &row, disk, &settings)?;
    let it = &new.it;
    if let Some(why) = check::unusable(&it.path, it.disk.read_only) {
        return Err(Error::NotADisk {
            disk: disk.to_string(),
            path: it.path.clone(),
            why,
        });
    }
    check::not_printed(host, &row, &new.config, disk)?;
    guard::format(it)?;
    let below = it.chain().sound().map_err(|fault| Why::Unfit {
        file: it.path.clone(),
        fault,
    })?;
    let others = guard::others(host, &it.path, name, disk)?;
    // Readers do not mind each other.
    let in_way = match it.disk.read_only {
        true => others
            .into_iter()
            .filter(|user| !user.as_base && !user.read_only)
            .collect(),
        false => others,
    };
    if !in_way.is_empty() {
        return Err(Why::Needed {
            file: it.path.clone(),
            users: in_way,
        }
        .into());
    }
    for base in below.iter().skip(1) {
        guard::not_written(host, &base.path)?;
    }
    new.keep(host, &row)?;
    if let Some(warning) = check::taken_for_raw(it) {
        (host.tell)(&warning);
    }
    Ok(Attached {
        when: plug(host, name, disk)?,
        vm: name.clone(),
        disk: disk.clone(),
        file: it.path.clone(),
        format: it.disk.format.as_str(),
    })
}
