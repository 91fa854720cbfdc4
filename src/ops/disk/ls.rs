//! The disks of a VM, at a glance: no program is started for that.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{DeviceName, Disk, Interface};
use crate::image::{self, Chain, Header};
use crate::ops::device::ls::block_image;
use crate::ops::{Error, Host, live, monitor};
use crate::qemu::disk;
use crate::vm::VmName;

use super::nodes::device_of;

/// One disk, or drive.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// The VM.
    pub vm: VmName,
    /// What the definition calls it.
    pub disk: String,
    /// The image or device node; none in an empty drive.
    pub file: Option<PathBuf>,
    /// The format of that, as QEMU calls it.
    pub format: Option<String>,
    /// What the guest sees; `None` for one that the definition does not have.
    pub interface: Option<Interface>,
    /// Whether the guest may only read.
    pub read_only: bool,
    /// Size of the disk, in bytes.
    pub virtual_size: Option<u64>,
    /// What its own image takes up on the host, in bytes.
    pub actual_size: Option<u64>,
    /// The images below it, the next one first.
    pub bases: Vec<PathBuf>,
    /// How many snapshots its own image has.
    pub snapshots: u32,
    /// Whether the definition has it.
    pub defined: bool,
    /// Whether the VM runs, and has it.
    pub plugged: bool,
    /// Whether maqet made the image.
    pub made: bool,
    /// Whether it is a block device of the host.
    pub block_device: bool,
    /// What is wrong with its image, or with what that stands on.
    pub fault: Option<String>,
}

/// Lists the disks of a VM; those at the end are not in its definition.
pub fn ls(host: &Host, name: &VmName) -> Result<Vec<Listed>, Error> {
    Ok(look(host, name)?.0)
}

/// The same, with what a running QEMU says of each: an element of `query-block`.
pub(super) fn look(host: &Host, name: &VmName) -> Result<(Vec<Listed>, Vec<Value>), Error> {
    let row = host.vm(name)?;
    let config = host.config(&row)?;
    let dir = host.paths.vm(name);
    let made = host.store()?.made_disks(name)?;
    let mut blocks = blocks(host, name)?;
    let mut listed = Vec::new();
    let mut said = Vec::new();
    for (disk, defined) in &config.disks {
        let mut it = Listed::new(name, disk.as_str());
        it.interface = Some(defined.interface);
        it.read_only = defined.read_only;
        it.defined = true;
        let id = disk::id(disk);
        let at = blocks
            .iter()
            .position(|block| device_of(block) == Some(id.as_str()));
        match at.map(|at| blocks.remove(at)) {
            Some(block) => {
                it.take_running(&block);
                said.push(block);
            }
            None => {
                it.take_stopped(disk, defined, dir.path());
                said.push(Value::Null);
            }
        }
        listed.push(it);
    }
    for block in blocks {
        let Some(disk) = device_of(&block).and_then(|id| id.strip_prefix("disk-")) else {
            continue;
        };
        let mut it = Listed::new(name, disk);
        it.take_running(&block);
        listed.push(it);
        said.push(block);
    }
    for it in &mut listed {
        let Some(file) = &it.file else {
            continue;
        };
        let is_it = |made: &&crate::store::MadeDisk| made.path == *file;
        it.made = made.iter().find(is_it).is_some_and(|made| {
            image::identity(file).is_ok_and(|identity| identity == made.identity)
        });
        it.block_device = file
            .metadata()
            .is_ok_and(|metadata| metadata.file_type().is_block_device());
    }
    Ok((listed, said))
}

/// What a running QEMU says of its drives; nothing, if the VM does not run.
fn blocks(host: &Host, name: &VmName) -> Result<Vec<Value>, Error> {
    if !host.unit(name)?.active_state.is_up() {
        return Ok(Vec::new());
    }
    let mut monitor = match monitor::open(host, name, live::ANSWER) {
        // It waits for its restart, and nobody has its disks.
        Err(Error::NotRunning(_)) => return Ok(Vec::new()),
        other => other?,
    };
    let blocks = monitor.execute("query-block", ())?;
    Ok(match blocks {
        Value::Array(blocks) => blocks,
        _ => Vec::new(),
    })
}

impl Listed {
    fn new(vm: &VmName, disk: &str) -> Self {
        Self {
            vm: vm.clone(),
            disk: disk.to_owned(),
            file: None,
            format: None,
            interface: None,
            read_only: false,
            virtual_size: None,
            actual_size: None,
            bases: Vec::new(),
            snapshots: 0,
            defined: false,
            plugged: false,
            made: false,
            block_device: false,
            fault: None,
        }
    }

    fn take_running(&mut self, block: &Value) {
        self.plugged = true;
        let image = block_image(block);
        if image.is_null() {
            return;
        }
        self.read_only = block["inserted"]["ro"] == json!(true);
        self.file = image["filename"].as_str().map(PathBuf::from);
        self.format = image["format"].as_str().map(str::to_owned);
        self.virtual_size = image["virtual-size"].as_u64();
        self.actual_size = image["actual-size"].as_u64();
        let snapshots = image["snapshots"].as_array();
        self.snapshots = snapshots.map_or(0, Vec::len) as u32;
        let mut below = &image["backing-image"];
        while let Some(file) = below["filename"].as_str() {
            self.bases.push(file.into());
            below = &below["backing-image"];
        }
    }

    fn take_stopped(&mut self, name: &DeviceName, disk: &Disk, dir: &Path) {
        let Some(path) = disk.path(name, dir) else {
            return;
        };
        let format = disk.format.as_str();
        self.format = Some(format.to_owned());
        let chain = Chain::of(&path, format);
        self.fault = chain
            .fault
            .map(|fault| crate::ops::error::with_causes(&fault));
        let below = chain.links.into_iter().skip(1);
        self.bases = below.map(|link| link.path).collect();
        match format {
            "qcow2" => {
                if let Ok(header) = Header::read(&path) {
                    self.virtual_size = Some(header.virtual_size);
                    self.snapshots = header.snapshots;
                }
            }
            _ => self.virtual_size = length(&path).ok(),
        }
        let metadata = path.metadata();
        self.actual_size = metadata.map(|metadata| metadata.blocks() * 512).ok();
        self.file = Some(path);
    }
}

/// How long a file or a block device is, in bytes.
fn length(path: &Path) -> io::Result<u64> {
    File::open(path)?.seek(SeekFrom::End(0))
}
