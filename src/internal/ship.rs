//! Copies the consoles of VMs to the journal, where each run has its history.
//!
//! QEMU cannot write its console to the journal itself, and nothing of maqet stays
//! with it. So what the log has gained is copied by whoever comes by: the timer while
//! VMs run, ExecStopPost= when a run has ended, and the launcher when that did not
//! happen.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::console::copy::{Sink, copy};
use crate::console::shipped::{Mark, Shipped, open_locked, overwrite, peek};
use crate::ops::Host;
use crate::paths::{RuntimeDir, VmDir};
use crate::systemd::console::ConsoleEntries;
use crate::systemd::{Scope, journal};
use crate::vm::VmName;

use super::launch::runtime_dir;

/// journald drops what one service writes beyond 10,000 entries in 30 s
/// (journald.conf(5), RateLimitBurst=), and takes all units of a user for one service.
const INTERVAL: Duration = Duration::from_secs(30);
/// What the consoles of all VMs may have of that while they run; it waits for the next time.
const ALL_RUNNING: u64 = 4_000;
/// And one of them, which may not be the only one for long.
const ONE_RUNNING: u64 = 2_000;
/// And with those that end, which do not wait; the rest is for events and other units.
const ALL: u64 = 8_000;

/// How many entries are asked for at once.
const HANDFUL: u64 = 64;

/// How long copying may take at the end of a run, and in one run of the timer.
const ENDED_LIMIT: Duration = Duration::from_secs(5);
const RUNNING_LIMIT: Duration = Duration::from_secs(10);

/// `maqet internal ended`: copies the rest of a run that has ended.
pub fn ended() -> anyhow::Result<()> {
    let host = Host::from_env()?;
    let name = runtime_dir()?.vm()?;
    if !journal::readable() {
        return Ok(());
    }
    let dir = host.paths.vm(&name);
    let copied = match Shipped::lock(&dir.console_shipped()) {
        // The launcher did not get to make its VM's directory: there is no such VM.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.and_then(|mut shipped| rest(&host, &name, &dir, &mut shipped)),
    };
    copied.context("cannot copy the console to the journal")
}

/// Copies what is left of the run that the log is of, and has ended.
pub(super) fn rest(host: &Host, vm: &VmName, dir: &VmDir, shipped: &mut Shipped) -> io::Result<()> {
    let budget = Budget::of(&host.paths.cache());
    let mut allowance = Allowance::new(&budget, ALL, u64::MAX, ENDED_LIMIT);
    ship(&host.scope, vm, dir, shipped, true, &mut allowance)
}

/// Copies what the consoles of running VMs have printed since the last time.
///
/// Those with the least to copy come first, so that one that prints much does not
/// delay the others.
pub fn running(host: &Host, vms: &[RuntimeDir]) -> anyhow::Result<()> {
    if !journal::readable() {
        return Ok(());
    }
    let mut logs: Vec<(u64, VmName, VmDir)> = Vec::new();
    for runtime in vms {
        // The log is where the link leads: the timer is that of all data directories.
        let Ok(log) = fs::read_link(runtime.console_log()) else {
            continue;
        };
        let (Ok(name), Some(dir)) = (runtime.vm(), log.parent()) else {
            continue;
        };
        let dir = VmDir::at(dir.to_owned());
        let length = fs::metadata(&log).map_or(0, |log| log.len());
        let offset = peek(&dir.console_shipped()).map_or(0, |mark| mark.offset);
        if length != offset {
            logs.push((length.saturating_sub(offset), name, dir));
        }
    }
    logs.sort_by_key(|(new, ..)| *new);
    let budget = Budget::of(&host.paths.cache());
    let deadline = Instant::now() + RUNNING_LIMIT;
    let mut left = ALL_RUNNING;
    let mut result = Ok(());
    for (index, (_, name, dir)) in logs.iter().enumerate() {
        let share = (left / (logs.len() - index) as u64).min(ONE_RUNNING);
        let limit = deadline.saturating_duration_since(Instant::now());
        let mut allowance = Allowance::new(&budget, ALL_RUNNING, share, limit);
        let copied = Shipped::lock(&dir.console_shipped()).and_then(|mut shipped| {
            ship(&host.scope, name, dir, &mut shipped, false, &mut allowance)
        });
        left -= share - allowance.share;
        // It was removed meanwhile.
        let copied = match copied {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        // One that cannot be copied is no reason to leave out the others.
        result = result.and(copied.with_context(|| format!("cannot copy the console of `{name}`")));
    }
    result
}

fn ship(
    scope: &Scope,
    vm: &VmName,
    dir: &VmDir,
    shipped: &mut Shipped,
    ended: bool,
    allowance: &mut Allowance<'_>,
) -> io::Result<()> {
    // No run of which anything is known has begun this log.
    let Some(mut mark) = shipped.mark.clone() else {
        return Ok(());
    };
    let log = match File::open(dir.console_log()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if log.metadata()?.len() == mark.offset && mark.left_out == 0 {
        return Ok(());
    }
    mark.refill(now());
    let mut entries = ConsoleEntries::of(scope, vm, &mark.run)?;
    let may_spend = |cost| allowance.spend(cost);
    let copied = copy(&log, &mut mark, ended, may_spend, &mut entries);
    shipped.keep(mark)?;
    copied
}

impl Sink for ConsoleEntries {
    fn line(&mut self, line: &str) -> io::Result<()> {
        ConsoleEntries::line(self, line)
    }

    fn left_out(&mut self, bytes: u64) -> io::Result<()> {
        ConsoleEntries::left_out(self, bytes)
    }
}

/// The mark of a log that this run begins.
pub(super) fn begin(run: String, previous: Option<&Mark>) -> Mark {
    Mark::begin(run, previous.map(|mark| mark.run.clone()), now())
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// What one copy may take of what all of them may.
struct Allowance<'a> {
    budget: &'a Budget,
    /// Up to where the budget of all may be used.
    ceiling: u64,
    /// What is left of this one's own share.
    share: u64,
    in_hand: u64,
    deadline: Instant,
}

impl<'a> Allowance<'a> {
    fn new(budget: &'a Budget, ceiling: u64, share: u64, limit: Duration) -> Self {
        Self {
            budget,
            ceiling,
            share,
            in_hand: 0,
            deadline: Instant::now() + limit,
        }
    }

    fn spend(&mut self, cost: u64) -> bool {
        if self.share < cost {
            return false;
        }
        if self.in_hand < cost {
            if Instant::now() > self.deadline {
                return false;
            }
            self.in_hand += self.budget.take(HANDFUL.max(cost), self.ceiling);
        }
        if self.in_hand < cost {
            return false;
        }
        self.in_hand -= cost;
        self.share -= cost;
        true
    }
}

/// The entries that the consoles of all VMs have had in this interval: a file.
struct Budget(PathBuf);

impl Budget {
    fn of(dir: &Path) -> Self {
        // No VM's directory has a name with a dot.
        Self(dir.join("console.budget"))
    }

    /// Takes up to `wanted` of what is left up to `ceiling`.
    fn take(&self, wanted: u64, ceiling: u64) -> u64 {
        // Without it each copy has its own limits all the same.
        self.try_take(wanted, ceiling).unwrap_or(wanted)
    }

    fn try_take(&self, wanted: u64, ceiling: u64) -> io::Result<u64> {
        let file = open_locked(&self.0)?;
        let (since, used): (u64, u64) = serde_json::from_reader(&file).unwrap_or_default();
        let now = now();
        let (since, used) = match now.checked_sub(since) {
            Some(age) if age < INTERVAL.as_secs() => (since, used),
            _ => (now, 0),
        };
        let taken = wanted.min(ceiling.saturating_sub(used));
        overwrite(&file, &(since, used + taken))?;
        Ok(taken)
    }
}
