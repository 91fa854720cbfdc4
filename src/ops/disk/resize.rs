//! A disk of another size.

use std::str::FromStr;

use serde::Serialize;
use serde_json::json;

use crate::config::{DeviceName, InvalidSize, Size, VmConfig};
use crate::image::{self, Access, Info};
use crate::ops::operation::{Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host, save};
use crate::qmp;
use crate::vm::VmName;

use super::plan::Plan;
use super::{Error as Why, Nodes, definition, find, guard};

/// A size, or how much larger than now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// This one.
    Size(Size),
    /// Larger by this much.
    Larger(Size),
}

impl FromStr for To {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        Ok(match text.strip_prefix('+') {
            Some(more) => Self::Larger(more.parse()?),
            None => Self::Size(text.parse()?),
        })
    }
}

/// A disk that has another size.
#[derive(Clone, Debug, Serialize)]
pub struct Resized {
    /// The VM.
    pub vm: VmName,
    /// The disk.
    pub disk: DeviceName,
    /// What it had, in bytes.
    pub from: u64,
    /// What it has, in bytes.
    pub to: u64,
    /// Whether the guest was told.
    pub live: bool,
}

/// Gives a disk another size: at once, if the VM runs.
///
/// # Errors
/// [`Why::Shrinks`] without `shrink`, [`Why::Unaligned`] with it; [`Error::Running`] when it
/// is to shrink and the VM runs. What QEMU or qemu-img cannot do.
pub fn resize(
    host: &Host,
    name: &VmName,
    disk: &DeviceName,
    to: To,
    shrink: bool,
) -> Result<Resized, Error> {
    let work = Work::take(host, name)?;
    let row = host.vm(name)?;
    let config = host.config(&row)?;
    let it = find(host, &config, disk)?;
    guard::file(&it, "resize")?;
    guard::writable(name, &it)?;
    guard::sound(name, &it)?;
    guard::alone(host, name, &it)?;
    let mut reach = work.reach()?;
    save::require_none(host, name)?;
    let format = it.disk.format.as_str();
    let mut cluster = None;
    let (node, from) = match &mut reach {
        Reach::Running(monitor) => {
            let nodes = Nodes::of(monitor, name, &it)?;
            let size = nodes.size().unwrap_or_default();
            // The node of limits would have the size that it had.
            (nodes.root, size)
        }
        Reach::Stopped(_) => {
            let info = Info::of(&it.path, format, Access::Alone)?;
            cluster = info.cluster_size;
            (String::new(), info.virtual_size)
        }
    };
    let to = match to {
        To::Size(size) => size.bytes(),
        To::Larger(size) => from.saturating_add(size.bytes()),
    };
    let is_running = matches!(reach, Reach::Running(_));
    if to < from {
        if !shrink {
            let disk = disk.clone();
            return Err(Why::Shrinks { disk, from, to }.into());
        }
        if is_running {
            return Err(Error::Running(name.clone()));
        }
        // What was in the rest of the last cluster would be there again when it grows.
        if let Some(cluster) = cluster.filter(|cluster| !to.is_multiple_of(*cluster)) {
            let disk = disk.clone();
            return Err(Why::Unaligned { disk, to, cluster }.into());
        }
    }
    if cluster.is_some() && format == "qcow2" {
        image::require_sound(&it.path)?;
    }
    let plan = AnyPlan::Disk(Plan::Resize {
        disk: disk.clone(),
        to,
    });
    work.perform(&plan, reach, |id, reach| {
        match reach {
            _ if to == from => {}
            Reach::Running(monitor) => {
                let arguments = json!({ "node-name": node, "size": to });
                monitor
                    .execute("block_resize", arguments)
                    .map_err(|error| match error {
                        // Its device has not shared the right to that (block/block-backend.c).
                        qmp::Error::Refused { desc, .. } if desc.contains("'resize'") => {
                            Error::from(Why::Rigid {
                                vm: name.clone(),
                                disk: disk.clone(),
                            })
                        }
                        error => error.into(),
                    })?;
            }
            Reach::Stopped(_) => {
                image::resize(&it.path, format, to, to < from)?;
                if to < from {
                    // What is cut off, qemu-img does not always give back.
                    image::repair_leaks(&it.path, format)?;
                }
            }
        }
        follow(host, &config, disk, to)?;
        Ok(host.store()?.end_operation(id.0)?)
    })?;
    Ok(Resized {
        vm: name.clone(),
        disk: disk.clone(),
        from,
        to,
        live: is_running,
    })
}

/// Has the definition say the size of a disk, if it says one: by this it would be made anew.
pub(super) fn follow(
    host: &Host,
    config: &VmConfig,
    disk: &DeviceName,
    to: u64,
) -> Result<(), Error> {
    let said = config.disks.get(disk).and_then(|disk| disk.size);
    if said.is_some_and(|size| size.bytes() != to) {
        let size = Size::from_bytes(to).to_string();
        definition::point(host, &config.name, disk, &[("size", size.into())])?;
    }
    Ok(())
}
