//! Copies of the disks of a running VM, all as they are at one moment: QEMU copies what the
//! guest is about to write before it does, and all else meanwhile.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::VmConfig;
use crate::image::{self, Progress, Watch};
use crate::ops::block_job;
use crate::ops::disk::Nodes;
use crate::ops::disk::defined;
use crate::ops::operation::{Id, Work};
use crate::ops::reach::Reach;
use crate::ops::snapshot::quiesce;
use crate::ops::{Error, Host};
use crate::qmp::{Job, JobEnd, Monitor, RunState, job};

use super::plan::Layer;
use super::{Options, Why};

/// Between looks at the jobs. Others can have the monitor meanwhile.
const LOOK: Duration = Duration::from_millis(200);

/// The name of the job and of the node that are about a disk's copy.
fn name(id: Id, index: usize) -> String {
    format!("{}-{index}", id.job())
}

/// Has QEMU begin to copy the disks into their unfinished files, which are there and empty.
pub(super) fn begin(
    host: &Host,
    monitor: &mut Monitor,
    id: Id,
    config: &VmConfig,
    layers: &[Layer],
    options: &Options<'_>,
) -> Result<(), Error> {
    let disks = defined(host, config);
    let mut actions = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let (Some(copy), Some(it)) = (
            &layer.copy,
            disks.iter().find(|disk| disk.name == layer.disk),
        ) else {
            continue;
        };
        let name = name(id, index);
        let source = Nodes::of(monitor, &config.name, it)?.image;
        let file = image::unfinished(&layer.file, id.0);
        monitor.execute(
            "blockdev-add",
            json!({
                "driver": copy.format,
                "node-name": name,
                "file": { "driver": "file", "filename": file },
            }),
        )?;
        actions.push(json!({
            "type": "blockdev-backup",
            "data": {
                "job-id": name,
                "device": source,
                "target": name,
                "sync": "full",
                "auto-dismiss": false,
            },
        }));
    }
    let transaction = json!({
        "actions": actions,
        "properties": { "completion-mode": "grouped" },
    });
    quiesce::during(host, &config.name, monitor, options.quiesce, |monitor| {
        monitor.execute("transaction", transaction)
    })?;
    Ok(())
}

/// Waits until all disks are copied, and QEMU has closed the copies.
///
/// # Errors
/// [`Why::Ended`] if the VM does so before, and [`Error::Interrupted`].
pub(super) fn finish(
    work: &Work<'_>,
    id: Id,
    config: &VmConfig,
    layers: &[Layer],
    watch: Watch<'_>,
) -> Result<(), Error> {
    loop {
        let Reach::Running(mut monitor) = work.reach()? else {
            return Err(Why::Ended(config.name.clone()).into());
        };
        let jobs = jobs(&mut monitor, id)?;
        let ends: Vec<JobEnd> = jobs.iter().filter_map(Job::end).collect();
        if ends.len() == jobs.len() {
            if jobs.len() < layers.len() {
                // Another maqet would have settled all that was begun.
                return Err(Error::JobCanceled(id.job()));
            }
            return end(&mut monitor, id, layers, &ends);
        }
        drop(monitor);
        let [done, total] = [
            |job: &Job| job.current_progress,
            |job: &Job| job.total_progress,
        ]
        .map(|part| jobs.iter().map(part).sum::<u64>());
        let done = match total {
            0 => 0.0,
            total => done as f64 / total as f64,
        };
        if !watch(Progress { step: "copy", done }) {
            return Err(Error::Interrupted);
        }
        thread::sleep(LOOK);
    }
}

/// The jobs of an operation.
fn jobs(monitor: &mut Monitor, id: Id) -> Result<Vec<Job>, Error> {
    let mut jobs = job::list(monitor)?;
    jobs.retain(|job| job.id.starts_with(&format!("{}-", id.job())));
    Ok(jobs)
}

fn end(monitor: &mut Monitor, id: Id, layers: &[Layer], ends: &[JobEnd]) -> Result<(), Error> {
    // If one fails, the others are canceled.
    let failed = ends.iter().find_map(|end| match end {
        JobEnd::Failed(why) => Some(why.clone()),
        _ => None,
    });
    if let Some(why) = failed {
        return Err(Error::JobFailed { id: id.job(), why });
    }
    if ends.contains(&JobEnd::Canceled) {
        return Err(Error::JobCanceled(id.job()));
    }
    close(monitor, id, layers)?;
    for layer in layers {
        image::dig(&image::unfinished(&layer.file, id.0))?;
    }
    Ok(())
}

/// Ends what there is of jobs, and closes the copies.
pub(super) fn close(monitor: &mut Monitor, id: Id, layers: &[Layer]) -> Result<(), Error> {
    block_job::end(monitor, id, false)?;
    let all = monitor.execute("query-named-block-nodes", json!({ "flat": true }))?;
    let all: Vec<&Value> = all.as_array().into_iter().flatten().collect();
    for index in 0..layers.len() {
        let name = name(id, index);
        if all.iter().any(|node| node["node-name"] == *name) {
            monitor.execute("blockdev-del", json!({ "node-name": name }))?;
        }
    }
    Ok(())
}

/// Has a guest go on that was paused as a copy had no room left: what it was going to
/// write need not be copied any more.
pub(super) fn go_on(monitor: &mut Monitor) -> Result<(), Error> {
    if monitor.status()?.run_state == RunState::IoError {
        monitor.execute("cont", ())?;
    }
    Ok(())
}
