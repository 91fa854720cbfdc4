//! Merging overlays back into their images. The snapshot is gone then; the VM is as it is.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::config::VmConfig;
use crate::image::{self, Access, Chain, Info};
use crate::ops::operation::{Id, Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Error, Host};
use crate::qmp::{self, Client, Job, JobEnd, JobStatus, RunState, Started, job};
use crate::store::Store;
use crate::vm::VmName;

use super::super::live::set_running;
use super::super::{Error as Why, Facts, no_such};
use super::{
    Overlay, Plan, Side, What, delete, find, is_named, node_of, nodes_of, nothing_within,
    others_above, path_of, point,
};

/// Between looks at a job; what it does next is an event, and seen at once.
const LOOK: Duration = Duration::from_millis(200);

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
    let work = Work::take(host, vm)?;
    let reach = work.reach()?;
    let Some((snapshot, facts)) = find(host, vm, name)? else {
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
    let mut obstacles = others_above(host, vm, Some(snapshot.id), &overlays)?;
    for overlay in &mut overlays {
        // Another one than it was made with, if the VM has been at another snapshot since.
        match above(host, &config, overlay) {
            Some(file) => overlay.file = file,
            None => obstacles.push(format!("disk `{}` does not go on from it", overlay.disk)),
        }
    }
    if !obstacles.is_empty() {
        return Err(Why::Obstacles {
            doing: MERGING,
            vm: vm.clone(),
            obstacles,
        }
        .into());
    }
    let of = Some((name, snapshot.id, facts));
    into_images(host, vm, (&work, reach), of, &overlays, watch)?;
    Ok(Merged {
        vm: vm.clone(),
        name: name.to_owned(),
        disks: overlays.into_iter().map(|it| it.base).collect(),
    })
}

/// What is done, for what is in the way of it.
pub(in crate::ops) const MERGING: &str = "merging into the images of";

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
    nothing_within(MERGING, vm, overlays.iter().map(|it| &it.file))?;
    let was_running = match &mut reach {
        Reach::Running(monitor) => monitor.status()?.run_state == RunState::Running,
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
    work.perform(&plan, reach, |id, reach| {
        if let Some((_, snapshot, facts)) = of {
            // From now on the images are not what they were.
            let begun = Facts {
                is_merging: true,
                ..facts
            };
            host.store()?.set_facts(snapshot, &begun.text())?;
        }
        let done = match &mut *reach {
            Reach::Running(monitor) => commit(host, vm, monitor, id, overlays, was_running, watch),
            Reach::Stopped(_) => commit_stopped(host, vm, overlays),
        };
        if let Err(error) = done {
            if is_over(&error) && is_named(host, vm, overlays)? {
                give_up(reach, id, was_running)?;
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

/// The image of a disk now, if it is right above that of a snapshot.
fn above(host: &Host, config: &VmConfig, overlay: &Overlay) -> Option<PathBuf> {
    let file = path_of(host, config, &overlay.disk)?;
    let chain = Chain::of(&file, "qcow2");
    let is_above = chain.links.get(1)?.path == overlay.base;
    is_above.then_some(file)
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

/// Has QEMU write overlays into their images and go on in those. Jobs that do so already
/// are joined.
///
/// When the images have nearly all of it, the guest halts for a moment, so that both are the
/// same while the definition goes from the one to the other: whatever ends it then, either
/// is right.
pub(super) fn commit(
    host: &Host,
    vm: &VmName,
    monitor: &mut Client,
    id: Id,
    overlays: &[Overlay],
    was_running: bool,
    watch: &mut dyn FnMut(&Job) -> bool,
) -> Result<(), Error> {
    let mut jobs = Vec::new();
    for (index, overlay) in overlays.iter().enumerate() {
        let job = format!("{}-{index}", id.job());
        if let Some(job) = monitor.join_job(&job)? {
            jobs.push(job);
            continue;
        }
        let arguments = json!({
            "job-id": job,
            "device": node_of(monitor, &overlay.file)?,
            "base-node": node_of(monitor, &overlay.base)?,
        });
        jobs.push(monitor.start_job("block-commit", arguments)?);
    }
    for job in &jobs {
        wait_until_ready(
            monitor,
            job,
            &mut |job| job.status == JobStatus::Ready,
            watch,
        )?;
    }
    monitor.execute("stop", ())?;
    for job in &jobs {
        let is_all = |job: &Job| {
            job.status == JobStatus::Ready && job.current_progress == job.total_progress
        };
        wait_until_ready(monitor, job, &mut { is_all }, &mut |_| true)?;
    }
    point(host, vm, overlays, Side::Images)?;
    for job in jobs {
        monitor.execute("job-complete", json!({ "id": job.id() }))?;
        match monitor.finish_job(&job, None)? {
            JobEnd::Completed => {}
            JobEnd::Canceled => return Err(Error::JobCanceled(job.id().to_owned())),
            JobEnd::Failed(why) => {
                let id = job.id().to_owned();
                return Err(Error::JobFailed { id, why });
            }
        }
    }
    close(monitor, overlays)?;
    shorten(monitor, overlays)?;
    set_running(monitor, was_running)
}

/// Has the images of a running VM be as short as the overlays were that were merged into them.
pub(super) fn shorten(monitor: &mut Client, overlays: &[Overlay]) -> Result<(), Error> {
    for overlay in overlays {
        if let Some(size) = shorter(overlay)? {
            let node = node_of(monitor, &overlay.base)?;
            let arguments = json!({ "node-name": node, "size": size });
            monitor.execute("block_resize", arguments)?;
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
    let size = |file, format| -> Result<u64, Error> {
        Ok(Info::of(file, format, Access::Shared)?.virtual_size)
    };
    let own = size(&overlay.file, "qcow2")?;
    Ok((own < size(&overlay.base, &overlay.format)?).then_some(own))
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
        end_jobs(monitor, id, false)?;
        set_running(monitor, was_running)?;
    }
    Ok(())
}

/// Has QEMU close overlays that it was started with: those it would keep open, and their
/// images busy.
pub(super) fn close(monitor: &mut Client, overlays: &[Overlay]) -> Result<(), Error> {
    for overlay in overlays {
        for (node, _) in nodes_of(monitor, &overlay.file)? {
            // One that it has opened itself goes by itself.
            let _ = monitor.execute("blockdev-del", json!({ "node-name": node }));
        }
    }
    Ok(())
}

fn wait_until_ready(
    monitor: &mut Client,
    job: &Started,
    is_ready: &mut dyn FnMut(&Job) -> bool,
    watch: &mut dyn FnMut(&Job) -> bool,
) -> Result<(), Error> {
    loop {
        let now = job::list(monitor)?.into_iter().find(|it| it.id == job.id());
        let Some(now) = now.filter(|it| !it.status.is_end()) else {
            return Err(match monitor.finish_job(job, None)? {
                JobEnd::Failed(why) => Error::JobFailed {
                    id: job.id().to_owned(),
                    why,
                },
                _ => Error::JobCanceled(job.id().to_owned()),
            });
        };
        if is_ready(&now) {
            return Ok(());
        }
        if !watch(&now) {
            return Err(Error::Interrupted);
        }
        monitor.next_event(LOOK)?;
    }
}

/// Ends the jobs of an operation that was not done: completes those of disks that are to go
/// on in their images, and cancels all others.
pub(in crate::ops) fn end_jobs(monitor: &mut Client, id: Id, completes: bool) -> Result<(), Error> {
    let prefix = format!("{}-", id.job());
    let mut told = Vec::new();
    loop {
        let jobs = job::list(monitor)?;
        let ours = jobs.into_iter().filter(|job| job.id.starts_with(&prefix));
        let mut is_any = false;
        for job in ours {
            is_any = true;
            let command = match (&job.status, completes) {
                (status, _) if status.is_end() => "job-dismiss",
                _ if told.contains(&job.id) => continue,
                (JobStatus::Ready, true) => "job-complete",
                // It becomes so.
                (_, true) => continue,
                (_, false) => "job-cancel",
            };
            // It may have gone on meanwhile; the next look tells.
            if monitor.execute(command, json!({ "id": job.id })).is_ok() {
                told.push(job.id);
            }
        }
        if !is_any {
            return Ok(());
        }
        monitor.next_event(LOOK)?;
    }
}
