//! The jobs of an operation by which disks of a running VM come to be in other images.
//!
//! While QEMU copies, nobody has the monitor: whoever asks QEMU something meanwhile is
//! answered. The end is one moment for all of them: the guest halts, and when both images of
//! each disk are the same, to the last byte and on the host's disk ([`bring_to_rest`]), the
//! definition goes from the one to the other. Whatever ends it then, either is right. The
//! guest goes on when QEMU is in the new ones, too ([`complete`]).

use std::time::Duration;

use serde_json::{Value, json};

use crate::qmp::{
    self, Client, Follower, Heard, Job, JobEnd, JobStatus, Monitor, RunState, Start, job,
};
use crate::vm::VmName;

use super::operation::Id;
use super::reach::{Reach, reach};
use super::{Error, Host};

/// Between looks at a job; what it does next is an event, and seen at once.
const LOOK: Duration = Duration::from_millis(200);

/// Between looks at how far it is while the guest waits.
const SOON: Duration = Duration::from_millis(5);

/// The id of the job of an operation for its disk number `index`.
pub(super) fn job_id(id: Id, index: usize) -> String {
    format!("{}-{index}", id.job())
}

/// Waits until all of these jobs are ready to be completed, with the monitor free meanwhile.
///
/// `watch` is shown what they do, and says whether to go on.
///
/// # Errors
/// [`Error::Interrupted`], [`Error::JobFailed`], [`Error::JobCanceled`]; [`Error::NotRunning`]
/// if QEMU ends. The jobs are left as they are.
pub(super) fn until_ready(
    host: &Host,
    vm: &VmName,
    mut monitor: Box<Monitor>,
    ids: &[String],
    watch: &mut dyn FnMut(&Job) -> bool,
) -> Result<Box<Monitor>, Error> {
    let log = host.paths.sockets(vm).events_log();
    let failed = || Error::io(format!("cannot follow {}", log.display()));
    let mut events = Follower::open(&log, Start::Now).map_err(failed())?;
    while !are_ready(&mut monitor, ids, watch)? {
        drop(monitor);
        monitor = loop {
            let is_ours = |event: &qmp::Event| {
                let id = event.data.get("id").and_then(Value::as_str);
                id.is_some_and(|id| ids.iter().any(|ours| ours == id))
                    .then_some(())
            };
            if let Heard::End(_) = events.find(LOOK, is_ours).map_err(failed())? {
                return Err(Error::NotRunning(vm.clone()));
            }
            match reach(host, vm) {
                Ok(Reach::Running(monitor)) => break monitor,
                Ok(Reach::Stopped(_)) => return Err(Error::NotRunning(vm.clone())),
                // Someone talks to QEMU for long, and the job goes on.
                Err(Error::Qmp(qmp::Error::Busy { .. })) => {}
                Err(error) => return Err(error),
            }
        };
    }
    Ok(monitor)
}

/// The same with nobody who watches, and the monitor in hand.
pub(super) fn until_ready_held(monitor: &mut Client, ids: &[String]) -> Result<(), Error> {
    while !are_ready(monitor, ids, &mut |_| true)? {
        monitor.next_event(LOOK)?;
    }
    Ok(())
}

fn are_ready(
    monitor: &mut Client,
    ids: &[String],
    watch: &mut dyn FnMut(&Job) -> bool,
) -> Result<bool, Error> {
    let jobs = going_on(monitor, ids)?;
    let is_ready = |job: &Job| job.status == JobStatus::Ready;
    if let Some(job) = jobs.iter().find(|job| !is_ready(job)).or(jobs.first())
        && !watch(job)
    {
        return Err(Error::Interrupted);
    }
    Ok(jobs.iter().all(is_ready))
}

/// These jobs, none of which has ended.
fn going_on(monitor: &mut Client, ids: &[String]) -> Result<Vec<Job>, Error> {
    let all = job::list(monitor)?;
    let ours = ids.iter().map(|id| {
        let found = all.iter().find(|job| job.id == *id);
        match found.map(|job| (job, job.end())) {
            Some((job, None)) => Ok(job.clone()),
            Some((_, Some(end))) => Err(failed(id, end)),
            // Someone has dismissed it.
            None => Err(Error::JobCanceled(id.clone())),
        }
    });
    ours.collect()
}

fn failed(id: &str, end: JobEnd) -> Error {
    let id = id.to_owned();
    match end {
        JobEnd::Failed(why) => Error::JobFailed { id, why },
        JobEnd::Canceled | JobEnd::Completed => Error::JobCanceled(id),
    }
}

/// Halts the guest, and waits until both images of each of these jobs are the same, and on the
/// host's disk.
pub(super) fn bring_to_rest(monitor: &mut Client, ids: &[String]) -> Result<(), Error> {
    monitor.execute("stop", ())?;
    loop {
        let jobs = going_on(monitor, ids)?;
        let is_done = |job: &Job| {
            job.status == JobStatus::Ready && job.current_progress == job.total_progress
        };
        // A job looks ten times a second what was written, and counts that only then.
        if jobs.iter().all(is_done) && left(monitor)? == 0 {
            break;
        }
        for id in ids {
            // It looks at once when it is told how fast it may be. One that has ended is seen.
            let unlimited = json!({ "device": id, "speed": 0 });
            let _ = monitor.execute("block-job-set-speed", unlimited);
        }
        monitor.next_event(SOON)?;
    }
    // QEMU writes out what it has in memory of all images, whether the guest runs or not.
    monitor.execute("stop", ())?;
    Ok(())
}

/// How much was written that jobs have not seen yet, in bytes.
fn left(monitor: &mut Client) -> Result<u64, Error> {
    let nodes = monitor.execute("query-named-block-nodes", json!({ "flat": true }))?;
    let nodes = nodes.as_array().into_iter().flatten();
    let bitmaps = nodes.flat_map(|node| node["dirty-bitmaps"].as_array().into_iter().flatten());
    // Those with a name are someone's who makes backups.
    let bitmaps = bitmaps.filter(|bitmap| bitmap["name"].as_str().unwrap_or_default().is_empty());
    Ok(bitmaps.filter_map(|bitmap| bitmap["count"].as_u64()).sum())
}

/// Has QEMU go on in the images that jobs have written, and waits until it does.
pub(super) fn complete(monitor: &mut Client, ids: &[String]) -> Result<(), Error> {
    for id in ids {
        monitor.execute("job-complete", json!({ "id": id }))?;
        finish(monitor, id)?;
    }
    Ok(())
}

/// Waits until a job that was told to keep its end has ended, and dismisses it.
fn finish(monitor: &mut Client, id: &String) -> Result<(), Error> {
    loop {
        let all = job::list(monitor)?;
        let Some(job) = all.into_iter().find(|job| job.id == *id) else {
            return Err(Error::JobCanceled(id.clone()));
        };
        if let Some(end) = job.end() {
            monitor.execute("job-dismiss", json!({ "id": id }))?;
            return match end {
                JobEnd::Completed => Ok(()),
                end => Err(failed(id, end)),
            };
        }
        monitor.next_event(LOOK)?;
    }
}

/// Ends the jobs of an operation that was not done: completes those of disks that are to go
/// on in what they have written, and cancels all others.
pub(super) fn end(monitor: &mut Client, id: Id, completes: bool) -> Result<(), Error> {
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

/// Whether a guest runs, or sleeps by itself, and so is to go on when it was halted.
pub(super) fn is_going_on(monitor: &mut Client) -> Result<bool, Error> {
    let state = monitor.status()?.run_state;
    Ok(matches!(state, RunState::Running | RunState::Suspended))
}

/// Has the guest run, or not, as it did before.
pub(super) fn set_running(monitor: &mut Client, runs: bool) -> Result<(), Error> {
    match (runs, monitor.status()?.run_state) {
        (true, RunState::Running) => {}
        (true, _) => drop(monitor.execute("cont", ())?),
        (false, RunState::Running) => drop(monitor.execute("stop", ())?),
        (false, _) => {}
    }
    Ok(())
}

/// Closes the nodes of a file that no disk is in any more.
///
/// Those that QEMU was started with, or told to open, it would keep open.
pub(super) fn close(monitor: &mut Client, file: &str) -> Result<(), Error> {
    let all = monitor.execute("query-named-block-nodes", json!({ "flat": true }))?;
    let all = all.as_array().into_iter().flatten();
    let mut nodes: Vec<&Value> = all.filter(|node| node["file"] == file).collect();
    // Formats are above files.
    nodes.sort_by_key(|node| node["drv"] == "file");
    for node in nodes {
        // One that QEMU has opened itself goes by itself.
        let _ = monitor.execute("blockdev-del", json!({ "node-name": node["node-name"] }));
    }
    Ok(())
}
