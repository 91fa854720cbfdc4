//! Snapshots with memory and devices: QEMU's jobs `snapshot-save` and `snapshot-load`.
//!
//! QEMU is deaf while it does one. Success and failure both end in a job that has
//! concluded; which of them it was, its own error says. It is dismissed only when the
//! database has what came of it, so that whoever comes after a maqet that was killed can
//! tell.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::ops::Error;
use crate::ops::disk::Nodes;
use crate::ops::operation::Id;
use crate::qmp::{Client, JobEnd, job};

use super::disks::{Disk, Disks};

/// Between looks at a job; its end is an event, and seen at once.
const LOOK: Duration = Duration::from_millis(500);

/// Memory, devices and disks go into the snapshot.
pub(super) const SAVE: &str = "snapshot-save";

/// They go on from the snapshot.
pub(super) const LOAD: &str = "snapshot-load";

/// Has QEMU save or load, with the memory in the disk at `image`, and waits until that has
/// ended. The job is left to be dismissed.
pub(super) fn perform(
    monitor: &mut Client,
    id: Id,
    command: &str,
    name: &str,
    image: &Path,
    disks: &Disks,
) -> Result<(), Error> {
    // That of limits would be opened anew by a load, and both 7.2 and 10.0 end with an
    // assertion then (block/throttle.c, throttle_drain_end), there or at the next change.
    let node = |disk: &Disk| disk.image.clone();
    let job = monitor.start_job(
        command,
        json!({
            "job-id": id.job(),
            "tag": name,
            "vmstate": disks.at(image).and_then(node),
            "devices": disks.disks.iter().filter_map(node).collect::<Vec<_>>(),
        }),
    )?;
    while monitor.job_progress(&job, LOOK)?.is_some() {}
    let failed = |why: String| Err(Error::JobFailed { id: id.job(), why });
    match ended(monitor, id)? {
        Some(JobEnd::Completed) if command == LOAD => follow_sizes(monitor),
        Some(JobEnd::Completed) => Ok(()),
        Some(JobEnd::Canceled) => Err(Error::JobCanceled(id.job())),
        Some(JobEnd::Failed(why)) => failed(why),
        None => failed("someone else has dismissed it".to_owned()),
    }
}

/// Has limits know how large their images have become by a load, with the guest halted.
pub(super) fn follow_sizes(monitor: &mut Client) -> Result<(), Error> {
    for nodes in Nodes::all(monitor)? {
        if nodes.root != nodes.image && !nodes.is_read_only() {
            let arguments = json!({ "node-name": nodes.root, "size": nodes.size() });
            monitor.execute("block_resize", arguments)?;
        }
    }
    Ok(())
}

/// Waits for the job of an operation whose process has died; `None` if there is none, be
/// it that it was never begun.
pub(super) fn join(monitor: &mut Client, id: Id) -> Result<Option<JobEnd>, Error> {
    loop {
        let jobs = job::list(monitor)?;
        let job = jobs.into_iter().find(|job| job.id == id.job());
        match job.map(|job| job.end()) {
            None => return Ok(None),
            Some(Some(end)) => return Ok(Some(end)),
            // Its events are as good as any other.
            Some(None) => drop(monitor.next_event(LOOK)?),
        }
    }
}

/// How the job of an operation has ended, if it is there and has.
fn ended(monitor: &mut Client, id: Id) -> Result<Option<JobEnd>, Error> {
    let jobs = job::list(monitor)?;
    let job = jobs.into_iter().find(|job| job.id == id.job());
    Ok(job.and_then(|job| job.end()))
}

/// Forgets the job of an operation that is over.
pub(super) fn dismiss(monitor: &mut Client, id: Id) {
    // One that is left is in nobody's way.
    let _ = monitor.execute("job-dismiss", json!({ "id": id.job() }));
}
