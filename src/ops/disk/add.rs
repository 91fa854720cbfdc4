//! A new disk: its image in the VM's directory, its table in the definition.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{DeviceName, Format, Size, is_device_node};
use crate::image::{self, Checked, Conversion, Fault, Kind, Link, Watch};
use crate::ops::add::made_disk;
use crate::ops::operation::{Id, Plan as AnyPlan, Work};
use crate::ops::{Error, Host, check};
use crate::vm::VmName;

use super::definition::{New, Settings, file_word};
use super::plan::{Plan, remove, unpacked};
use super::plug::{When, plug};
use super::source::Source;
use super::{Defined, Error as Why};

/// How to make a disk.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its size; of one that is made from something, at least that of that.
    pub size: Option<Size>,
    /// What it is made from; empty without.
    pub from: Option<Source>,
    /// Keys of its table.
    pub settings: Settings,
}

/// A disk that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Added {
    /// The VM.
    pub vm: VmName,
    /// The disk.
    pub disk: DeviceName,
    /// Its image.
    pub file: PathBuf,
    /// The format of that, as QEMU calls it.
    pub format: &'static str,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// From when on the VM has it.
    pub when: When,
}

/// Makes a disk and plugs it, if the VM runs and its bus takes it.
///
/// # Errors
/// Whatever goes wrong, there is neither a new image nor another definition.
pub fn add(
    host: &Host,
    name: &VmName,
    disk: &DeviceName,
    options: &Options,
    watch: Watch<'_>,
) -> Result<Added, Error> {
    let work = Work::take(host, name)?;
    let row = host.vm(name)?;
    let mut settings = options.settings.clone();
    match (options.size, &options.from) {
        (_, Some(_)) => name_file(host, name, disk, &mut settings.words)?,
        (Some(size), None) => settings.words.insert(0, format!("size={size}")),
        (None, None) => {}
    }
    let new = New::read(host, &row, disk, &settings)?;
    let it = &new.it;
    if is_device_node(&it.path) {
        let doing = "make";
        let file = it.path.clone();
        return Err(Why::BlockDevice { doing, file }.into());
    }
    let is_there = it.path.symlink_metadata().is_ok();
    if is_there {
        return Err(Error::InTheWay(it.path.clone()));
    }
    // All that can be found wrong is found before anything is made.
    image::require_place(&it.path)?;
    check::not_printed(host, &row, &new.config, disk)?;
    let kind = match (&options.from, it.disk.size) {
        (Some(source), _) => Some(source.check(watch)?),
        (None, Some(_)) => None,
        (None, None) => {
            return Err(Why::Settings {
                disk: disk.clone(),
                message: "an empty disk needs a size".to_owned(),
            }
            .into());
        }
    };
    let plan = AnyPlan::Disk(Plan::Add {
        disk: disk.clone(),
        file: it.path.clone(),
    });
    let virtual_size = work.perform_beside(&plan, |id| {
        let size = match (&options.from, kind) {
            (Some(source), Some(kind)) => {
                let making = Making {
                    host,
                    name,
                    it,
                    id,
                    size: options.size,
                };
                making.from(source, kind, watch)?
            }
            _ => make_empty(host, name, it, id)?,
        };
        new.keep(host, &row)?;
        host.store()?.end_operation(id.0)?;
        Ok(size)
    })?;
    Ok(Added {
        when: plug(host, name, disk)?,
        vm: name.clone(),
        disk: disk.clone(),
        file: it.path.clone(),
        format: it.disk.format.as_str(),
        virtual_size,
    })
}

/// Has the definition name the image. One of which it said the size alone would be made anew,
/// and empty, if it was lost.
fn name_file(
    host: &Host,
    name: &VmName,
    disk: &DeviceName,
    words: &mut Vec<String>,
) -> Result<(), Error> {
    if words.iter().any(|word| word.starts_with("file=")) {
        return Ok(());
    }
    let mut said = words.iter().rev();
    let format = said.find_map(|word| word.strip_prefix("format="));
    let file = format!("{disk}.{}", format.unwrap_or(Format::Qcow2.as_str()));
    let file = host.paths.vm(name).path().join(file);
    words.insert(0, file_word(&file)?);
    Ok(())
}

fn make_empty(host: &Host, name: &VmName, it: &Defined, id: Id) -> Result<u64, Error> {
    let size = it.disk.size.map_or(0, Size::bytes);
    image::place(&it.path, id.0, |file| {
        image::create_at(file, &it.path, it.disk.format.as_str(), size)?;
        record(host, name, it, file)?;
        Ok::<_, Error>(size)
    })
}

/// Notes an image as made by maqet under the name that it is going to have.
pub(super) fn record(host: &Host, name: &VmName, it: &Defined, file: &Path) -> Result<(), Error> {
    let mut made = made_disk(file)?;
    made.path.clone_from(&it.path);
    Ok(host.store()?.record_disk(name, &made)?)
}

/// An image that is made from another.
struct Making<'a> {
    host: &'a Host,
    name: &'a VmName,
    it: &'a Defined,
    id: Id,
    size: Option<Size>,
}

impl Making<'_> {
    /// Makes it; its size in bytes.
    fn from(&self, source: &Source, kind: Kind, watch: Watch<'_>) -> Result<u64, Error> {
        let path = &self.it.path;
        let unpacked = unpacked(path, self.id);
        image::place(path, self.id.0, |file| {
            let made = self.convert(&source.image(kind, &unpacked, watch)?, source, file, watch);
            remove(&unpacked)?;
            let size = made?;
            record(self.host, self.name, self.it, file)?;
            Ok(size)
        })
        .inspect_err(|_| {
            // It would be found by the next command, too.
            let _ = remove(&unpacked);
        })
    }

    fn convert(
        &self,
        from: &Link,
        source: &Source,
        file: &Path,
        watch: Watch<'_>,
    ) -> Result<u64, Error> {
        let format = self.it.disk.format.as_str();
        let path = &self.it.path;
        // What is missing of it would be missing in the copy, too, and nobody would say so.
        let checked = match &*from.format {
            "raw" => Checked::default(),
            format => image::check(&from.path, format)?,
        };
        if checked.corruptions + checked.check_errors > 0 {
            return Err(Why::Unfit {
                file: source.file.clone(),
                fault: Fault::Unsound {
                    image: source.file.clone(),
                    places: checked.corruptions + checked.check_errors,
                },
            }
            .into());
        }
        let info = image::Info::of(&from.path, &from.format, image::Access::Alone)?;
        let size = self.size.map_or(info.virtual_size, Size::bytes);
        if size < info.virtual_size {
            return Err(Why::TooLarge {
                file: source.file.clone(),
                has: info.virtual_size,
                wanted: size,
            }
            .into());
        }
        // Of a raw copy, qemu-img counts the holes.
        let measured = image::measure(&from.path, &from.format, "qcow2")?;
        image::require(path, measured.required)?;
        let conversion = Conversion {
            from,
            format,
            backing: None,
            snapshot: None,
        };
        image::convert(conversion, file, path, watch)?;
        if size > info.virtual_size {
            image::resize(file, format, size, false)?;
        }
        Ok(size)
    }
}
