//! One job of a running VM: told what to do, and waited for.

use serde_json::json;

use crate::qmp::{self, Job, JobEnd, job};
use crate::vm::VmName;

use super::wait::{Came, Listener, What, no_such_job, open};
use super::{Error, Host};

/// What a job can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To end without having done its work.
    Cancel,
    /// To stop working until it is resumed.
    Pause,
    /// To go on.
    Resume,
    /// To end, now that it is ready: a mirror switches over.
    Complete,
    /// To make what it did final, where it was started to wait for that.
    Finalize,
    /// To be forgotten, now that it has ended.
    Dismiss,
}

impl Action {
    fn command(self) -> &'static str {
        match self {
            Self::Cancel => "job-cancel",
            Self::Pause => "job-pause",
            Self::Resume => "job-resume",
            Self::Complete => "job-complete",
            Self::Finalize => "job-finalize",
            Self::Dismiss => "job-dismiss",
        }
    }
}

/// Tells a job what to do; does not wait until it has done it.
///
/// # Errors
/// [`Error::NoSuchJob`], and QEMU's refusal of what the job cannot do in its state.
pub fn act(host: &Host, name: &VmName, id: &str, action: Action) -> Result<(), Error> {
    let mut monitor = open(host, name)?;
    match monitor.execute(action.command(), json!({ "id": id })) {
        Ok(_) => Ok(()),
        Err(error @ qmp::Error::Refused { .. }) => {
            let all = job::list(&mut monitor)?;
            if all.iter().any(|job| job.id == id) {
                Err(error.into())
            } else {
                Err(no_such_job(name, id, &all))
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Does what `begin` does with a job, such as to start it, and waits until it has ended;
/// then it is dismissed.
///
/// If there is a `progress`, it is shown the job as it goes on.
///
/// # Errors
/// Those of `begin`, [`Error::NoSuchJob`] and [`Error::Ended`].
pub fn wait(
    host: &Host,
    name: &VmName,
    id: &str,
    begin: impl FnOnce() -> Result<(), Error>,
    progress: Option<&mut dyn FnMut(&Job)>,
) -> Result<JobEnd, Error> {
    let listener = Listener::new(host, name)?;
    begin()?;
    match listener.wait(&[What::Job(id.to_owned())], None, None, progress)? {
        Came::Job { end, .. } => Ok(end),
        came => unreachable!("{came:?} was not waited for"),
    }
}
