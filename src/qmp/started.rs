//! Jobs that a program starts and waits for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::client::{Client, json_of};
use super::error::{Awaited, Error};
use super::job::{self, Job, JobEnd, JobStatus, JobTrack};
use super::link::Deadline;
use super::message::Event;

/// A job that was started on a connection.
///
/// All that the connection hears of it is noted, whatever else is done there
/// meanwhile. Dropping it neither stops the job nor dismisses it.
#[derive(Debug)]
pub struct Started {
    id: String,
    track: Arc<Mutex<JobTrack>>,
}

impl Started {
    /// The job's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn track(&self) -> MutexGuard<'_, JobTrack> {
        // Nothing panics while it is locked.
        self.track.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The jobs that a connection listens for.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<Weak<Mutex<JobTrack>>>);

impl Listeners {
    pub(super) fn hear(&mut self, event: &Event) {
        self.0.retain(|listener| {
            let Some(track) = listener.upgrade() else {
                return false;
            };
            let mut track = track.lock().unwrap_or_else(PoisonError::into_inner);
            track.hear(event);
            true
        });
    }
}

impl Client {
    /// Starts a job: with a command whose arguments name it in `job-id`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/qmp/prelaunch.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = Prelaunch::start();
    /// # let socket = &vm.socket;
    /// use std::time::Duration;
    ///
    /// use maqet::qmp::{Client, DEFAULT_TIMEOUT, JobEnd};
    /// use serde_json::json;
    ///
    /// let mut qmp = Client::connect(socket, DEFAULT_TIMEOUT)?;
    /// for node in ["disk", "copy"] {
    ///     let disk = json!({ "driver": "null-co", "node-name": node, "size": 1 << 20 });
    ///     qmp.execute("blockdev-add", disk)?;
    /// }
    /// let backup = json!({ "job-id": "b", "device": "disk", "target": "copy", "sync": "full" });
    /// let backup = qmp.start_job("blockdev-backup", backup)?;
    /// while let Some(job) = qmp.job_progress(&backup, Duration::from_millis(500))? {
    ///     println!("{}: {} of {}", job.status, job.current_progress, job.total_progress);
    /// }
    /// assert_eq!(qmp.finish_job(&backup, None)?, JobEnd::Completed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refused`](Error::Refused), where the job has not begun; those of
    /// [`execute`](Self::execute).
    ///
    /// # Panics
    ///
    /// If the arguments have no `job-id`.
    pub fn start_job(
        &mut self,
        command: &str,
        arguments: impl Serialize,
    ) -> Result<Started, Error> {
        let arguments = json_of(command, arguments)?;
        let id = arguments["job-id"].as_str().expect("a job has a `job-id`");
        let track = Arc::new(Mutex::new(JobTrack::new(id)));
        let id = id.to_owned();
        // Its first events come before the reply.
        self.listeners.0.push(Arc::downgrade(&track));
        self.execute(command, arguments)?;
        Ok(Started { id, track })
    }

    /// Joins a job that someone else has started, be it that it has ended; `None` if there
    /// is none with that id.
    ///
    /// # Errors
    ///
    /// Those of [`execute`](Self::execute).
    pub fn join_job(&mut self, id: &str) -> Result<Option<Started>, Error> {
        let track = Arc::new(Mutex::new(JobTrack::new(id)));
        // What comes between the list and its being looked at counts.
        self.listeners.0.push(Arc::downgrade(&track));
        let jobs = job::list(self)?;
        let Some(job) = jobs.iter().find(|job| job.id == id) else {
            return Ok(None);
        };
        let id = id.to_owned();
        let started = Started { id, track };
        if started.track().status().is_none() {
            *started.track() = JobTrack::of(job);
        }
        Ok(Some(started))
    }

    /// Waits until the job does something else, or `every` has passed, and says
    /// what it does then; `None` if it has ended.
    ///
    /// A job that is [`Ready`](JobStatus::Ready) wants `job-complete`, and one
    /// that is [`Pending`](JobStatus::Pending) `job-finalize`, to end.
    ///
    /// # Errors
    ///
    /// Those of [`execute`](Self::execute).
    pub fn job_progress(&mut self, job: &Started, every: Duration) -> Result<Option<Job>, Error> {
        let deadline = Deadline::after(Some(every));
        let before = job.track().status().cloned();
        while job.track().status() == before.as_ref() && before.as_ref().is_none_or(|s| !s.is_end())
        {
            if !self.listen(deadline)? {
                break;
            }
        }
        let jobs = job::list(self)?;
        Ok(jobs
            .into_iter()
            .find(|found| found.id == job.id && !found.status.is_end()))
    }

    /// Waits until the job has ended, and says how; what is left of it is dismissed.
    ///
    /// # Errors
    ///
    /// [`Timeout`](Error::Timeout) if it goes on beyond `limit`; it can be waited for
    /// again. Also those of [`execute`](Self::execute).
    pub fn finish_job(
        &mut self,
        job: &Started,
        limit: impl Into<Option<Duration>>,
    ) -> Result<JobEnd, Error> {
        let deadline = Deadline::after(limit.into());
        while job.track().end().is_none() {
            if !self.listen(deadline)? {
                return Err(deadline.timeout(Awaited::Job(job.id.clone())));
            }
        }
        let jobs = job::list(self)?;
        let left = jobs.into_iter().find(|found| {
            // Not another one of the same name.
            found.id == job.id && found.status == JobStatus::Concluded
        });
        let Some(end) = left.and_then(|left| left.end()) else {
            // QEMU has dismissed it: events are all there is.
            return Ok(job.track().end().expect("it has ended"));
        };
        match self.execute("job-dismiss", json!({ "id": job.id })) {
            // Someone else was faster.
            Ok(_) | Err(Error::Refused { .. }) => Ok(end),
            Err(err) => Err(err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::prelaunch::Prelaunch;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn with_disks(vm: &Prelaunch) -> Client {
        let mut qmp = vm.connect();
        for node in ["from", "to", "too"] {
            let disk = json!({ "driver": "null-co", "node-name": node, "size": 1 << 30 });
            qmp.execute("blockdev-add", disk).unwrap();
        }
        qmp
    }

    fn backup(qmp: &mut Client, id: &str, target: &str, speed: u64) -> Started {
        let arguments = json!({
            "job-id": id, "device": "from", "target": target, "sync": "full", "speed": speed,
        });
        qmp.start_job("blockdev-backup", arguments).unwrap()
    }

    #[test]
    fn a_job_is_waited_for_while_events_are_taken_and_other_commands_are_run() {
        let vm = Prelaunch::start();
        let mut qmp = with_disks(&vm);
        let slow = backup(&mut qmp, "slow", "too", 1 << 20);
        let quick = backup(&mut qmp, "quick", "to", 0);
        while qmp.job_progress(&quick, PATIENCE).unwrap().is_some() {
            qmp.execute("query-version", ()).unwrap();
            qmp.events().count();
        }
        assert_eq!(qmp.finish_job(&quick, PATIENCE).unwrap(), JobEnd::Completed);

        let err = qmp.finish_job(&slow, Duration::ZERO).unwrap_err();
        assert_eq!(
            err.to_string(),
            "timed out after 0ns waiting for the end of job `slow`"
        );
        qmp.execute("job-cancel", json!({ "id": slow.id() }))
            .unwrap();
        assert_eq!(qmp.finish_job(&slow, PATIENCE).unwrap(), JobEnd::Canceled);
    }

    #[test]
    fn a_job_that_fails_says_why_and_is_dismissed() {
        let vm = Prelaunch::start();
        let mut qmp = vm.connect();
        let options = json!({ "driver": "file", "filename": "/nonexistent/x", "size": 1 });
        let arguments = json!({ "job-id": "c", "options": options });
        for _ in 0..2 {
            let job = qmp.start_job("blockdev-create", &arguments).unwrap();
            let why = "Could not create '/nonexistent/x': No such file or directory";
            let end = qmp.finish_job(&job, PATIENCE).unwrap();
            assert_eq!(end, JobEnd::Failed(why.to_owned()));
        }
    }

    #[test]
    fn a_job_that_is_refused_has_not_begun() {
        let vm = Prelaunch::start();
        let mut qmp = with_disks(&vm);
        let job = json!({ "job-id": "b", "device": "none", "target": "to", "sync": "full" });
        let err = qmp.start_job("blockdev-backup", job).unwrap_err();
        assert!(matches!(err, Error::Refused { .. }), "{err:?}");
        let job = backup(&mut qmp, "b", "to", 0);
        assert_eq!(qmp.finish_job(&job, PATIENCE).unwrap(), JobEnd::Completed);
    }

    #[test]
    fn a_job_that_nobody_waits_for_goes_on() {
        let vm = Prelaunch::start();
        let mut qmp = with_disks(&vm);
        drop(backup(&mut qmp, "b", "to", 1 << 20));
        assert_eq!(job::list(&mut qmp).unwrap()[0].id, "b");
        // Until someone does.
        assert!(qmp.join_job("c").unwrap().is_none());
        let job = qmp.join_job("b").unwrap().unwrap();
        qmp.execute("job-cancel", json!({ "id": "b" })).unwrap();
        assert_eq!(qmp.finish_job(&job, PATIENCE).unwrap(), JobEnd::Canceled);
    }
}
