//! Jobs: what QEMU does in the background, such as a backup, and how each ends.
//!
//! Success and failure both end in `concluded`; which of them it was is in the
//! job's own error. A job may also be gone before anyone could ask: then what
//! events said of it is all there is. QEMU's own description is in qapi/job.json.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Client, read_as};
use super::error::Error;
use super::message::Event;

/// One job, as `query-jobs` and `query-block-jobs` have it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Job {
    /// Its id: the `job-id` of the command that started it.
    pub id: String,
    /// QEMU's word for what it does: `backup`, `mirror`, `snapshot-save` …
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is doing.
    pub status: JobStatus,
    /// How much is done, in units that the job chooses: bytes for most.
    #[serde(rename(deserialize = "current-progress"))]
    pub current_progress: u64,
    /// How much there is to do, as far as is known; it may grow. 0 before that is known.
    #[serde(rename(deserialize = "total-progress"))]
    pub total_progress: u64,
    /// Why it failed, if it did and has concluded.
    pub error: Option<String>,
    /// The limit of a block job, in bytes a second; 0 is none.
    pub speed: Option<u64>,
    /// How a block job gets on with its disks: `ok`, `failed`, `nospace`. All but `ok`
    /// wait for the job to be resumed.
    pub io_status: Option<String>,
}

impl Job {
    /// How much of it is done, from 0 to 1; `None` before that is known.
    pub fn progress(&self) -> Option<f64> {
        (self.total_progress > 0)
            .then(|| (self.current_progress as f64 / self.total_progress as f64).min(1.0))
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<JobEnd> {
        self.status.is_end().then(|| match &self.error {
            Some(error) => JobEnd::from_error(error),
            None => JobEnd::Completed,
        })
    }
}

/// QEMU's word for what a job is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobStatus {
    /// It has not begun.
    Created,
    /// It works.
    Running,
    /// It was paused.
    Paused,
    /// It has done what it can, and keeps it so until told to complete: a mirror.
    Ready,
    /// Paused while ready.
    Standby,
    /// It waits for the other jobs of its transaction.
    Waiting,
    /// It is done, and was told to wait for `job-finalize`.
    Pending,
    /// It cleans up after a failure or being canceled.
    Aborting,
    /// It has ended, and waits to be dismissed.
    Concluded,
    /// It is gone.
    Null,
    /// A word that is not in this list.
    #[serde(untagged)]
    Other(String),
}

impl JobStatus {
    /// QEMU's word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Ready => "ready",
            Self::Standby => "standby",
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Aborting => "aborting",
            Self::Concluded => "concluded",
            Self::Null => "null",
            Self::Other(word) => word,
        }
    }

    /// Whether the job has ended.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Concluded | Self::Null)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome", content = "error")]
pub enum JobEnd {
    /// It did what it was to do.
    Completed,
    /// It was told to stop.
    Canceled,
    /// It failed; with QEMU's words.
    Failed(String),
}

impl JobEnd {
    fn from_error(error: &str) -> Self {
        // strerror(3) of ECANCELED, which is all that QEMU has to say of such a job.
        if error == "Operation canceled" {
            Self::Canceled
        } else {
            Self::Failed(error.to_owned())
        }
    }
}

/// The jobs of a QEMU.
///
/// # Errors
///
/// [`Unexpected`](Error::Unexpected), and all of the connection's.
pub fn list(client: &mut Client) -> Result<Vec<Job>, Error> {
    /// What only `query-block-jobs` has.
    #[derive(Deserialize)]
    struct BlockJob {
        #[serde(rename = "device")]
        id: String,
        speed: u64,
        #[serde(rename = "io-status")]
        io_status: String,
    }

    const COMMANDS: [&str; 2] = ["query-jobs", "query-block-jobs"];
    let sent = [client.send(COMMANDS[0], ())?, client.send(COMMANDS[1], ())?];
    let mut jobs: Vec<Job> = read_as(COMMANDS[0], client.receive(&sent[0])?)?;
    let block_jobs: Vec<BlockJob> = read_as(COMMANDS[1], client.receive(&sent[1])?)?;
    for block_job in block_jobs {
        if let Some(job) = jobs.iter_mut().find(|job| job.id == block_job.id) {
            job.speed = Some(block_job.speed);
            job.io_status = Some(block_job.io_status);
        }
    }
    Ok(jobs)
}

/// One job as events tell of it.
///
/// ```
/// use maqet::qmp::{JobEnd, JobTrack};
///
/// # fn heard() -> Vec<maqet::qmp::Event> {
/// #     let change = |status: &str| serde_json::from_value(serde_json::json!({
/// #         "event": "JOB_STATUS_CHANGE", "data": {"id": "backup0", "status": status},
/// #         "timestamp": {"seconds": 1, "microseconds": 2},
/// #     })).unwrap();
/// #     ["created", "running", "concluded"].map(change).to_vec()
/// # }
/// let mut track = JobTrack::new("backup0");
/// for event in heard() {
///     track.hear(&event);
/// }
/// assert_eq!(track.end(), Some(JobEnd::Completed));
/// ```
#[derive(Clone, Debug)]
pub struct JobTrack {
    id: String,
    status: Option<JobStatus>,
    error: Option<String>,
    canceled: bool,
    aborted: bool,
}

impl JobTrack {
    /// Of the job `id` that is going to be created; what is heard of an earlier one
    /// of that name does not count.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            status: None,
            error: None,
            canceled: false,
            aborted: false,
        }
    }

    /// Of a job that is there.
    pub fn of(job: &Job) -> Self {
        Self {
            status: Some(job.status.clone()),
            error: job.error.clone(),
            aborted: job.status == JobStatus::Aborting,
            ..Self::new(&*job.id)
        }
    }

    /// The job's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it was last heard to be doing.
    pub fn status(&self) -> Option<&JobStatus> {
        self.status.as_ref()
    }

    /// Takes in one event; whether it tells of this job.
    pub fn hear(&mut self, event: &Event) -> bool {
        let is_ours = |key| event.data.get(key).and_then(Value::as_str) == Some(&*self.id);
        let is_known = self.status.is_some();
        match event.name.as_str() {
            "JOB_STATUS_CHANGE" if is_ours("id") => {
                let status = event.data.get("status").cloned().unwrap_or_default();
                let Ok(status) = serde_json::from_value(status) else {
                    return false;
                };
                match status {
                    ref status if !is_known && *status != JobStatus::Created => return false,
                    // Another one, of the same name.
                    JobStatus::Created => *self = Self::new(std::mem::take(&mut self.id)),
                    JobStatus::Aborting => self.aborted = true,
                    _ => {}
                }
                self.status = Some(status);
                true
            }
            "BLOCK_JOB_COMPLETED" if is_known && is_ours("device") => {
                let error = event.data.get("error").and_then(Value::as_str);
                self.error = error.map(str::to_owned);
                true
            }
            "BLOCK_JOB_CANCELLED" if is_known && is_ours("device") => {
                self.canceled = true;
                true
            }
            _ => false,
        }
    }

    /// How it ended, if it has.
    ///
    /// Of a job that is no block job events do not say why it failed; as long as
    /// it is not dismissed, [`list`] has that.
    pub fn end(&self) -> Option<JobEnd> {
        if !self.status.as_ref()?.is_end() {
            return None;
        }
        Some(match &self.error {
            _ if self.canceled => JobEnd::Canceled,
            Some(error) => JobEnd::from_error(error),
            None if self.aborted => {
                JobEnd::Failed("it was dismissed before it could say why".to_owned())
            }
            None => JobEnd::Completed,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::prelaunch::Prelaunch;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Hears of the job until it has ended, or is ready.
    #[track_caller]
    fn follow(qmp: &mut Client, track: &mut JobTrack) {
        while track.end().is_none() && track.status() != Some(&JobStatus::Ready) {
            let event = qmp.next_event(PATIENCE).unwrap();
            track.hear(&event.expect("the job goes on"));
        }
    }

    fn null_disk(qmp: &mut Client, node: &str) {
        let arguments = json!({"driver": "null-co", "node-name": node, "size": 1 << 30});
        qmp.execute("blockdev-add", arguments).unwrap();
    }

    fn backup(qmp: &mut Client, id: &str, target: &str, speed: u64) {
        let arguments = json!({
            "job-id": id, "device": "from", "target": target, "sync": "full", "speed": speed,
        });
        qmp.execute("blockdev-backup", arguments).unwrap();
    }

    #[test]
    fn a_block_job_is_listed_with_its_progress_and_limit() {
        let qemu = Prelaunch::start();
        let mut qmp = qemu.connect();
        assert_eq!(list(&mut qmp).unwrap(), []);
        null_disk(&mut qmp, "from");
        null_disk(&mut qmp, "to");
        backup(&mut qmp, "b", "to", 1 << 20);
        let jobs = list(&mut qmp).unwrap();
        assert_eq!(jobs.len(), 1);
        assert_eq!((&*jobs[0].id, &*jobs[0].kind), ("b", "backup"));
        assert_eq!(jobs[0].total_progress, 1 << 30);
        assert!(jobs[0].progress().unwrap() < 1.0);
        assert_eq!(jobs[0].speed, Some(1 << 20));
        assert_eq!(jobs[0].io_status.as_deref(), Some("ok"));
        assert_eq!(jobs[0].end(), None);
    }

    #[test]
    fn a_job_ends_completed_canceled_or_failed() {
        let qemu = Prelaunch::start();
        let mut qmp = qemu.connect();
        null_disk(&mut qmp, "from");
        null_disk(&mut qmp, "to");
        let blkdebug = json!({
            "driver": "blkdebug", "image": {"driver": "null-co", "size": 1 << 30},
            "inject-error": [{"event": "write_aio", "errno": 28}],
        });
        let full = json!({"driver": "raw", "node-name": "full", "file": blkdebug});
        qmp.execute("blockdev-add", full).unwrap();

        // QEMU itself dismisses block jobs: only events know how they ended.
        backup(&mut qmp, "b", "to", 0);
        let mut track = JobTrack::new("b");
        follow(&mut qmp, &mut track);
        assert_eq!(track.end(), Some(JobEnd::Completed));
        assert_eq!(list(&mut qmp).unwrap(), []);

        backup(&mut qmp, "b", "to", 1 << 20);
        let mut track = JobTrack::new("b");
        qmp.execute("job-cancel", json!({"id": "b"})).unwrap();
        follow(&mut qmp, &mut track);
        assert_eq!(track.end(), Some(JobEnd::Canceled));

        backup(&mut qmp, "b", "full", 0);
        let mut track = JobTrack::new("b");
        follow(&mut qmp, &mut track);
        let why = "No space left on device".to_owned();
        assert_eq!(track.end(), Some(JobEnd::Failed(why)));
    }

    #[test]
    fn a_job_that_is_not_dismissed_says_itself_why_it_failed() {
        let qemu = Prelaunch::start();
        let mut qmp = qemu.connect();
        let options = json!({"driver": "file", "filename": "/nonexistent/x", "size": 1});
        let arguments = json!({"job-id": "c", "options": options});
        qmp.execute("blockdev-create", arguments).unwrap();
        let mut track = JobTrack::new("c");
        follow(&mut qmp, &mut track);
        assert!(matches!(track.end(), Some(JobEnd::Failed(_))));
        let jobs = list(&mut qmp).unwrap();
        let why = "Could not create '/nonexistent/x': No such file or directory";
        assert_eq!(jobs[0].end(), Some(JobEnd::Failed(why.to_owned())));
    }

    fn change(id: &str, status: &str) -> Event {
        let event = json!({
            "event": "JOB_STATUS_CHANGE", "data": {"id": id, "status": status},
            "timestamp": {"seconds": 1, "microseconds": 2},
        });
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn a_job_begins_when_it_is_created_and_may_be_another_one_then() {
        let mut track = JobTrack::new("m");
        for (status, ends) in [
            ("concluded", false),
            ("created", false),
            ("aborting", false),
            ("null", true),
            ("created", false),
            ("ready", false),
            ("concluded", true),
        ] {
            track.hear(&change("m", status));
            track.hear(&change("other", "null"));
            assert_eq!(track.end().is_some(), ends, "{status}");
        }
        assert_eq!(track.end(), Some(JobEnd::Completed));
    }

    #[test]
    fn words_of_a_later_qemu_are_kept() {
        let status: JobStatus = serde_json::from_str("\"resting\"").unwrap();
        assert_eq!(status.as_str(), "resting");
    }
}
