//! Merging overlays back into their images. The snapshot is gone then; the VM is as it is.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::config::{DeviceName, Size, VmConfig, is_device_node};
use crate::image::{self, Access, Chain, Info};
use crate::ops::block_job::{self, bring_to_rest, is_going_on, job_id, set_running, until_ready};
use crate::ops::disk::{self, Nodes};
use crate::ops::operation::{Id, Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Doing, Error, Host, Obstacle};
use crate::qemu;
use crate::qmp::{self, Client, Job, job};
use crate::store::Store;
use crate::vm::VmName;

use super::super::{Error as Why, Facts, no_such, nothing_in_the_way};
use super::{
    Overlay, Plan, Side, What, delete, find, is_named, nothing_within, others_above, path_of,
    point, unplugged,
};

/// A snapshot that was merged.
#[derive(Clone, Debug, Serialize)]
pub struct Merged {
    /// The VM.
    pub vm: VmName,
    /// The snapshot that is gone.
    pub name: String,
    /// The images that the disks are again.
    pub disks: Vec<PathBuf>,
}

/// Writes what was written since a snapshot into its images, while the VM runs or not, and
/// deletes the overlays.
///
/// `watch` is shown QEMU's jobs, and says whether to go on. If not, a running VM goes on in
/// the overlays; the snapshot cannot be restored any more, and be merged again.
///
/// # Errors
/// [`Why::NoSuch`]; [`Why::Obstacles`], such as another VM or snapshot that stands on an
/// image.
pub fn merge(
    host: &Host,
    vm: &VmName,
    name: &str,
    watch: &mut dyn FnMut(&Job) -> bool,
) -> Result<Merged, Error> {
    host.vm(vm)?;
    let begun = begun(host, vm, name)?;
    let work = Work::take(host, vm)?;
    let reach = work.reach()?;
    let Some((snapshot, facts)) = find(host, vm, name)? else {
        if let Some(disks) = begun {
            // That has come to its end just now.
            return Ok(Merged {
                vm: vm.clone(),
                name: name.to_owned(),
                disks,
            });
        }
        let all = host.store()?.snapshots(vm)?;
        let beside = all
            .into_iter()
            .filter(|it| Facts::of(it).is_ok_and(|facts| !facts.overlays.is_empty()));
        return match super::super::find(host, vm, name)? {
            Some(_) => Err(Why::Within {
                vm: vm.clone(),
                name: name.to_owned(),
            }
            .into()),
            None => Err(no_such(vm, name, beside.map(|it| it.name).collect()).into()),
        };
    };
    let config = host.config(&host.vm(vm)?)?;
    let mut overlays = facts.overlays.clone();
    // QEMU may have come to go on in some of the images only.
    let is_done = |it: &Overlay| path_of(host, &config, &it.disk).as_ref() == Some(&it.base);
    overlays.retain(|it| !(facts.is_merging && is_done(it)));
    let others = others_above(host, vm, Some(name), &overlays)?;
    let mut obstacles: Vec<Obstacle> = others.into_iter().map(Into::into).collect();
    for overlay in &mut overlays {
        sound(host, &config, &overlay.disk)?;
        // Another one than it was made with, if the VM has been at another snapshot since.
        match above(host, &config, overlay) {
            Some(file) => overlay.file = file,
            None if !config.disks.contains_key(&overlay.disk) => {
                obstacles.push(Obstacle::NoDisk {
                    vm: vm.clone(),
                    disk: overlay.disk.clone(),
                    file: overlay.file.clone(),
                });
            }
            // What is between is another snapshot's, which is told.
            None if !obstacles.is_empty() => {}
            None if stands_on(host, &config, overlay) => {
                obstacles.push(Obstacle::NotRightAbove {
                    vm: vm.clone(),
                    disk: overlay.disk.clone(),
                });
            }
            None => obstacles.push(Obstacle::NotFrom {
                vm: vm.clone(),
                words: format!("disk `{}` does not go on from it", overlay.disk),
            }),
        }
    }
    nothing_in_the_way(Doing::Merge, vm, obstacles)?;
    let of = Some((name, snapshot.id, facts));
    into_images(host, vm, (&work, reach), of, &overlays, watch)?;
    Ok(Merged {
        vm: vm.clone(),
        name: name.to_owned(),
        disks: overlays.into_iter().map(|it| it.base).collect(),
    })
}

/// The images of a snapshot whose merging was begun, and has not come to its end.
fn begun(host: &Host, vm: &VmName, name: &str) -> Result<Option<Vec<PathBuf>>, Error> {
    let left = host.store()?.operations(vm)?.into_iter();
    let mut plans = left.filter_map(|it| serde_json::from_str(&it.plan).ok());
    Ok(plans.find_map(|plan| match plan {
        AnyPlan::Beside(Plan {
            what: What::Merge { id: Some(_) },
            name: begun,
            overlays,
            ..
        }) if begun == name => Some(overlays.into_iter().map(|it| it.base).collect()),
        _ => None,
    }))
}

/// Writes overlays into the images that they are right above, and that nobody else needs,
/// and deletes them; `of` is the snapshot that ends with that, with its facts.
pub(in crate::ops) fn into_images(
    host: &Host,
    vm: &VmName,
    (work, mut reach): (&Work<'_>, Reach),
    of: Option<(&str, i64, Facts)>,
    overlays: &[Overlay],
    watch: &mut dyn FnMut(&Job) -> bool,
) -> Result<(), Error> {
    if host.paths.saved(vm).state().exists() {
        return Err(Error::HasSavedState(vm.clone()));
    }
    nothing_within(Doing::Merge, vm, overlays.iter().map(|it| &it.file))?;
    nothing_resized(vm, overlays)?;
    for overlay in overlays {
        image::require_writable(&overlay.file)?;
        // A running QEMU only reads it until then.
        image::require_file_writable(&overlay.base)?;
    }
    if let Reach::Stopped(_) = reach {
        for overlay in overlays {
            image::require_sound(&overlay.file)?;
            if overlay.format == "qcow2" {
                image::require_sound(&overlay.base)?;
            }
        }
    }
    let was_running = match &mut reach {
        Reach::Running(monitor) => {
            let all: Vec<_> = overlays.iter().map(|it| (&it.disk, &it.file)).collect();
            nothing_in_the_way(Doing::Merge, vm, unplugged(monitor, vm, &all)?)?;
            is_going_on(monitor)?
        }
        Reach::Stopped(_) => false,
    };
    let snapshot = of.as_ref().map(|(_, id, _)| *id);
    let of_name = of.as_ref().map(|(name, _, _)| *name);
    let plan = AnyPlan::Beside(Plan {
        what: What::Merge { id: snapshot },
        name: of_name.unwrap_or_default().to_owned(),
        overlays: overlays.to_owned(),
        was_running,
    });
    work.perform_beside(&plan, |id| {
        if let Some((_, snapshot, facts)) = of {
            // From now on the images are not what they were.
            let begun = Facts {
                is_merging: true,
                ..facts
            };
            host.store()?.set_facts(snapshot, &begun.text())?;
        }
        let done = match reach {
            Reach::Running(mut monitor) => begin(&mut monitor, vm, id, overlays).and_then(|ids| {
                let mut monitor = until_ready(host, vm, monitor, &ids, watch)?;
                switch(host, vm, &mut monitor, &ids, overlays, was_running)
            }),
            Reach::Stopped(_lock) => commit_stopped(host, vm, overlays),
        };
        if let Err(error) = done {
            if is_over(&error) && is_named(host, vm, overlays)? {
                // The monitor was free meanwhile, or QEMU has ended.
                give_up(&mut work.reach()?, id, was_running)?;
                host.store()?.end_operation(id.0)?;
            }
            return Err(match (error, of_name) {
                (Error::Interrupted, Some(name)) => Why::NotMerged {
                    vm: vm.clone(),
                    name: name.to_owned(),
                }
                .into(),
                (other, _) => other,
            });
        }
        end(host, &mut *host.store()?, overlays, snapshot, id)
    })
}

/// Sees to it that no device of the host would have to get another size, which it cannot.
fn nothing_resized(vm: &VmName, overlays: &[Overlay]) -> Result<(), Error> {
    let mut obstacles = Vec::new();
    for overlay in overlays {
        obstacles.extend(resized(overlay)?);
    }
    Ok(nothing_in_the_way(Doing::Merge, vm, obstacles)?)
}

/// Why an image cannot be as large as its overlay, in words, if it cannot.
pub(in crate::ops) fn resized(overlay: &Overlay) -> Result<Option<String>, Error> {
    if !is_device_node(&overlay.base) {
        return Ok(None);
    }
    let size = size_of(&overlay.base, &overlay.format)?;
    let now = size_of(&overlay.file, "qcow2")?;
    Ok((now != size).then(|| {
        format!(
            "disk `{}` has {}, and {} has {} and gets no other size",
            overlay.disk,
            Size::from_bytes(now),
            overlay.base.display(),
            Size::from_bytes(size)
        )
    }))
}

/// The size of the disk in an image, in bytes. A running QEMU has written it down.
fn size_of(file: &Path, format: &str) -> Result<u64, Error> {
    Ok(Info::of(file, format, Access::Shared)?.virtual_size)
}

/// Sees to it that a disk, if the VM has it, and all below it can be read.
fn sound(host: &Host, config: &VmConfig, disk: &DeviceName) -> Result<(), Error> {
    let all = disk::defined(host, config);
    match all.iter().find(|it| it.name == *disk) {
        Some(it) => disk::guard::sound(&config.name, it).map(drop),
        None => Ok(()),
    }
}

/// The image of a disk now, if it is right above that of a snapshot.
fn above(host: &Host, config: &VmConfig, overlay: &Overlay) -> Option<PathBuf> {
    let file = path_of(host, config, &overlay.disk)?;
    let chain = Chain::of(&file, "qcow2");
    let is_above = chain.links.get(1)?.path == overlay.base;
    is_above.then_some(file)
}

/// Whether a disk stands on the image, right above it or not.
fn stands_on(host: &Host, config: &VmConfig, overlay: &Overlay) -> bool {
    let links = path_of(host, config, &overlay.disk).map(|file| Chain::of(&file, "qcow2").links);
    let mut links = links.into_iter().flatten();
    links.any(|link| link.path == overlay.base)
}

/// What is left to do when the definition names the images.
pub(super) fn end(
    host: &Host,
    store: &mut Store,
    overlays: &[Overlay],
    snapshot: Option<i64>,
    id: Id,
) -> Result<(), Error> {
    delete(host, overlays.iter().map(|it| &it.file))?;
    match snapshot {
        Some(_) => store.remove_snapshot(snapshot, id.0)?,
        None => store.end_operation(id.0)?,
    }
    Ok(())
}

/// The same of a VM that does not run. It can be done again.
pub(super) fn commit_stopped(host: &Host, vm: &VmName, overlays: &[Overlay]) -> Result<(), Error> {
    for overlay in overlays.iter().filter(|it| it.file.exists()) {
        image::repair_leaks(&overlay.file, "qcow2")?;
        image::commit(&overlay.file)?;
    }
    shorten_stopped(overlays)?;
    point(host, vm, overlays, Side::Images)
}

/// [`shorten`] of a VM that does not run.
pub(super) fn shorten_stopped(overlays: &[Overlay]) -> Result<(), Error> {
    for overlay in overlays {
        if let Some(size) = shorter(overlay)? {
            image::resize(&overlay.base, &overlay.format, size, true)?;
        }
    }
    Ok(())
}

/// Has QEMU write overlays into their images; the ids of the jobs that do so. Those that do
/// already are joined.
pub(super) fn begin(
    monitor: &mut Client,
    vm: &VmName,
    id: Id,
    overlays: &[Overlay],
) -> Result<Vec<String>, Error> {
    let all = job::list(monitor)?;
    let mut ids = Vec::new();
    for (index, overlay) in overlays.iter().enumerate() {
        let job = job_id(id, index);
        if !all.iter().any(|it| it.id == job) {
            let Some(nodes) = Nodes::with(monitor, &overlay.disk, &overlay.file)? else {
                let (vm, disk) = (vm.clone(), overlay.disk.clone());
                return Err(disk::Error::NotPlugged { vm, disk }.into());
            };
            let arguments = json!({
                "job-id": job,
                // Limits are above the overlay, and stay there.
                "device": nodes.root,
                "top-node": nodes.image,
                "base-node": nodes.backing,
                "auto-dismiss": false,
            });
            monitor.execute("block-commit", arguments)?;
        }
        ids.push(job);
    }
    Ok(ids)
}

/// Has QEMU, whose jobs are ready, go on in the images.
pub(super) fn switch(
    host: &Host,
    vm: &VmName,
    monitor: &mut Client,
    ids: &[String],
    overlays: &[Overlay],
    was_running: bool,
) -> Result<(), Error> {
    bring_to_rest(monitor, ids)?;
    point(host, vm, overlays, Side::Images)?;
    block_job::complete(monitor, ids)?;
    close(monitor, overlays)?;
    shorten(monitor, overlays)?;
    set_running(monitor, was_running)
}

/// Has the images of a running VM be as short as the overlays were that were merged into them.
pub(super) fn shorten(monitor: &mut Client, overlays: &[Overlay]) -> Result<(), Error> {
    for overlay in overlays {
        if let Some(size) = shorter(overlay)? {
            // The node of limits would have the size that it had.
            if let Some(nodes) = Nodes::find(monitor, &qemu::disk::id(&overlay.disk))? {
                let arguments = json!({ "node-name": nodes.root, "size": size });
                monitor.execute("block_resize", arguments)?;
            }
        }
    }
    Ok(())
}

/// The size of an overlay in bytes, if its image is larger: merging lets one grow only, and
/// what the disk had lost would be there again.
fn shorter(overlay: &Overlay) -> Result<Option<u64>, Error> {
    if !overlay.file.exists() {
        return Ok(None);
    }
    let own = size_of(&overlay.file, "qcow2")?;
    Ok((own < size_of(&overlay.base, &overlay.format)?).then_some(own))
}

/// Whether it was called off, or cannot be done, as long as it is tried. A qemu-img that says
/// nothing was killed, and may do it the next time.
pub(super) fn is_over(error: &Error) -> bool {
    match error {
        Error::Interrupted | Error::JobFailed { .. } | Error::JobCanceled(_) => true,
        Error::Qmp(qmp::Error::Refused { .. }) => true,
        Error::Image(image::Error::Failed { words, .. }) => !words.is_empty(),
        _ => false,
    }
}

/// Has a guest go on in the overlays, with the images as far as they have got. They can be
/// merged again.
pub(super) fn give_up(reach: &mut Reach, id: Id, was_running: bool) -> Result<(), Error> {
    if let Reach::Running(monitor) = reach {
        block_job::end(monitor, id, false)?;
        set_running(monitor, was_running)?;
    }
    Ok(())
}

/// Has QEMU close overlays that it was started with: those it would keep open, and their
/// images busy.
pub(super) fn close(monitor: &mut Client, overlays: &[Overlay]) -> Result<(), Error> {
    for overlay in overlays {
        block_job::close(monitor, overlay.file.to_str().unwrap_or_default())?;
    }
    Ok(())
}
