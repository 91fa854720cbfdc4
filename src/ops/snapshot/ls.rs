//! The snapshots that a VM has.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::config::VmConfig;
use crate::image::{Chain, snapshot};
use crate::ops::in_force::{self, Definition};
use crate::ops::operation::Plan as AnyPlan;
use crate::ops::{Error, Host, monitor};
use crate::store::{self, Position};
use crate::systemd::rfc3339;
use crate::vm::VmName;

use super::disks::Disks;
use super::{Facts, Overlay, What, fit, no_such};

/// How long a running VM may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// One snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Its number, which later ones have larger; `None` of one that was made without maqet.
    #[serde(skip)]
    pub id: Option<i64>,
    /// Its name.
    pub name: String,
    /// The one that the VM was at when it was made.
    pub parent: Option<String>,
    /// How many are above it.
    #[serde(skip)]
    pub depth: usize,
    /// When it was made.
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Option<SystemTime>,
    /// What its user says of it.
    pub description: Option<String>,
    /// Bytes of memory and devices in it; `None` if they are not.
    pub memory_bytes: Option<u64>,
    /// The images that it is in.
    pub disks: Vec<PathBuf>,
    /// The images that it should be in and is not: it cannot be restored.
    pub missing: Vec<PathBuf>,
    /// The images that it is in, and that are no disks now of the VM: of one that runs, maybe as
    /// they are not plugged. They cannot be restored.
    pub elsewhere: Vec<PathBuf>,
    /// Whether the VM's disks have come from it.
    pub is_current: bool,
    /// Whether the next start goes on there.
    pub resumes: bool,
    /// Whether it is beside its images, which are what they were, and not within them.
    pub is_external: bool,
    /// Whether it is within an image that an overlay stands on, which is not written: it
    /// cannot be restored.
    pub is_below: bool,
    /// The external snapshots that are to be merged before it can be, the newest first.
    pub below: Vec<String>,
    /// How the machine differs from that of the memory in it, in words: only the disks can be
    /// restored.
    pub misfits: Vec<String>,
    /// Whether its images have some of what was written since: it can be merged, and not be
    /// restored.
    pub is_merging: bool,
    /// Whether it was made without maqet.
    pub is_foreign: bool,
    /// Whether it is being made, or its making was cut short: the next command that changes
    /// the VM undoes that.
    pub is_unfinished: bool,
    /// The definition that the VM went by, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

/// The snapshots of a VM: each after the one that it came from, the older first.
pub fn ls(host: &Host, vm: &VmName) -> Result<Vec<Listed>, Error> {
    let mut all = collect(host, vm)?;
    for listed in &mut all {
        listed.definition = None;
    }
    Ok(all)
}

/// One of them, with all that is known of it.
///
/// # Errors
/// [`NoSuch`](super::Error::NoSuch).
pub fn show(host: &Host, vm: &VmName, name: &str) -> Result<Listed, Error> {
    let mut all = collect(host, vm)?;
    match all.iter().position(|listed| listed.name == name) {
        Some(index) => Ok(all.swap_remove(index)),
        None => {
            let names = all.into_iter().map(|listed| listed.name).collect();
            Err(no_such(vm, name, names).into())
        }
    }
}

fn collect(host: &Host, vm: &VmName) -> Result<Vec<Listed>, Error> {
    let row = host.vm(vm)?;
    let config = host.config(&row)?;
    // Whoever is at work on it is not waited for: what is there is what is shown.
    let disks = match host.unit(vm)?.active_state.is_up() {
        true => match monitor::open(host, vm, ANSWER) {
            Ok(mut monitor) => Disks::of_qemu(&mut monitor)?,
            // It has ended, or not begun.
            Err(Error::NotRunning(_)) => Disks::of_images(host, &config)?,
            Err(error) => return Err(error),
        },
        false => Disks::of_images(host, &config)?,
    };
    let store = host.store()?;
    let kept = store.snapshots(vm)?;
    let position = store.position(vm)?;
    let plans = store.operations(vm)?.into_iter();
    let plans = plans.filter_map(|it| serde_json::from_str(&it.plan).ok());
    let begun: Vec<String> = plans.filter_map(begun).collect();
    let used = in_force::read(host, vm)?;
    let machine = match used {
        Some(used) => Some(used),
        // With one that cannot be read, there are no snapshots less.
        None => Definition::read(host, vm, &row.definition).ok(),
    };
    let mut all = Vec::new();
    below(None, 0, &kept, &mut |snapshot, depth| {
        let mut it = listed(snapshot, depth, &kept, position, (&config, &disks))?;
        let facts = Facts::of(snapshot)?;
        match (it.is_below, &machine, &facts.memory) {
            (true, ..) => it.below = above(&facts, &kept)?,
            (false, Some(machine), Some(_)) => {
                it.misfits = fit::misfits(host, vm, &facts, machine).unwrap_or_default();
            }
            _ => {}
        }
        all.push(it);
        Ok(())
    })?;
    for name in disks.names() {
        if all.iter().all(|listed| listed.name != name) {
            let is_unfinished = begun.contains(&name);
            all.push(Listed {
                is_foreign: !is_unfinished,
                is_unfinished,
                ..foreign(name, &disks)
            });
        }
    }
    Ok(all)
}

/// The external snapshots that stand on images of another one, the newest first.
fn above(facts: &Facts, kept: &[store::Snapshot]) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for other in kept {
        let is_above = |it: &Overlay| {
            let chain = Chain::of(&it.base, &it.format);
            chain
                .links
                .iter()
                .any(|link| facts.disks.contains(&link.path))
        };
        if Facts::of(other)?.overlays.iter().any(is_above) {
            found.push((Reverse(other.id), other.name.clone()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

/// The name of the snapshot that an operation is to make.
fn begun(plan: AnyPlan) -> Option<String> {
    match plan {
        AnyPlan::Snapshot(plan) if matches!(plan.what, What::Create) => Some(plan.name),
        _ => None,
    }
}

/// Tells of all snapshots below one, each before those below it.
fn below(
    parent: Option<i64>,
    depth: usize,
    all: &[store::Snapshot],
    tell: &mut dyn FnMut(&store::Snapshot, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    for snapshot in all.iter().filter(|snapshot| snapshot.parent == parent) {
        tell(snapshot, depth)?;
        below(Some(snapshot.id), depth + 1, all, tell)?;
    }
    Ok(())
}

fn listed(
    kept: &store::Snapshot,
    depth: usize,
    all: &[store::Snapshot],
    position: Option<Position>,
    (config, disks): (&VmConfig, &Disks),
) -> Result<Listed, Error> {
    let facts = Facts::of(kept)?;
    let name = &kept.name;
    let is_external = !facts.overlays.is_empty();
    // One that is below an overlay now has it all the same.
    let within = |path: &PathBuf| match disks.at(path) {
        Some(disk) => disk.snapshot(name).cloned(),
        None => {
            let all = snapshot::list(path).unwrap_or_default();
            all.into_iter().find(|it| it.name == *name)
        }
    };
    let is_within = |path: &PathBuf| within(path).is_some();
    let is_below = !is_external
        && facts
            .disks
            .iter()
            .any(|path| is_within(path) && disks.stands_on(path));
    let is_in = |path: &PathBuf| match is_external {
        true => path.exists(),
        false => is_within(path),
    };
    let is_merging = facts.is_merging;
    let (there, missing): (Vec<PathBuf>, Vec<PathBuf>) = facts.disks.into_iter().partition(is_in);
    let is_elsewhere = |path: &&PathBuf| disks.at(path).is_none() && !disks.stands_on(path);
    let overlays = facts.overlays.iter();
    let is_gone = |it: &&Overlay| !config.disks.contains_key(&it.disk);
    let elsewhere = match is_external {
        true => overlays.filter(is_gone).map(|it| it.base.clone()).collect(),
        false => there.iter().filter(is_elsewhere).cloned().collect(),
    };
    let is_current = position.is_some_and(|position| position.snapshot == kept.id);
    let parent = kept.parent;
    let memory = facts.memory.and_then(|memory| within(&memory.image));
    Ok(Listed {
        id: Some(kept.id),
        name: name.clone(),
        parent: all
            .iter()
            .find(|other| Some(other.id) == parent)
            .map(|parent| parent.name.clone()),
        depth,
        created_at: time(kept.created_at),
        description: kept.description.clone(),
        memory_bytes: memory.map(|within| within.vm_state_size),
        disks: there,
        missing,
        elsewhere,
        is_current,
        resumes: is_current && position.is_some_and(|position| position.resumes),
        is_external,
        is_below,
        below: Vec::new(),
        misfits: Vec::new(),
        is_merging,
        is_foreign: false,
        is_unfinished: false,
        definition: Some(facts.definition),
    })
}

fn foreign(name: String, disks: &Disks) -> Listed {
    let found: Vec<_> = disks
        .disks
        .iter()
        .filter_map(|disk| Some((&disk.path, disk.snapshot(&name)?)))
        .collect();
    let memory = found.iter().map(|(_, found)| found.vm_state_size).max();
    Listed {
        id: None,
        parent: None,
        depth: 0,
        created_at: found.first().map(|(_, found)| found.time()),
        description: None,
        memory_bytes: memory.filter(|&bytes| bytes > 0),
        disks: found.iter().map(|(path, _)| (*path).clone()).collect(),
        missing: Vec::new(),
        elsewhere: Vec::new(),
        is_current: false,
        resumes: false,
        is_external: false,
        is_below: false,
        below: Vec::new(),
        misfits: Vec::new(),
        is_merging: false,
        is_foreign: true,
        is_unfinished: false,
        definition: None,
        name,
    }
}

fn time(seconds: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
