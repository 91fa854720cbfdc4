//! What QEMU told of its guests: the events of VMs, of this run and of past ones.
//!
//! QEMU's event monitor prints to the journal, so that history is there whether or
//! not anyone listened, and following is a matter of the journal's alone.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use crate::qmp::{Event, Follower, Heard, Start, log};
use crate::store::Summary;
use crate::systemd::journal::{self, Entries, Entry};
use crate::systemd::{self, unit_name};
use crate::vm::VmName;

use super::logs::Run;
use super::ls::vm_of;
use super::qmp::check_names;
use super::{Error, Host, Selector};

/// One event of one VM.
#[derive(Clone, Debug)]
pub struct VmEvent {
    /// The VM.
    pub vm: VmName,
    /// What happened.
    pub event: Event,
    /// The run it belongs to: systemd's invocation id, 32 hexadecimal digits.
    pub run: Option<String>,
}

impl VmEvent {
    fn of_entry(vm: &VmName, entry: &Entry) -> Option<Self> {
        if !entry.is_monitor_traffic() {
            return None;
        }
        Some(Self {
            vm: vm.clone(),
            event: serde_json::from_str(&entry.message).ok()?,
            run: entry.invocation_id.clone(),
        })
    }
}

/// Which events of the past are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// Of which run of each VM.
    pub run: Run,
    /// Only those since then.
    pub since: Option<SystemTime>,
}

/// The end of what was read of the past: where the future begins.
#[derive(Clone, Debug, Default)]
pub struct Position {
    /// The journal's word for it.
    cursor: Option<String>,
    /// Where there are only files: when the last event of each VM was.
    seen: HashMap<VmName, (i64, i64)>,
}

/// Whether there is history: the journal can be read. Otherwise the last run of each
/// VM is all there is.
pub fn has_history() -> bool {
    journal::readable()
}

/// The VMs that `selectors` mean, whether they run or not: those with a definition,
/// and those that run without.
///
/// # Errors
/// [`Error::NoSuchVm`] for a name, [`Error::NoMatch`] for a pattern that means none.
pub fn vms(host: &Host, selectors: &[Selector]) -> Result<Vec<VmName>, Error> {
    let stored: HashMap<VmName, Summary> = host
        .list()?
        .into_iter()
        .map(|vm| (vm.name.clone(), vm))
        .collect();
    let mut known: Vec<VmName> = stored.keys().cloned().collect();
    let running = running(host)?;
    known.extend(
        running
            .into_iter()
            .filter(|vm| !known.contains(vm))
            .collect::<Vec<_>>(),
    );
    known.sort();
    for selector in selectors {
        if known.iter().any(|vm| selector.means(vm, stored.get(vm))) {
            continue;
        }
        match selector {
            // Says which name is near.
            Selector::Name(name) => drop(host.vm(name)?),
            other => other.means_none()?,
        }
    }
    known.retain(|vm| {
        let stored = stored.get(vm);
        selectors.iter().any(|selector| selector.means(vm, stored))
    });
    Ok(known)
}

/// Checks names of events, or patterns, by what the QEMU of a running one of `vms` knows.
///
/// # Errors
/// [`Error::Words`] for one that is unknown to it.
pub fn check(host: &Host, vms: &[VmName], filter: &[glob::Pattern]) -> Result<(), Error> {
    if filter.is_empty() {
        return Ok(());
    }
    let Some(vm) = running(host)?.into_iter().find(|vm| vms.contains(vm)) else {
        return Ok(());
    };
    let pid = host.unit(&vm)?.main_pid;
    check_names(host, &vm, pid, None, filter.iter(), std::iter::empty())
}

fn running(host: &Host) -> Result<Vec<VmName>, Error> {
    let units = systemd::list(&host.scope, "maqet-*.service")?;
    let up = units.iter().filter(|unit| unit.active.is_up());
    Ok(up.filter_map(|unit| vm_of(&unit.unit)).collect())
}

/// The events so far, in the order in which they came, of those that `wanted` wants.
///
/// # Errors
/// [`Error::NoRun`] if there is only one VM and it has no such run.
pub fn past(
    host: &Host,
    vms: &[VmName],
    past: Past,
    wanted: impl Fn(&Event) -> bool,
) -> Result<(Vec<VmEvent>, Position), Error> {
    let mut runs = Runs::default();
    let mut events = Vec::new();
    let mut position = Position::default();
    let mut take = |vm: &VmName, entry: &Entry| {
        runs.note(vm, entry.invocation_id.as_deref());
        let event = VmEvent::of_entry(vm, entry)?;
        let when = moment(&event.event);
        if wanted(&event.event) {
            events.push(event);
        }
        Some(when)
    };
    if has_history() {
        let query = journal::Query {
            since: past.since,
            ..Default::default()
        };
        for entry in journal::read_printed(&host.scope, &units(vms), &query)? {
            if let Some(vm) = vm_of_identifier(&entry.identifier) {
                take(&vm, &entry);
            }
            position.cursor = entry.cursor;
        }
    } else {
        for vm in vms {
            for entry in host.output(vm, &journal::Query::default())? {
                if let Some(when) = take(vm, &entry) {
                    position.seen.insert(vm.clone(), when);
                }
            }
        }
    }
    if let Some(since) = past.since {
        events.retain(|event| {
            event
                .event
                .timestamp
                .time()
                .is_none_or(|time| time >= since)
        });
    }
    if let Run::Back(back) = past.run {
        // What has only just begun may not have come to the journal.
        for vm in running(host)?.iter().filter(|vm| vms.contains(vm)) {
            // It may have ended since: then that is no run of its own.
            if has_history()
                && let Some(run) = host.unit(vm)?.invocation_id
            {
                runs.note(vm, Some(&run));
            }
        }
        if let [vm] = vms
            && back < 0
            && runs.nth(vm, back).is_none()
        {
            return Err(Error::NoRun {
                name: vm.clone(),
                back,
                known: runs.count(vm),
            });
        }
        events.retain(|event| runs.nth(&event.vm, back) == Some(event.run.as_deref()));
    }
    Ok((events, position))
}

/// The runs of each VM, oldest first. Where there are only files, each has one, with no id.
#[derive(Default)]
struct Runs(HashMap<VmName, Vec<Option<String>>>);

impl Runs {
    fn note(&mut self, vm: &VmName, run: Option<&str>) {
        if !self.0.contains_key(vm) {
            self.0.insert(vm.clone(), Vec::new());
        }
        let runs = self.0.get_mut(vm).expect("it was just put there");
        if !runs.iter().rev().any(|known| known.as_deref() == run) {
            runs.push(run.map(str::to_owned));
        }
    }

    fn count(&self, vm: &VmName) -> usize {
        self.0.get(vm).map_or(0, Vec::len)
    }

    /// The run that is `back` runs before the last (0, -1, …).
    fn nth(&self, vm: &VmName, back: i32) -> Option<Option<&str>> {
        let runs = self.0.get(vm)?;
        let index = (runs.len() as i64 - 1).checked_add(back.into())?;
        Some(runs.get(usize::try_from(index).ok()?)?.as_deref())
    }
}

/// The events from `position` on, as they come, without end: over restarts, and of
/// VMs that names and patterns come to mean later.
///
/// # Errors
/// When nothing can be followed.
pub fn follow(
    host: &Host,
    selectors: &[Selector],
    position: Position,
) -> Result<Box<dyn Iterator<Item = VmEvent>>, Error> {
    let selectors = selectors.to_vec();
    if !has_history() {
        return follow_logs(host, vms(host, &selectors)?, &position);
    }
    let now: HashSet<VmName> = vms(host, &selectors)?.into_iter().collect();
    let names = selectors.iter().map(|selector| match selector {
        Selector::Name(name) => Some(name.clone()),
        _ => None,
    });
    let names: Option<Vec<VmName>> = names.collect();
    let query = journal::Query {
        after: position.cursor.as_deref(),
        follow: true,
        ..Default::default()
    };
    let units = units(&names.unwrap_or_default());
    let entries: Entries = journal::read_printed(&host.scope, &units, &query)?;
    Ok(Box::new(entries.filter_map(move |entry| {
        let vm = vm_of_identifier(&entry.identifier)?;
        let is_meant = now.contains(&vm) || selectors.iter().any(|selector| selector.matches(&vm));
        is_meant.then(|| VmEvent::of_entry(&vm, &entry)).flatten()
    })))
}

/// The same from the event logs of VMs, each over all of its runs to come.
fn follow_logs(
    host: &Host,
    vms: Vec<VmName>,
    position: &Position,
) -> Result<Box<dyn Iterator<Item = VmEvent>>, Error> {
    let (tell, told) = mpsc::channel();
    for vm in vms {
        let (host, tell) = (host.clone(), tell.clone());
        let seen = position.seen.get(&vm).copied();
        // Ends with the process: whoever follows does so until interrupted.
        thread::spawn(move || {
            let path = host.paths.sockets(&vm).events_log();
            let is_new = |event: &Event| seen.is_none_or(|seen| moment(event) > seen);
            loop {
                log::wait_for(&path)?;
                let mut follower = match Follower::open(&path, Start::Begin) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    follower => follower?,
                };
                let run = host.unit(&vm).ok().and_then(|unit| unit.invocation_id);
                while let Heard::Event(event) = follower.next_event(None)? {
                    let (vm, run) = (vm.clone(), run.clone());
                    if is_new(&event) && tell.send(VmEvent { vm, event, run }).is_err() {
                        return Ok::<(), io::Error>(());
                    }
                }
            }
        });
    }
    Ok(Box::new(told.into_iter()))
}

fn moment(event: &Event) -> (i64, i64) {
    (event.timestamp.seconds, event.timestamp.microseconds)
}

fn units(vms: &[VmName]) -> Vec<String> {
    vms.iter().map(unit_name).collect()
}

/// The VM whose unit calls itself so in the journal.
fn vm_of_identifier(identifier: &str) -> Option<VmName> {
    identifier.strip_prefix("maqet-")?.parse().ok()
}
