//! Waiting for something to happen to a running VM, or to have happened.
//!
//! Listening comes before looking, so that nothing is missed in between: first the
//! event log is opened, then QEMU is asked what is true already. The end of QEMU is
//! seen by its process, at once.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::nearest::nearest;
use crate::process::Process;
use crate::qmp::{
    self, Event, Follower, Heard, Job, JobEnd, JobTrack, Monitor, RunState, Start, job, log,
};
use crate::systemd::{ActiveState, UnitStatus};
use crate::vm::VmName;

use super::past::{Ending, ending};
use super::qmp::check_names;
use super::{Error, Host};

/// What is waited for.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// An event whose name matches, from now on.
    Event(glob::Pattern),
    /// That the guest is in this state; now counts.
    State(RunState),
    /// That QEMU has ended.
    Shutdown,
    /// That the guest has panicked in this run.
    Panicked,
    /// That the job of this id has ended.
    Job(String),
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once('=') {
            Some(("state", state)) if !state.is_empty() => {
                Self::State(serde_json::from_value(state.into()).map_err(|e| e.to_string())?)
            }
            Some(("job", id)) if !id.is_empty() => Self::Job(id.to_owned()),
            None if text == "shutdown" => Self::Shutdown,
            None if text == "panicked" => Self::Panicked,
            None if !text.is_empty() => Self::Event(
                glob::Pattern::new(&text.to_uppercase()).map_err(|error| error.msg.to_owned())?,
            ),
            _ => {
                return Err("write an event, state=STATE, shutdown, panicked or job=ID".to_owned());
            }
        })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(name) => name.fmt(f),
            Self::State(state) => write!(f, "state={state}"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::Panicked => f.write_str("panicked"),
            Self::Job(id) => write!(f, "job={id}"),
        }
    }
}

/// What came.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "came")]
pub enum Came {
    /// An event.
    Event {
        /// It.
        #[serde(flatten)]
        event: Event,
    },
    /// The guest is in this state.
    State {
        /// QEMU's word.
        state: RunState,
    },
    /// QEMU has ended.
    Shutdown(Ended),
    /// The guest has panicked.
    Panicked,
    /// The job has ended.
    Job {
        /// Its id.
        id: String,
        /// How.
        #[serde(flatten)]
        end: JobEnd,
    },
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// The reason in QEMU's SHUTDOWN event: `guest-shutdown`, `host-qmp-quit` …; none
    /// if QEMU was killed.
    pub reason: Option<String>,
    /// systemd's word: `success`, `exit-code`, `signal`, `oom-kill` …
    pub result: Option<String>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.reason, &self.result) {
            (Some(reason), _) => f.write_str(reason),
            (None, Some(result)) => write!(f, "{result} (systemd's word: QEMU said nothing)"),
            (None, None) => f.write_str("it does not run, and nothing is known of an earlier run"),
        }
    }
}

/// How long QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How often a job's progress is looked at, for someone who sees it.
const PROGRESS: Duration = Duration::from_millis(500);

/// How long systemd may take to notice an end.
const NOTICED: Duration = Duration::from_secs(10);

/// Waits for the first of `whats` to come.
///
/// Events count from `since` on, in this run, or else from now on. `limit` is for all of
/// it, and `None` for ever. If there is a `progress`, it is shown jobs as they go on.
///
/// # Errors
/// [`Error::NotRunning`]; [`Error::Words`] for an event or a state that this QEMU does not
/// know; [`Error::NotInTime`] after the limit; [`Error::Ended`] if the
/// VM ends and nothing that was waited for can come any more; [`Error::NoSuchJob`].
pub fn wait(
    host: &Host,
    name: &VmName,
    whats: &[What],
    since: Option<SystemTime>,
    limit: Option<Duration>,
    progress: Option<&mut dyn FnMut(&Job)>,
) -> Result<Came, Error> {
    let unit = host.unit(name)?;
    if !unit.active_state.is_up() && whats.contains(&What::Shutdown) {
        host.vm(name)?;
        let reason = ending(host, name, &unit)?.map(|Ending { reason, .. }| reason);
        // Of a unit that is not there, systemd says that it has ended well.
        let has_run = reason.is_some() || unit.inactive_since.is_some();
        let result = has_run.then_some(unit.result);
        return Ok(Came::Shutdown(Ended { reason, result }));
    }
    let pid = unit.main_pid;
    let listener = Listener::of_unit(host, name, unit)?;
    let events = whats.iter().filter_map(event_of);
    let states = whats.iter().filter_map(state_of);
    check_names(host, name, pid, limit, events, states)?;
    listener.wait(whats, since, limit, progress)
}

/// Someone who listens to a running VM; what happens from now on is not missed.
pub struct Listener<'a> {
    host: &'a Host,
    name: &'a VmName,
    unit: UnitStatus,
    process: Process,
    events: Follower,
    now: SystemTime,
    /// The reason of QEMU's end, once it was heard.
    reason: Option<String>,
}

impl<'a> Listener<'a> {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::NoSuchVm`].
    pub fn new(host: &'a Host, name: &'a VmName) -> Result<Self, Error> {
        Self::of_unit(host, name, host.unit(name)?)
    }

    fn of_unit(host: &'a Host, name: &'a VmName, unit: UnitStatus) -> Result<Self, Error> {
        let process = unit.main_pid.and_then(Process::open);
        let Some(process) = process else {
            host.vm(name)?;
            return Err(Error::NotRunning(name.clone()));
        };
        let log = launched(host, &unit, name, &process)?;
        let events =
            Follower::open(&log, Start::Begin).map_err(Error::io("cannot follow the event log"))?;
        Ok(Self {
            host,
            name,
            unit,
            events: events.of_process(
                process
                    .try_clone()
                    .map_err(Error::io("cannot watch QEMU"))?,
            ),
            process,
            now: SystemTime::now(),
            reason: None,
        })
    }

    /// Waits for the first of `whats` to come; see [`wait`].
    ///
    /// # Errors
    /// Those of [`wait`].
    pub fn wait(
        mut self,
        whats: &[What],
        since: Option<SystemTime>,
        limit: Option<Duration>,
        mut progress: Option<&mut dyn FnMut(&Job)>,
    ) -> Result<Came, Error> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        // Events carry no more than microseconds.
        let since = since.unwrap_or(self.now) - Duration::from_micros(1);
        let mut jobs: Vec<JobTrack> = whats.iter().filter_map(job_of).map(JobTrack::new).collect();
        // What was said before counts for jobs and panics; what is true now is asked then.
        loop {
            let came = match self.hear(Some(Duration::ZERO))? {
                Heard::Event(event) => self.judge(&event, whats, since, &mut jobs),
                Heard::End(_) => break,
                Heard::Nothing => {
                    if let Some(came) = self.unless_ended(self.look(whats, &mut jobs))? {
                        return Ok(came);
                    }
                    break;
                }
            };
            if let Some(came) = self.unless_ended(came)? {
                return Ok(came);
            }
        }
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let shows = progress.is_some() && !jobs.is_empty();
            let nap = match left {
                Some(left) if shows => Some(left.min(PROGRESS)),
                None if shows => Some(PROGRESS),
                left => left,
            };
            match self.hear(nap)? {
                Heard::Event(event) => {
                    let came = self.judge(&event, whats, since, &mut jobs);
                    if let Some(came) = self.unless_ended(came)? {
                        return Ok(came);
                    }
                }
                Heard::End(_) => {
                    let ended = self.how_it_ended();
                    return if whats.contains(&What::Shutdown) {
                        Ok(Came::Shutdown(ended))
                    } else {
                        Err(Error::Ended {
                            name: self.name.clone(),
                            awaited: list(whats),
                            how: ended.to_string(),
                        })
                    };
                }
                Heard::Nothing if deadline.is_some_and(|at| at <= Instant::now()) => {
                    return Err(Error::NotInTime {
                        awaited: list(whats),
                        limit: limit.unwrap_or_default(),
                    });
                }
                Heard::Nothing => {
                    // Only for show: someone may hold the monitor.
                    let all = self.monitor().and_then(|mut qmp| Ok(job::list(&mut qmp)?));
                    if let (Some(progress), Ok(all)) = (&mut progress, all) {
                        let is_ours = |job: &&Job| jobs.iter().any(|track| track.id() == job.id);
                        all.iter().filter(is_ours).for_each(progress);
                    }
                }
            }
        }
    }

    /// A QEMU that cannot be asked because it ends has nothing to say; the end is heard later.
    fn unless_ended<T>(&self, said: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
        match said {
            Err(Error::Qmp(qmp::Error::Closed { .. } | qmp::Error::Connect { .. }))
            | Err(Error::NotRunning(_) | Error::MonitorGone { .. })
                if self.process.wait(NOTICED) =>
            {
                Ok(None)
            }
            said => said,
        }
    }

    fn hear(&mut self, limit: Option<Duration>) -> Result<Heard, Error> {
        let heard = self.events.next_event(limit);
        let heard = heard.map_err(Error::io("cannot follow the event log"))?;
        if let Heard::Event(event) = &heard
            && event.name == "SHUTDOWN"
        {
            let reason = event.data.get("reason").and_then(|reason| reason.as_str());
            self.reason = reason.map(str::to_owned);
        }
        Ok(heard)
    }

    /// Whether one of `whats` has come with `event`.
    fn judge(
        &self,
        event: &Event,
        whats: &[What],
        since: SystemTime,
        jobs: &mut [JobTrack],
    ) -> Result<Option<Came>, Error> {
        let is_new = event.timestamp.time().is_none_or(|time| time >= since);
        for track in jobs {
            if track.hear(event) && is_new && track.end().is_some() {
                return self.end_of(track).map(Some);
            }
        }
        for what in whats {
            match what {
                What::Event(name) if is_new && name.matches(&event.name) => {
                    let event = event.clone();
                    return Ok(Some(Came::Event { event }));
                }
                What::Panicked if event.name == "GUEST_PANICKED" => {
                    return Ok(Some(Came::Panicked));
                }
                What::State(state) if is_new && self.tells(event, state)? => {
                    let state = state.clone();
                    return Ok(Some(Came::State { state }));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Whether with `event` the guest came to be in `state`.
    fn tells(&self, event: &Event, state: &RunState) -> Result<bool, Error> {
        match &*event.name {
            "RESUME" | "WAKEUP" if *state == RunState::Running => Ok(true),
            // Why it stopped has many names, which only QEMU knows.
            "STOP" | "SUSPEND" | "RESUME" | "WAKEUP" | "GUEST_PANICKED" | "RESET" => {
                Ok(self.monitor()?.status()?.run_state == *state)
            }
            _ => Ok(false),
        }
    }

    /// Whether one of `whats` is true already.
    fn look(&self, whats: &[What], jobs: &mut [JobTrack]) -> Result<Option<Came>, Error> {
        let states: Vec<&RunState> = whats.iter().filter_map(state_of).collect();
        if !states.is_empty() {
            let said = log::run_state(&self.host.paths.sockets(self.name).events_log());
            let is = match said {
                Some(state) => state,
                None => self.monitor()?.status()?.run_state,
            };
            if states.contains(&&is) {
                return Ok(Some(Came::State { state: is }));
            }
        }
        if jobs.is_empty() {
            return Ok(None);
        }
        let all = job::list(&mut *self.monitor()?)?;
        for track in jobs {
            if let Some(job) = all.iter().find(|job| job.id == track.id()) {
                *track = JobTrack::of(job);
            } else if track.status().is_none() {
                return Err(no_such_job(self.name, track.id(), &all));
            }
            if track.end().is_some() {
                return self.end_of(track).map(Some);
            }
        }
        Ok(None)
    }

    /// How a job ended that has: by its own word, as long as it is there, and it is
    /// dismissed then; otherwise by what was heard of it.
    fn end_of(&self, track: &JobTrack) -> Result<Came, Error> {
        let heard = track.end().expect("it has ended");
        let kept = self.monitor().and_then(|mut qmp| {
            let all = job::list(&mut qmp)?;
            let kept = all
                .iter()
                .find(|job| job.id == track.id())
                .and_then(Job::end);
            if kept.is_some() {
                let dismiss = serde_json::json!({ "id": track.id() });
                // Another who waited may have done so just now.
                let _ = qmp.execute("job-dismiss", dismiss);
            }
            Ok(kept)
        });
        // QEMU may have ended after its job, too.
        let end = self.unless_ended(kept)?.unwrap_or(heard);
        let id = track.id().to_owned();
        Ok(Came::Job { id, end })
    }

    fn monitor(&self) -> Result<Monitor, Error> {
        open(self.host, self.name)
    }

    fn how_it_ended(&self) -> Ended {
        let deadline = Instant::now() + NOTICED;
        let result = loop {
            match self.host.unit(self.name) {
                Ok(unit) if unit.main_pid == self.unit.main_pid && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(unit) if unit.invocation_id == self.unit.invocation_id => {
                    break Some(unit.result).filter(|result| !result.is_empty());
                }
                // Gone without a trace, as one that ended well is, or another run.
                _ => break None,
            }
        };
        let reason = self.reason.clone();
        Ended { reason, result }
    }
}

/// How long the launcher may take.
const LAUNCH: Duration = Duration::from_secs(30);

/// Waits until there is an event log, which is the last of what the launcher makes.
pub(super) fn launched(
    host: &Host,
    unit: &UnitStatus,
    name: &VmName,
    process: &Process,
) -> Result<PathBuf, Error> {
    let log = host.paths.sockets(name).events_log();
    let deadline = Instant::now() + LAUNCH;
    while !log.exists() {
        if process.wait(Duration::from_millis(5)) {
            return Err(Error::NotRunning(name.clone()));
        }
        // Someone has removed it.
        if unit.active_state == ActiveState::Active || Instant::now() >= deadline {
            return Err(Error::MonitorGone {
                name: name.clone(),
                socket: log,
            });
        }
    }
    Ok(log)
}

/// The VM's monitor, for a question or two.
pub(super) fn open(host: &Host, name: &VmName) -> Result<Monitor, Error> {
    super::monitor::open(host, name, ANSWER)
}

pub(super) fn no_such_job(name: &VmName, id: &str, all: &[Job]) -> Error {
    let nearest = nearest(id, all.iter().map(|job| &*job.id))
        .into_iter()
        .next();
    Error::NoSuchJob {
        name: name.clone(),
        id: id.to_owned(),
        nearest: nearest.map(str::to_owned),
    }
}

fn job_of(what: &What) -> Option<&str> {
    match what {
        What::Job(id) => Some(id),
        _ => None,
    }
}

fn event_of(what: &What) -> Option<&glob::Pattern> {
    match what {
        What::Event(name) => Some(name),
        _ => None,
    }
}

fn state_of(what: &What) -> Option<&RunState> {
    match what {
        What::State(state) => Some(state),
        _ => None,
    }
}

fn list(whats: &[What]) -> String {
    let whats: Vec<String> = whats.iter().map(|what| format!("`{what}`")).collect();
    whats.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_one_word() {
        for text in [
            "STOP",
            "BLOCK_*",
            "state=paused",
            "state=rebooting",
            "shutdown",
            "panicked",
            "job=b=1",
        ] {
            assert_eq!(text.parse::<What>().unwrap().to_string(), text);
        }
        assert_eq!("stop".parse::<What>(), "STOP".parse());
        assert_ne!("shutdown".parse::<What>(), "SHUTDOWN".parse());
        for text in ["", "state=", "job=", "status=running", "[", "=x"] {
            assert!(text.parse::<What>().is_err(), "{text}");
        }
    }
}
