//! The image of a running VM's disk, copied by QEMU into another one that the disk is to go
//! on in.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use crate::config::{Board, DetectZeroes, Discard, VmConfig};
use crate::image::{self, Link, Progress, Watch};
use crate::ops::block_job::{self, bring_to_rest, is_going_on, job_id, set_running, until_ready};
use crate::ops::operation::{Id, Plan as AnyPlan, Work};
use crate::ops::{Error, Host};
use crate::qemu::disk;
use crate::qmp::{Client, Job, Monitor};
use crate::vm::VmName;

use super::add::record;
use super::plan::{Plan, finish_move, is_made};
use super::{Defined, Error as Why, Nodes, definition, other_image};

/// A disk of a running VM whose image can be copied while it is written to.
pub(super) struct Source<'a> {
    host: &'a Host,
    name: &'a VmName,
    it: &'a Defined,
    board: Board,
    nodes: Nodes,
    /// The image below it, by the name that QEMU has for it.
    base: Option<Link>,
    /// Whether zeroes are to take up no room in the copy.
    thin: bool,
}

impl<'a> Source<'a> {
    /// Looks at it in QEMU.
    ///
    /// # Errors
    /// [`Why::NotPlugged`]; [`Why::HasSnapshots`], which would not be in the copy;
    /// [`Error::Running`] of a disk that the guest only reads: QEMU would have to write to it.
    pub fn look(
        host: &'a Host,
        name: &'a VmName,
        it: &'a Defined,
        (board, thin): (Board, bool),
        monitor: &mut Client,
    ) -> Result<Self, Error> {
        if it.disk.read_only {
            return Err(Error::Running(name.clone()));
        }
        let nodes = Nodes::of(monitor, name, it)?;
        let image = &nodes.said["image"];
        let snapshots = image["snapshots"].as_array().map_or(0, Vec::len);
        if snapshots > 0 {
            return Err(Why::HasSnapshots {
                vm: name.clone(),
                file: it.path.clone(),
                count: snapshots as u32,
                runs: true,
            }
            .into());
        }
        // What a disk stands on is named as QEMU has it, so that both are one to it.
        let text = |key: &str| image[key].as_str().map(str::to_owned);
        let path = text("full-backing-filename").or(text("backing-filename"));
        let base = path.map(|path| Link {
            path: path.into(),
            format: text("backing-filename-format").unwrap_or_else(|| "raw".to_owned()),
        });
        Ok(Self {
            host,
            name,
            it,
            board,
            base: base.filter(|_| nodes.backing.is_some()),
            nodes,
            thin,
        })
    }

    /// Makes an empty image of the same size and kind in a file that will be called `path`.
    pub fn make_empty(&self, file: &Path, path: &Path) -> Result<(), Error> {
        let made = image::Empty {
            format: self.it.disk.format.as_str(),
            size: self.nodes.size().unwrap_or_default(),
            cluster_size: self.nodes.said["image"]["cluster-size"].as_u64(),
            backing: self.base.as_ref(),
        };
        Ok(image::create_unopened(file, path, made)?)
    }

    /// Has QEMU copy all that is in the image into the empty one at `path`, and all that is
    /// written meanwhile. At the end the guest is halted, and both are the same.
    pub fn copy(
        &self,
        mut monitor: Box<Monitor>,
        id: Id,
        path: &Path,
        watch: Watch<'_>,
    ) -> Result<Box<Monitor>, Error> {
        let node = disk::layer_name(&disk::id(&self.it.name), id.0);
        let image = (path, self.it.disk.format);
        let backing = self.nodes.backing.as_deref();
        let mut it = self.it.clone();
        if self.thin {
            // It stays so until the next start.
            it.disk.detect_zeroes = match it.disk.discard {
                Discard::Unmap => DetectZeroes::Unmap,
                Discard::Ignore => DetectZeroes::On,
            };
        }
        let arguments = other_image(&it, self.board, image, &node, backing);
        monitor.execute("blockdev-add", arguments)?;
        let mut arguments = json!({
            "job-id": job_id(id, 0),
            "device": self.nodes.root,
            "target": node,
            // Of an image that stands on nothing that is all, and the copy is not zeroed before.
            "sync": "top",
            "auto-dismiss": false,
        });
        if self.nodes.root != self.nodes.image {
            // Limits stay above it.
            arguments["replaces"] = json!(self.nodes.image);
        }
        monitor.execute("blockdev-mirror", arguments)?;
        let ids = [job_id(id, 0)];
        let (host, name) = (self.host, self.name);
        monitor = until_ready(host, name, monitor, &ids, &mut shown(watch))?;
        bring_to_rest(&mut monitor, &ids)?;
        Ok(monitor)
    }

    /// Has QEMU go on in the copy, and let go of the image.
    pub fn switch(&self, monitor: &mut Client, id: Id) -> Result<(), Error> {
        block_job::complete(monitor, &[job_id(id, 0)])?;
        block_job::close(monitor, self.nodes.file().unwrap_or_default())
    }
}

/// Has a disk of a running VM go on in a copy of its image at `to`, where no file is; the
/// image is deleted. Of a `thin` copy, zeroes take up no room.
pub(super) fn relocate(
    host: &Host,
    work: &Work<'_>,
    mut monitor: Box<Monitor>,
    (config, it): (&VmConfig, &Defined),
    (to, thin): (&Path, bool),
    watch: Watch<'_>,
) -> Result<(), Error> {
    let (name, disk, from) = (&config.name, &it.name, &it.path);
    let failed = |path: &Path| Error::io(format!("cannot look at {}", path.display()));
    let source = Source::look(host, name, it, (config.board(), thin), &mut monitor)?;
    let metadata = fs::metadata(from).map_err(failed(from))?;
    image::require(to, metadata.blocks() * 512)?;
    // What follows from the name of a file may not follow from another.
    let values = [
        ("file", definition::text(to)?.into()),
        ("format", it.disk.format.as_str().into()),
    ];
    let identity = image::identity(from).map_err(failed(from))?;
    let made = is_made(host, name, from)?;
    let was_running = is_going_on(&mut monitor)?;
    let plan = AnyPlan::Disk(Plan::Move {
        disk: disk.clone(),
        from: from.clone(),
        to: to.to_owned(),
        made,
        identity: identity.clone(),
        was_running: Some(was_running),
    });
    let target = Defined {
        path: to.to_owned(),
        ..it.clone()
    };
    work.perform_beside(&plan, |id| {
        image::place(to, id.0, |unfinished| {
            source.make_empty(unfinished, to)?;
            fs::set_permissions(unfinished, metadata.permissions()).map_err(failed(unfinished))?;
            record(host, name, &target, unfinished)
        })?;
        monitor = source.copy(monitor, id, to, watch)?;
        definition::point(host, name, disk, &values)?;
        source.switch(&mut monitor, id)?;
        set_running(&mut monitor, was_running)?;
        drop(monitor);
        finish_move(host, name, (from, to), &identity, made)?;
        Ok(host.store()?.end_operation(id.0)?)
    })
}

/// Shows what a job does to someone who watches a disk.
fn shown(watch: Watch<'_>) -> impl FnMut(&Job) -> bool {
    |job: &Job| {
        watch(Progress {
            step: "copy",
            done: job.progress().unwrap_or_default(),
        })
    }
}

/// Brings what an operation has left in a running QEMU to its end: the disk goes on in the
/// copy at `to` if it `is_to`, and in the image at `from` if not, or if QEMU cannot. Whether
/// it is in the copy.
pub(super) fn settle(
    monitor: &mut Client,
    id: Id,
    it: &str,
    (from, to): (&Path, &Path),
    is_to: bool,
) -> Result<bool, Error> {
    block_job::end(monitor, id, is_to)?;
    let nodes = Nodes::find(monitor, it)?;
    let is_in = nodes.is_some_and(|nodes| nodes.file() == to.to_str());
    let left = if is_in { from } else { to };
    block_job::close(monitor, left.to_str().unwrap_or_default())?;
    Ok(is_in)
}
