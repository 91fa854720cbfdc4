//! What was printed: by QEMU and systemd in the journal, by the guest on its console.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::time::SystemTime;

use crate::config::DeviceName;
use crate::console;
use crate::console::shipped::{self, Mark};
use crate::paths::VmDir;
use crate::systemd::{journal, unit_name};
use crate::vm::VmName;

use super::{Error, Host, in_force};

/// Which runs of a VM are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// One run: 0 is this or the last one, -1 the one before.
    Back(i32),
    /// All of them.
    All,
}

/// Which lines of a VM are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Of which run.
    pub run: Run,
    /// Only those written since then.
    pub since: Option<SystemTime>,
    /// Only the last so many.
    pub lines: Option<usize>,
    /// Go on with new ones as they come.
    pub follow: bool,
}

/// The journal's entries for a VM: what its unit printed, and unless `only_qemu`, what
/// systemd said of it.
///
/// QEMU's events are in the journal too; they are left out here.
///
/// # Errors
/// [`Error::NoTimes`], where there is only a file.
pub fn journal(
    host: &Host,
    name: &VmName,
    wanted: Wanted,
    only_qemu: bool,
) -> Result<impl Iterator<Item = journal::Entry>, Error> {
    let Wanted { lines, follow, .. } = wanted;
    let unit = host.unit(name)?;
    // A VM whose definition is gone may still have a history; one that never was has none.
    if !unit.active_state.is_up() {
        host.vm(name)?;
    }
    let is_file = host.output_log(name).is_some();
    if is_file && wanted.since.is_some() {
        return Err(Error::NoTimes);
    }
    let invocation = match wanted.run {
        Run::All => None,
        // A file is begun anew with each run.
        Run::Back(0) if is_file => None,
        Run::Back(back) => match (back, unit.invocation_id) {
            (0, Some(id)) => Some(id),
            (back, _) => Some(nth_run(host, name, back)?),
        },
    };
    let query = journal::Query {
        invocation_id: invocation.as_deref(),
        since: wanted.since,
        // Of what follows the last lines cannot be counted after filtering.
        lines: lines.filter(|_| follow),
        follow,
        ..Default::default()
    };
    let printer = unit_name(name);
    let printer = printer.trim_end_matches(".service").to_owned();
    let entries = host.output(name, &query)?.filter(move |entry| {
        !entry.is_monitor_traffic()
            && (!only_qemu || entry.identifier == printer)
            // journalctl is asked in whole seconds.
            && wanted.since.is_none_or(|since| entry.time >= Some(since))
    });
    Ok(last(entries, lines, follow))
}

/// The invocation of the run that is `back` runs before the last (0, -1, …).
fn nth_run(host: &Host, name: &VmName, back: i32) -> Result<String, Error> {
    let mut runs: Vec<String> = Vec::new();
    for entry in host.output(name, &journal::Query::default())? {
        if let Some(id) = entry.invocation_id
            && !runs.contains(&id)
        {
            runs.push(id);
        }
    }
    let index = runs.len() as i64 - 1 + i64::from(back);
    usize::try_from(index)
        .ok()
        .and_then(|index| runs.get(index).cloned())
        .ok_or_else(|| Error::NoRun {
            name: name.clone(),
            back,
            known: runs.len(),
        })
}

/// Only the last so many, of what is there when nothing is to follow.
fn last(
    entries: impl Iterator<Item = journal::Entry>,
    lines: Option<usize>,
    follow: bool,
) -> impl Iterator<Item = journal::Entry> {
    let mut rest = Some(entries);
    let kept = match lines {
        Some(count) if !follow => {
            let all: Vec<_> = rest.take().into_iter().flatten().collect();
            let skip = all.len().saturating_sub(count);
            Some(all.into_iter().skip(skip))
        }
        _ => None,
    };
    kept.into_iter().flatten().chain(rest.into_iter().flatten())
}

/// One line that a guest printed.
#[derive(Clone, Debug)]
pub struct ConsoleLine {
    /// When it was copied to the journal: up to half a minute after it was printed, or
    /// more if much was; unknown before it was.
    pub time: Option<SystemTime>,
    /// The run it belongs to, where that is known.
    pub run: Option<String>,
    /// The line, without what is for terminals.
    pub text: String,
}

/// What a guest printed on its console: some lines, and a log that goes on from there.
#[derive(Debug, Default)]
pub struct Console {
    /// Lines of the past.
    pub history: Vec<ConsoleLine>,
    /// The log that follows them, open where that is.
    pub log: Option<(PathBuf, File)>,
    /// The run that the log is of.
    pub run: Option<String>,
}

/// What the guest of a VM printed on its console.
///
/// The logs are of the last two runs; the others are in the journal, as are the times.
///
/// # Errors
/// [`Error::NoRun`], if that is not known; [`Error::NoTimes`], where there are only files.
pub fn console(host: &Host, name: &VmName, wanted: Wanted) -> Result<Console, Error> {
    let dir = host.paths.vm(name);
    let mark = shipped::peek(&dir.console_shipped());
    let has_journal = journal::readable();
    if wanted.since.is_some() && !has_journal {
        return Err(Error::NoTimes);
    }
    let id = match wanted.run {
        Run::All => None,
        Run::Back(0) => mark.as_ref().map(|mark| mark.run.clone()),
        Run::Back(back) if has_journal => Some(nth_run(host, name, back)?),
        Run::Back(-1) => mark.as_ref().and_then(|mark| mark.previous_run.clone()),
        Run::Back(back) => {
            return Err(Error::NoRun {
                name: name.clone(),
                back,
                known: 2,
            });
        }
    };
    let is_all = wanted.since.is_some() || (wanted.run == Run::All && has_journal);
    let path = match wanted.run {
        _ if is_all => None,
        Run::Back(0) | Run::All => Some(dir.console_log()),
        Run::Back(-1) if !has_journal => Some(dir.previous_console_log()),
        Run::Back(_) => id.as_deref().and_then(|id| log_of(&dir, mark.as_ref(), id)),
    };
    let Some(path) = path else {
        let now = matches!(wanted.run, Run::All | Run::Back(0));
        return past(host, name, &wanted, id.as_deref().filter(|_| !now), now);
    };
    match console::open(&path) {
        Ok(file) => Ok(Console {
            history: Vec::new(),
            log: Some((path, file)),
            run: id,
        }),
        Err(error) => {
            host.vm(name)?;
            Err(Error::io(format_args!(
                "there is no console log {}",
                path.display()
            ))(error))
        }
    }
}

/// What the guest of a VM wrote to a further port: its own log, or the file that the port is.
///
/// # Errors
/// [`Error::NoSuchPort`]; [`Error::NoPortLog`], if nothing is kept of it; [`Error::NoRun`],
/// as there are logs of the last two runs, and one of a file.
pub fn port(host: &Host, name: &VmName, port: &DeviceName, run: i32) -> Result<Console, Error> {
    // A running VM may have other ports than its definition.
    let config = match in_force::read(host, name)? {
        Some(used) => used.config,
        None => host.config(&host.vm(name)?)?,
    };
    let Some(its) = config.ports.get(port) else {
        return Err(Error::NoSuchPort {
            vm: name.clone(),
            port: port.clone(),
            known: config.ports.into_keys().collect(),
        });
    };
    let dir = host.paths.vm(name);
    let no_run = |known| Error::NoRun {
        name: name.clone(),
        back: run,
        known,
    };
    let path = match &its.file {
        Some(_) if run != 0 => return Err(no_run(1)),
        Some(file) => file.clone(),
        None if !its.has_log() => {
            let (vm, port) = (name.clone(), port.clone());
            return Err(Error::NoPortLog { vm, port });
        }
        None => match run {
            0 => dir.port_log(port.as_str()),
            -1 => dir.previous_port_log(port.as_str()),
            _ => return Err(no_run(2)),
        },
    };
    // To read a FIFO would take from whoever reads it, or wait.
    let is_file = fs::metadata(&path).map_or(true, |it| it.is_file());
    if !is_file {
        let (vm, port) = (name.clone(), port.clone());
        return Err(Error::NoPortLog { vm, port });
    }
    let failed = format!("there is no log {}", path.display());
    let file = console::open(&path).map_err(Error::io(failed))?;
    Ok(Console {
        history: Vec::new(),
        log: Some((path, file)),
        run: None,
    })
}

/// The run that the VM's console log is of.
pub fn run_of_console(host: &Host, name: &VmName) -> Option<String> {
    shipped::peek(&host.paths.vm(name).console_shipped()).map(|mark| mark.run)
}

/// The log that is of a run, if one still is.
fn log_of(dir: &VmDir, mark: Option<&Mark>, run: &str) -> Option<PathBuf> {
    let mark = mark?;
    if mark.run == run {
        Some(dir.console_log())
    } else if mark.previous_run.as_deref() == Some(run) {
        Some(dir.previous_console_log())
    } else {
        None
    }
}

/// How often is looked again, when lines are copied to the journal in this moment.
const ATTEMPTS: u32 = 5;

/// The journal's lines, and if those until `now` are wanted, what is not yet there.
fn past(
    host: &Host,
    name: &VmName,
    wanted: &Wanted,
    run: Option<&str>,
    now: bool,
) -> Result<Console, Error> {
    let dir = host.paths.vm(name);
    let mut mark = shipped::peek(&dir.console_shipped());
    let query = journal::Query {
        invocation_id: run,
        since: wanted.since,
        ..Default::default()
    };
    let mut history = Vec::new();
    for _ in 0..ATTEMPTS {
        history = journal::read_console(&host.scope, name, &query)?
            .filter(|entry| wanted.since.is_none_or(|since| entry.time >= Some(since)))
            .map(|entry| ConsoleLine {
                time: entry.time,
                run: entry.invocation_id,
                text: entry.message,
            })
            .collect();
        let after = shipped::peek(&dir.console_shipped());
        if after == mark {
            break;
        }
        mark = after;
    }
    let (true, Some(mark)) = (now, mark) else {
        // A VM that is not there has a history, or has never been.
        if history.is_empty() {
            host.vm(name)?;
        }
        return Ok(Console {
            history,
            ..Default::default()
        });
    };
    let path = dir.console_log();
    let failed = || format!("cannot read {}", path.display());
    let failed = |error| Error::io(failed())(error);
    let mut log = console::open(&path).map_err(failed)?;
    let begin = log.stream_position().map_err(failed)?.max(mark.offset);
    log.seek(SeekFrom::Start(begin)).map_err(failed)?;
    let rest = console::read_lines(&mut log, !wanted.follow).map_err(failed)?;
    history.extend(rest.into_iter().map(|text| ConsoleLine {
        time: None,
        run: Some(mark.run.clone()),
        text,
    }));
    Ok(Console {
        history,
        log: Some((path, log)),
        run: Some(mark.run),
    })
}

/// The last lines of a run's console, from its log or the journal; none if there is nothing.
pub fn last_console_lines(
    host: &Host,
    name: &VmName,
    run: &str,
    count: usize,
) -> Result<Vec<String>, Error> {
    let dir = host.paths.vm(name);
    let mark = shipped::peek(&dir.console_shipped());
    if let Some(log) = log_of(&dir, mark.as_ref(), run) {
        return Ok(console::last_lines(&log, count).unwrap_or_default());
    }
    if !journal::readable() {
        return Ok(Vec::new());
    }
    let query = journal::Query {
        invocation_id: Some(run),
        lines: Some(count),
        ..Default::default()
    };
    let entries = journal::read_console(&host.scope, name, &query)?;
    Ok(entries.map(|entry| entry.message).collect())
}
