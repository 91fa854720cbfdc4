//! Stopping a VM: ask the guest, wait, and cut the power only when told to.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::config::{Stop, StopAction};
use crate::paths::RuntimeDir;
use crate::process::Process;
use crate::qmp::{self, Agent, Client, RunState, Shutdown};
use crate::systemd::{self, ActiveState, unit_name};
use crate::vm::VmName;

use super::ls::vm_of;
use super::{Error, Host, Selector, in_force, order, save, select};

/// When to cut the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Never: a guest that does not power down goes on running.
    Never,
    /// At once, without asking the guest.
    Now,
    /// When the guest has not powered down after this long.
    After(Duration),
}

/// How a VM stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The guest powered itself down.
    PoweredDown,
    /// There was no guest that could: it had not begun to run, or had panicked.
    NoGuest,
    /// Its state was saved, as its definition wants; the next start goes on there.
    Saved,
    /// The power was cut.
    PowerCut,
    /// It was starting, and the start was called off.
    StartCanceled,
    /// It had ended, and is not started again.
    RestartCanceled,
}

/// How asking a guest to power down ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PowerDown {
    /// QEMU has ended.
    Done,
    /// In this state no guest can react; it was not waited for.
    NoGuest(RunState),
    /// QEMU still runs.
    StillUp,
}

/// Stops a VM. Whatever its restart policy, it stays stopped.
///
/// `timeout` is how long the guest may take; `None` is what its definition says.
pub fn stop(
    host: &Host,
    name: &VmName,
    timeout: Option<Duration>,
    force: Force,
) -> Result<Outcome, Error> {
    let unit = host.unit(name)?;
    match unit.active_state {
        ActiveState::Inactive | ActiveState::Failed => {
            // A name that no one knows is another mistake than a VM that is down.
            host.vm(name)?;
            return Err(Error::Stopped(name.clone()));
        }
        _ => {}
    }
    let sockets = host.paths.sockets(name);
    let process = unit.main_pid.and_then(Process::open);
    let Some(process) = process else {
        // Between two processes: before the launcher, or waiting for a restart.
        systemd::stop(&host.scope, &unit.unit, || {})?;
        return Ok(match unit.restarts > 0 || unit.result != "success" {
            true => Outcome::RestartCanceled,
            false => Outcome::StartCanceled,
        });
    };
    let limit = match force {
        Force::Now => return cut_power(host, name, &sockets, &process, true),
        Force::After(limit) => limit,
        Force::Never => match (timeout, defined(host, name)?) {
            (timeout, stop) if stop.action == StopAction::Save => {
                let limit = timeout.unwrap_or(stop.timeout.duration());
                save::save(host, name, Some(limit), &mut |_| save::GoOn::Yes)?;
                return Ok(Outcome::Saved);
            }
            (Some(timeout), _) => timeout,
            (None, stop) if stop.action == StopAction::Kill => {
                return cut_power(host, name, &sockets, &process, true);
            }
            (None, stop) => stop.timeout.duration(),
        },
    };
    let mut answers = true;
    let asked = match power_down(&sockets, &process, limit) {
        // Its launcher has not come to making sockets.
        Err(qmp::Error::Connect { source, .. })
            if is_gone(&source) && unit.active_state == ActiveState::Activating =>
        {
            systemd::stop(&host.scope, &unit.unit, || {})?;
            return Ok(Outcome::StartCanceled);
        }
        Err(qmp::Error::Connect { source, path }) if is_gone(&source) && force == Force::Never => {
            return Err(Error::MonitorGone {
                name: name.clone(),
                socket: path,
            });
        }
        Err(qmp::Error::Timeout { .. }) if force == Force::Never => {
            return Err(Error::Silent {
                name: name.clone(),
                seconds: limit.as_secs(),
            });
        }
        Err(error) if force == Force::Never => return Err(error.into()),
        // A monitor that does not answer is as good a reason to use force as a guest.
        Err(_) => {
            answers = false;
            PowerDown::StillUp
        }
        Ok(asked) => asked,
    };
    match (asked, force) {
        (PowerDown::Done, _) => {
            systemd::stop(&host.scope, &unit.unit, || {})?;
            Ok(Outcome::PoweredDown)
        }
        (PowerDown::NoGuest(_), _) => {
            cut_power(host, name, &sockets, &process, true)?;
            Ok(Outcome::NoGuest)
        }
        (PowerDown::StillUp, Force::Never) => Err(Error::StillUp {
            name: name.clone(),
            seconds: limit.as_secs(),
        }),
        (PowerDown::StillUp, _) => cut_power(host, name, &sockets, &process, answers),
    }
}

/// The VMs that `selectors` name, for stopping: a name is taken as it is, a
/// pattern and `All` mean only those that run.
pub fn running(host: &Host, selectors: &[Selector]) -> Result<Vec<VmName>, Error> {
    let mut names: Vec<VmName> = Vec::new();
    let mut patterns = Vec::new();
    for selector in selectors {
        match selector {
            // Also one whose definition is gone, as long as it runs.
            Selector::Name(name) => names.push(name.clone()),
            pattern => patterns.push(pattern.clone()),
        }
    }
    if !patterns.is_empty() {
        let units = systemd::list(&host.scope, "maqet-*.service")?;
        let up = units.iter().filter(|unit| unit.active.is_up());
        let up: Vec<VmName> = up.filter_map(|unit| vm_of(&unit.unit)).collect();
        names.extend(
            select(host, &patterns)?
                .into_iter()
                .filter(|name| up.contains(name)),
        );
    }
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

/// Stops VMs, all at once, but each after those that come after it.
///
/// As systemd does, it stops also those that run and require one of them, and first;
/// a VM is not stopped while one that requires it is still up. `done` is called for
/// each as it ends.
pub fn stop_all(
    host: &Host,
    names: &[VmName],
    timeout: Option<Duration>,
    force: Force,
    mut done: impl FnMut(&VmName, Result<Outcome, Error>),
) -> Result<(), Error> {
    let stops = order::stops(host, names)?;
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let (mut begun, mut down) = (HashSet::new(), HashMap::new());
        loop {
            let mut ready = Vec::new();
            for stop in stops.iter().filter(|stop| !begun.contains(&stop.name)) {
                if !stop.after.iter().all(|other| down.contains_key(other)) {
                    continue;
                }
                ready.push(stop);
            }
            for stop in ready {
                begun.insert(&stop.name);
                let by = stop
                    .required_by
                    .iter()
                    .find(|by| down.get(by) == Some(&false));
                let needed = by.map(|by| Error::Needed {
                    name: stop.name.clone(),
                    by: by.clone(),
                });
                let tell = tell.clone();
                scope.spawn(move || {
                    let outcome = match needed {
                        Some(error) => Err(error),
                        None => self::stop(host, &stop.name, timeout, force),
                    };
                    // The receiver listens until the last of them has told.
                    let _ = tell.send((&stop.name, outcome));
                });
            }
            if down.len() == stops.len() {
                return;
            }
            let Ok((name, outcome)) = told.recv() else {
                return;
            };
            let is_down = matches!(outcome, Ok(_) | Err(Error::Stopped(_)));
            down.insert(name, is_down);
            done(name, outcome);
        }
    });
    Ok(())
}

/// What the definition says; the defaults for a VM that runs without one.
fn defined(host: &Host, name: &VmName) -> Result<Stop, Error> {
    let row = match host.vm(name) {
        Ok(row) => row,
        Err(Error::NoSuchVm { .. }) => return Ok(Stop::default()),
        Err(error) => return Err(error),
    };
    // It runs, whatever has become of its definition and of the defaults since.
    match (host.config(&row), in_force::read(host, name)) {
        (Ok(config), _) => Ok(config.stop),
        (Err(_), Ok(Some(used))) => Ok(used.config.stop),
        (Err(error), _) => Err(error),
    }
}

/// A power-down request is lost while the guest's system is not up yet, so it is repeated.
const REPEAT: Duration = Duration::from_secs(5);

/// How long QEMU may take for one round of questions, before they are asked anew.
const ANSWER: Duration = Duration::from_secs(5);

/// The same at the end of the time that the guest has.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// Asks the guest to power down, again and again, until QEMU has ended or `limit` has passed.
///
/// # Errors
/// When the monitor cannot be reached although the process is there;
/// [`Timeout`](qmp::Error::Timeout) if it has not answered in all that time.
pub fn power_down(
    sockets: &RuntimeDir,
    process: &Process,
    limit: Duration,
) -> Result<PowerDown, qmp::Error> {
    let deadline = Instant::now() + limit;
    let mut is_asked = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // An agent that did not do it in the first round gets the power button to help.
        match ask(sockets, !is_asked, left.clamp(LAST_ANSWER, ANSWER)) {
            Ok(Asked::Guest) => is_asked = true,
            Ok(Asked::Nobody(state)) => return Ok(PowerDown::NoGuest(state)),
            Err(error) if process.wait(end_after(&error)) => return Ok(PowerDown::Done),
            // A host that is busy has a QEMU that is slow.
            Err(qmp::Error::Timeout { .. }) if Instant::now() < deadline => continue,
            Err(qmp::Error::Timeout { .. }) if is_asked => return Ok(PowerDown::StillUp),
            Err(error) => return Err(error),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if process.wait(left.min(REPEAT)) {
            return Ok(PowerDown::Done);
        }
        if left <= REPEAT {
            return Ok(PowerDown::StillUp);
        }
    }
}

/// How long a QEMU may take to end that answers like this.
fn end_after(error: &qmp::Error) -> Duration {
    match error {
        // It closes its monitors first, and takes the guest apart then.
        qmp::Error::Closed { .. } => ENDING,
        qmp::Error::Connect { source, .. } if source.kind() == ErrorKind::ConnectionRefused => {
            ENDING
        }
        // It has just removed its sockets; or it has not come to making them, or lost them.
        qmp::Error::Connect { .. } => Duration::from_secs(1),
        _ => Duration::from_millis(100),
    }
}

/// How long QEMU may take to end after it has closed its monitors, on a busy host.
const ENDING: Duration = Duration::from_secs(5);

/// Whether there was a guest to ask.
enum Asked {
    Guest,
    Nobody(RunState),
}

/// Asks once. The connection is closed again at once: the next in line waits for it.
fn ask(sockets: &RuntimeDir, with_agent: bool, limit: Duration) -> Result<Asked, qmp::Error> {
    let mut monitor = Client::connect(&sockets.ctl(), limit)?;
    monitor.set_timeout(limit);
    let state = monitor.status()?.run_state;
    match state {
        // Not one instruction has run, or none ever will again.
        RunState::Postmigrate if sockets.saved().exists() => return Ok(Asked::Nobody(state)),
        RunState::Prelaunch
        | RunState::GuestPanicked
        | RunState::InternalError
        | RunState::Shutdown => return Ok(Asked::Nobody(state)),
        RunState::Paused | RunState::IoError | RunState::Watchdog | RunState::Postmigrate => {
            monitor.execute("cont", ())?;
        }
        RunState::Suspended => {
            monitor.execute("system_wakeup", ())?;
        }
        _ => {}
    }
    // The agent shuts down guests that have no one listening to the power button.
    if with_agent
        && super::agent::is_open(&mut monitor)? == Some(true)
        && agent_shutdown(sockets).is_ok()
    {
        return Ok(Asked::Guest);
    }
    monitor.execute("system_powerdown", ())?;
    Ok(Asked::Guest)
}

fn agent_shutdown(sockets: &RuntimeDir) -> Result<(), qmp::Error> {
    let limit = Duration::from_secs(1);
    let mut agent = Agent::connect(&sockets.agent(), limit)?;
    agent.set_timeout(limit);
    agent.shutdown(Shutdown::Powerdown, limit)
}

/// How long QEMU may take to flush its disks and end.
const QUIT: Duration = Duration::from_secs(10);

/// The same after SIGTERM, when its monitor did not answer.
const TERMINATE: Duration = Duration::from_secs(3);

/// Ends QEMU without asking the guest, nor QEMU, unless its monitor still `answers`.
///
/// systemd is told first, so that no restart policy takes this for a crash.
fn cut_power(
    host: &Host,
    name: &VmName,
    sockets: &RuntimeDir,
    process: &Process,
    answers: bool,
) -> Result<Outcome, Error> {
    let unit = unit_name(name);
    thread::scope(|scope| {
        let (accepted, is_accepted) = mpsc::channel();
        let stopping = scope.spawn({
            let unit = &unit;
            move || {
                systemd::stop(&host.scope, unit, || {
                    // The receiver waits in any case; it is gone only when this thread is.
                    let _ = accepted.send(());
                })
            }
        });
        if is_accepted.recv().is_ok()
            && !(answers && quit(sockets, process).is_ok() && process.wait(QUIT))
        {
            // SIGTERM does what `quit` does, and needs no monitor. It goes to this process,
            // and not to one that may run by that name by now.
            let send = |signal| process.signal(signal).map_err(Error::io("cannot end QEMU"));
            send(Signal::TERM)?;
            if !process.wait(TERMINATE) {
                send(Signal::KILL)?;
            }
        }
        Ok::<(), Error>(stopping.join().expect("stopping does not panic")?)
    })?;
    // However QEMU ended, it has done what it was told to.
    systemd::reset_failed(&host.scope, &unit)?;
    Ok(Outcome::PowerCut)
}

/// QMP `quit`: QEMU flushes its disks and ends.
fn quit(sockets: &RuntimeDir, process: &Process) -> Result<(), qmp::Error> {
    let limit = Duration::from_secs(2);
    let mut monitor = Client::connect(&sockets.ctl(), limit)?;
    if process.wait(Duration::ZERO) {
        // Whoever answers is another one.
        return Ok(());
    }
    match monitor.execute_within("quit", (), limit) {
        // It may be gone before its reply is.
        Ok(_) | Err(qmp::Error::Closed { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn is_gone(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
    )
}
