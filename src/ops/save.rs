//! Saving a running VM: its memory and devices go to disk, and the next start goes on there.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use serde_json::{Value, json};

use crate::address::Addresses;
use crate::image;
use crate::lock::VmLock;
use crate::paths::{RuntimeDir, SavedState};
use crate::qemu::net;
use crate::qmp::{self, Client, RunState};
use crate::saved::{DiskStamp, Saved, Unfinished, discard};
use crate::store::Row;
use crate::systemd::{self, ActiveState};
use crate::vm::VmName;

use super::operation::Work;
use super::{Error, Host, Obstacle, disk, in_force, ready, snapshot};

pub(super) mod addresses;
pub(super) mod settle;
mod unsaved;

/// How a VM was saved.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// The VM.
    pub name: VmName,
    /// Where its state is.
    pub file: PathBuf,
    /// Size of that, in bytes.
    pub bytes: u64,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes of guest memory that are dealt with.
    pub done: u64,
    /// Bytes of guest memory in all.
    pub total: u64,
}

/// What a caller says when told of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoOn {
    /// Go on.
    Yes,
    /// Call it off; the guest goes on running.
    No,
}

/// Saves a running VM and stops it. The next start goes on where it was.
///
/// # Errors
/// Whatever they are, the guest runs on as before.
pub fn save(
    host: &Host,
    name: &VmName,
    limit: Option<Duration>,
    progress: &mut dyn FnMut(Progress) -> GoOn,
) -> Result<Done, Error> {
    let _work = Work::take(host, name)?;
    let unit = host.unit(name)?;
    if !unit.active_state.is_up() {
        return Err(Error::Stopped(name.clone()));
    }
    let runtime = host.paths.sockets(name);
    let files = host.paths.saved(name);
    if unit.active_state == ActiveState::Deactivating {
        // Whoever stops it may have saved it, and that is not to be written over.
        systemd::stop(&host.scope, &unit.unit, || {})?;
        return match files.state().metadata() {
            Ok(state) => Ok(Done {
                name: name.clone(),
                file: files.state(),
                bytes: state.len(),
            }),
            Err(_) => Err(Error::Stopped(name.clone())),
        };
    }
    // A state that its disks are missing for would be of no use.
    if let Some(used) = in_force::read(host, name)? {
        for it in disk::defined(host, &used.config) {
            disk::guard::sound(name, &it)?;
        }
    }
    image::require_writable(&files.state())?;
    let bytes = write(name, &runtime, &files, limit, progress).map_err(|error| match error {
        Error::Qmp(error) => super::monitor::or_why_gone(host, name)(error),
        other => other,
    })?;
    systemd::stop(&host.scope, &unit.unit, || {})?;
    Ok(Done {
        name: name.clone(),
        file: files.state(),
        bytes,
    })
}

/// What a start goes on from.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Whether the VM ran under KVM: the state of one accelerator is not another's.
    pub kvm: bool,
    /// Whether its guest was up.
    pub ready: bool,
    /// Whether the guest's systemd had said so.
    pub notified: bool,
    /// Where its memory is.
    pub place: Place,
    /// Where its devices were.
    pub addresses: Addresses,
}

/// Where the memory is that a start goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file of its own.
    File,
    /// In a snapshot.
    Snapshot,
}

/// The VM as it is to be started: with what it ran with, if its state was saved.
///
/// # Errors
/// [`Error::DisksChanged`] if the state does not fit its disks any more, and
/// [`Misfit`](super::snapshot::Error::Misfit) if the definition does not fit the snapshot
/// that the VM is to go on in.
pub fn as_saved(host: &Host, mut row: Row) -> Result<(Row, Option<Kept>), Error> {
    let files = host.paths.saved(&row.name);
    let saved = Saved::read(&files).map_err(Error::io(format_args!(
        "cannot read {}",
        files.facts().display()
    )))?;
    if let Some(saved) = &saved {
        let changed = saved.changed_disks();
        if !changed.is_empty() {
            return Err(Error::DisksChanged {
                name: row.name,
                disks: changed.into_iter().map(PathBuf::from).collect(),
            });
        }
        row.definition.clone_from(&saved.definition);
        row.uuid.clone_from(&saved.uuid);
        let kept = Kept {
            kvm: saved.kvm,
            ready: saved.ready,
            notified: saved.notified,
            place: Place::File,
            addresses: saved.addresses.clone(),
        };
        return Ok((row, Some(kept)));
    }
    let awaited = snapshot::resume::awaited(host, &row)?;
    let kept = awaited.map(|memory| Kept {
        kvm: memory.kvm,
        ready: memory.ready,
        notified: memory.notified,
        place: Place::Snapshot,
        addresses: memory.addresses,
    });
    Ok((row, kept))
}

/// Sees to it that a VM that does not run has no saved state, nor is to go on in a snapshot
/// with its next start: its disks are to be as that left them.
pub(super) fn require_none(host: &Host, name: &VmName) -> Result<(), Error> {
    let position = host.store()?.position(name)?;
    let resumes = position.is_some_and(|position| position.resumes);
    match resumes || host.paths.saved(name).state().exists() {
        true => Err(Error::HasSavedState(name.clone())),
        false => Ok(()),
    }
}

/// Deletes the saved state of a VM that does not run, if it has one.
pub(super) fn discard_of(host: &Host, name: &VmName) -> Result<(), Error> {
    snapshot::resume::discard(host, name)?;
    let files = host.paths.saved(name);
    if !files.state().exists() {
        return Ok(());
    }
    // Nobody is just about to load it.
    let _lock = VmLock::try_take(&host.paths.vm(name).lock())?;
    discard(&files).map_err(Error::io(format_args!(
        "cannot delete {}",
        files.state().display()
    )))?;
    Ok(())
}

/// How long QEMU may take for one question, on a host that is busy with shutting down.
const ANSWER: Duration = Duration::from_secs(30);

/// Between two looks at how far it is; its end is an event, and told at once.
const LOOK: Duration = Duration::from_millis(200);

/// Writes the state of the VM that runs with `runtime`. Afterwards the guest is paused,
/// and stopping the unit is all that is left to do.
pub(crate) fn write(
    name: &VmName,
    runtime: &RuntimeDir,
    files: &SavedState,
    limit: Option<Duration>,
    progress: &mut dyn FnMut(Progress) -> GoOn,
) -> Result<u64, Error> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let answer = limit.map_or(ANSWER, |limit| limit.min(ANSWER));
    let mut monitor = Client::connect(&runtime.ctl(), answer)?;
    monitor.set_timeout(answer);
    end_orphan(&mut monitor)?;
    let state = monitor.status()?.run_state;
    let obstacles = obstacles(&mut monitor, &state)?;
    if !obstacles.is_empty() {
        return Err(Error::NotSavable {
            name: name.clone(),
            obstacles,
        });
    }
    let failed = |source| {
        let doing = format!("cannot save the state of VM `{name}`");
        Error::Io(doing, source)
    };
    let definition = std::fs::read_to_string(runtime.definition()).map_err(failed)?;
    let disks = writable_disks(&mut monitor)?;
    let mut saved = Saved {
        at: 0,
        definition,
        uuid: text(&monitor.execute("query-uuid", ())?["UUID"]),
        kvm: monitor.execute("query-kvm", ())?["enabled"] == json!(true),
        // A save that was killed had paused the guest.
        was_running: state == RunState::Running || runtime.saving().exists(),
        ready: runtime.ready().exists(),
        notified: ready::has_said(runtime),
        disks: Vec::new(),
        addresses: addresses::of_machine(&mut monitor)?,
    };
    let unfinished = Unfinished::begin(files).map_err(failed)?;
    if saved.was_running {
        std::fs::write(runtime.saving(), "").map_err(failed)?;
    }
    if state == RunState::Postmigrate {
        // Nothing more can be written before the disks are QEMU's again.
        monitor.execute("cont", ())?;
    }
    monitor.execute("stop", ())?;
    let written = transfer(name, &mut monitor, &unfinished, deadline, progress).and_then(|()| {
        // From here on QEMU does not touch the disks.
        saved.at = SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_secs();
        saved.disks = disks
            .into_iter()
            .map(DiskStamp::of)
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let bytes = unfinished.finish(&saved).map_err(failed)?;
        std::fs::write(runtime.saved(), "").map_err(failed)?;
        Ok(bytes)
    });
    if written.is_err() {
        // The state was not the last word after all.
        let _ = discard(files);
        if saved.was_running {
            monitor.execute("cont", ())?;
            // What it says is not true any more, or was not.
            let _ = std::fs::remove_file(runtime.saving());
        }
    }
    written
}

/// Ends what a save has left that was killed.
fn end_orphan(monitor: &mut Client) -> Result<(), Error> {
    let mut is_canceled = false;
    loop {
        let migration = monitor.execute("query-migrate", ())?;
        match migration["status"].as_str() {
            None | Some("none" | "failed" | "cancelled" | "completed") => return Ok(()),
            Some(_) if is_canceled => {
                monitor.next_event(LOOK)?;
            }
            Some(_) => {
                monitor.execute("migrate_cancel", ())?;
                is_canceled = true;
            }
        }
    }
}

/// What keeps a VM from being saved, in words.
fn obstacles(monitor: &mut Client, state: &RunState) -> Result<Vec<Obstacle>, Error> {
    let mut found = Vec::new();
    match state {
        RunState::Running | RunState::Paused | RunState::Postmigrate => {}
        RunState::Suspended => found.push("the guest is suspended: wake it up first".into()),
        state => found.push(format!("its state is {state}").into()),
    }
    found.extend(blockers(monitor)?);
    Ok(found)
}

/// What keeps QEMU from writing memory and devices in a form that the next start can read,
/// in words.
pub(super) fn blockers(monitor: &mut Client) -> Result<Vec<Obstacle>, Error> {
    let migration = monitor.execute("query-migrate", ())?;
    let blockers = migration["blocked-reasons"].as_array();
    let blockers = blockers.into_iter().flatten().map(text);
    let mut found = Vec::new();
    for words in blockers {
        found.push(unsaved::obstacle(monitor, words)?);
    }
    // The next start knows the definition, and not what was plugged since.
    let mut vm = None;
    let devices = addresses::devices(monitor)?;
    for id in &devices {
        let arguments = json!({ "path": addresses::path(id), "property": "hotplugged" });
        if monitor.execute("qom-get", arguments)? == json!(true) {
            if vm.is_none() {
                vm = Some(text(&monitor.execute("query-name", ())?["name"]));
            }
            found.push(Obstacle::Plugged {
                vm: vm.clone().unwrap_or_default(),
                device: id.clone(),
            });
        }
    }
    found.extend(renumbered(monitor, &devices));
    Ok(found)
}

/// User networks that QEMU has other numbers for than its next start would, in words.
///
/// They are saved by number, which is how many there were before (net/slirp.c), and nothing
/// but its command line tells of those that are gone.
fn renumbered(monitor: &Client, devices: &[String]) -> Vec<Obstacle> {
    let argv = monitor
        .peer()
        .and_then(|qemu| std::fs::read(format!("/proc/{qemu}/cmdline")).ok())
        .unwrap_or_default();
    let argv = String::from_utf8_lossy(&argv);
    let words: Vec<&str> = argv.split('\0').collect();
    let started = words.windows(2).filter_map(|pair| match pair {
        ["-netdev", netdev] => net::user_network(netdev),
        _ => None,
    });
    let is_there = |name: &&str| devices.contains(&net::nic_id(name));
    let started: Vec<&str> = started.collect();
    let last = started.iter().rposition(is_there).unwrap_or(0);
    let gone = started[..last].iter().filter(|name| !is_there(name));
    gone.map(|name| {
        format!(
            "user network `{name}` was removed while the VM ran, and those after it would \
             have other numbers: restart it first"
        )
        .into()
    })
    .collect()
}

/// The files that the guest can change.
fn writable_disks(monitor: &mut Client) -> Result<Vec<PathBuf>, Error> {
    let nodes = monitor.execute("query-named-block-nodes", json!({ "flat": true }))?;
    let nodes = nodes.as_array().into_iter().flatten();
    let mut files: Vec<PathBuf> = nodes
        .filter(|node| node["ro"] == json!(false))
        .filter(|node| matches!(node["drv"].as_str(), Some("file" | "host_device")))
        .filter_map(|node| Some(node["file"].as_str()?.into()))
        .collect();
    files.dedup();
    Ok(files)
}

/// Has QEMU write its state, and waits until it has.
fn transfer(
    name: &VmName,
    monitor: &mut Client,
    unfinished: &Unfinished<'_>,
    deadline: Option<Instant>,
    progress: &mut dyn FnMut(Progress) -> GoOn,
) -> Result<(), Error> {
    tell_of_migration(monitor)?;
    // As fast as the disk takes it: the guest waits.
    monitor.execute(
        "migrate-set-parameters",
        json!({ "max-bandwidth": 1u64 << 40 }),
    )?;
    let fdname = "maqet-save";
    monitor.execute_with_fd(
        "getfd",
        json!({ "fdname": fdname }),
        unfinished.file.as_fd(),
    )?;
    monitor.execute("migrate", json!({ "uri": format!("fd:{fdname}") }))?;
    let mut called_off = None;
    loop {
        let migration = monitor.execute("query-migrate", ())?;
        match migration["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed") => {
                let name = name.clone();
                let reason = migration["error-desc"].as_str();
                let reason = reason.unwrap_or("QEMU does not say why").to_owned();
                // QEMU 10 only knows that something was not written.
                let path = &unfinished.path;
                return Err(match image::room(path) {
                    Ok(Some(room)) if image::is_used_up(path) => Error::NoRoomToSave {
                        name,
                        dir: path.parent().unwrap_or(path).to_owned(),
                        by_quota: room.by_quota,
                        reason,
                    },
                    _ => Error::SaveFailed { name, reason },
                });
            }
            Some("cancelled") => {
                return Err(called_off.unwrap_or_else(|| Error::SaveFailed {
                    name: name.clone(),
                    reason: "it was canceled".to_owned(),
                }));
            }
            _ => {}
        }
        let ram = &migration["ram"];
        let total = ram["total"].as_u64().unwrap_or(0);
        let left = ram["remaining"].as_u64().unwrap_or(total);
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let said = progress(Progress {
            done: total.saturating_sub(left),
            total,
        });
        if called_off.is_none() && (is_late || said == GoOn::No) {
            called_off = Some(Error::SaveFailed {
                name: name.clone(),
                reason: match is_late {
                    true => "it took too long".to_owned(),
                    false => "it was called off".to_owned(),
                },
            });
            monitor.execute("migrate_cancel", ())?;
        }
        // Any event will do: the migration's end is one.
        monitor.next_event(LOOK)?;
    }
}

/// Has a QEMU that waits for a state load it, and the guest go on.
///
/// The state is gone then: whatever the guest does next, it does not fit any more.
/// Returns what was known of it.
pub(crate) fn load(monitor: &mut Client, files: &SavedState) -> Result<Saved, Error> {
    let state = files.state();
    let failed = |source| Error::Io(format!("cannot load {}", state.display()), source);
    let saved = Saved::read(files)
        .map_err(failed)?
        .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let file = File::open(&state).map_err(failed)?;
    tell_of_migration(monitor)?;
    let fdname = "maqet-load";
    monitor.execute_with_fd("getfd", json!({ "fdname": fdname }), file.as_fd())?;
    monitor.execute("migrate-incoming", json!({ "uri": format!("fd:{fdname}") }))?;
    // QEMU ends when it cannot.
    while monitor.execute("query-migrate", ())?["status"] != json!("completed") {
        monitor.next_event(None)?;
    }
    discard(files).map_err(failed)?;
    if saved.was_running {
        monitor.execute("cont", ())?;
    }
    Ok(saved)
}

/// Has QEMU send an event with each change of a migration's state.
fn tell_of_migration(monitor: &mut Client) -> Result<(), qmp::Error> {
    let events = json!([{ "capability": "events", "state": true }]);
    let arguments = json!({ "capabilities": events });
    monitor.execute("migrate-set-capabilities", arguments)?;
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
