//! Making a snapshot: of all disks, or of none.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::VmConfig;
use crate::image::{self, snapshot};
use crate::ops::disk::guard;
use crate::ops::operation::{Id, Plan as AnyPlan, Work};
use crate::ops::reach::Reach;
use crate::ops::{Doing, Error, Host, ready, save};
use crate::qmp::{Client, RunState};
use crate::store::Row;
use crate::vm::VmName;

use super::disks::{Disks, tell_waiting, unplugged, waiting};
use super::{
    Error as Why, Facts, Memory, Plan, What, beside, check_name, find, live, nothing_in_the_way,
    quiesce,
};

/// Room in bytes that is as good as none: a qcow2 image grows by pieces of 64 KiB.
const LITTLE: u64 = 1 << 20;

/// What to make, and how.
pub struct Options<'a> {
    /// What its user says of it.
    pub description: Option<&'a str>,
    /// Without memory and devices, though the VM runs.
    pub disk_only: bool,
    /// With the guest's file systems frozen, of a VM that runs.
    pub quiesce: bool,
    /// Beside the images, with overlays that take what is written from then on.
    pub external: bool,
    /// Whether it was called off. It is undone then.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// A snapshot that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Created {
    /// The VM.
    pub vm: VmName,
    /// The snapshot.
    pub name: String,
    /// The images that it is of.
    pub disks: Vec<PathBuf>,
    /// Bytes of memory and devices in it; `None` if they are not.
    pub memory_bytes: Option<u64>,
    /// Snapshots that are within its images, and cannot be restored until it is merged.
    pub below: Vec<String>,
}

/// Makes a snapshot of all disks of a VM and, if it runs, of its memory and devices.
///
/// # Errors
/// [`Why::Obstacles`] names all that is in the way before anything is done. Whatever the
/// error, there is no such snapshot.
pub fn create(
    host: &Host,
    vm: &VmName,
    name: &str,
    options: &Options<'_>,
) -> Result<Created, Error> {
    check_name(name)?;
    let exists = || Why::Exists {
        vm: vm.clone(),
        name: name.to_owned(),
    };
    let work = Work::take(host, vm)?;
    let row = host.vm(vm)?;
    let mut reach = work.reach()?;
    if options.external {
        if find(host, vm, name)?.is_some() {
            return Err(exists().into());
        }
        return beside::create::create(host, &work, &row, reach, name, options);
    }
    let config = host.config(&row)?;
    let disks = Disks::look(host, &config, &mut reach)?;
    if find(host, vm, name)?.is_some() || disks.names().iter().any(|it| it == name) {
        return Err(exists().into());
    }
    let facts = facts(host, (&row, &config), &disks, &mut reach, (name, options))?;
    guard::no_bases(host, &disks.paths())?;
    // What finds no room halfway may not find any to be undone either.
    for file in disks.paths().iter().chain([&host.paths.database()]) {
        image::require(file, LITTLE)?;
    }
    let waiting = waiting(host, &config, &mut reach)?;
    let leaking = Disks::require_sound(host, &config, &reach, &disks.paths())?;
    let plan = AnyPlan::Snapshot(Plan {
        what: What::Create,
        name: name.to_owned(),
        id: None,
        disks: disks.paths(),
        was_running: false,
    });
    work.perform(&plan, reach, |id, reach| {
        for image in &leaking {
            image::repair_leaks(image, "qcow2")?;
        }
        match reach {
            Reach::Running(monitor) if options.quiesce => {
                quiesce::during(host, vm, monitor, true, |monitor| {
                    all_at_once(monitor, name, &disks)
                })?;
            }
            _ => make(reach, id, vm, name, &disks, &facts)?,
        }
        if (options.interrupted)() {
            return Err(Error::Interrupted);
        }
        let memory_bytes = match &facts.memory {
            Some(memory) => Disks::look(host, &config, reach)?
                .at(&memory.image)
                .and_then(|disk| disk.snapshot(name))
                .map(|snapshot| snapshot.vm_state_size),
            None => None,
        };
        let text = facts.text();
        host.store()?
            .add_snapshot(vm, name, options.description, &text, id.0)?;
        if let Reach::Running(monitor) = reach {
            live::dismiss(monitor, id);
        }
        tell_waiting(host, vm, &waiting);
        Ok(Created {
            vm: vm.clone(),
            name: name.to_owned(),
            disks: disks.paths(),
            memory_bytes,
            below: Vec::new(),
        })
    })
}

/// What is to be kept of the snapshot, or what is in its way.
fn facts(
    host: &Host,
    (row, config): (&Row, &VmConfig),
    disks: &Disks,
    reach: &mut Reach,
    (name, options): (&str, &Options<'_>),
) -> Result<Facts, Error> {
    let mut obstacles = disks.others.clone();
    if disks.disks.is_empty() {
        obstacles.push("it has no disk that it can write to".into());
    }
    let mut facts = Facts {
        definition: row.definition.clone(),
        disks: disks.paths(),
        memory: None,
        overlays: Vec::new(),
        is_merging: false,
    };
    match reach {
        Reach::Stopped(_) => {
            // It fits the disks as they are, to the last byte of their files.
            save::require_none(host, &row.name)?;
        }
        Reach::Running(monitor) => {
            obstacles.extend(unplugged(host, config, monitor)?);
            let runtime = host.paths.sockets(&row.name);
            let file = runtime.definition();
            facts.definition = fs::read_to_string(&file)
                .map_err(Error::io(format_args!("cannot read {}", file.display())))?;
            if !options.disk_only {
                require_no_number(name)?;
                let state = monitor.status()?.run_state;
                match &state {
                    RunState::Running | RunState::Paused | RunState::Prelaunch => {}
                    state => obstacles.push(format!("its state is {state}").into()),
                }
                obstacles.extend(save::blockers(monitor)?);
                facts.memory = match disks.disks.first() {
                    Some(disk) => Some(Memory {
                        image: disk.path.clone(),
                        kvm: monitor.execute("query-kvm", ())?["enabled"] == json!(true),
                        was_running: state == RunState::Running,
                        ready: runtime.ready().exists(),
                        notified: ready::has_said(&runtime),
                        addresses: save::addresses::of_machine(monitor)?,
                    }),
                    None => None,
                };
            }
        }
    }
    nothing_in_the_way(Doing::Snapshot, &row.name, obstacles)?;
    Ok(facts)
}

/// Refuses a name of digits for a snapshot with memory: QEMU's `snapshot-load` takes it for the
/// number of another one first (block/qcow2-snapshot.c, find_snapshot_by_id_or_name).
fn require_no_number(name: &str) -> Result<(), Why> {
    match name.bytes().all(|it| it.is_ascii_digit()) {
        true => Err(Why::Name {
            name: name.to_owned(),
            why: "QEMU would take it for the number of another when it loads the memory; add a letter",
        }),
        false => Ok(()),
    }
}

/// Makes it in all images.
fn make(
    reach: &mut Reach,
    id: Id,
    vm: &VmName,
    name: &str,
    disks: &Disks,
    facts: &Facts,
) -> Result<(), Error> {
    match (reach, &facts.memory) {
        (Reach::Stopped(_), _) => {
            for disk in &disks.disks {
                snapshot::create(&disk.path, name)?;
            }
            Ok(())
        }
        (Reach::Running(monitor), Some(memory)) => {
            let done = live::perform(monitor, id, live::SAVE, name, &memory.image, disks);
            done.map_err(|error| match (error, image::room(&memory.image)) {
                // QEMU only knows that something was not written.
                (Error::JobFailed { why, .. }, Ok(Some(room))) if room.bytes < LITTLE => {
                    let dir = memory.image.parent().unwrap_or(&memory.image).to_owned();
                    let (vm, by_quota) = (vm.clone(), room.by_quota);
                    Why::NoRoom {
                        vm,
                        dir,
                        by_quota,
                        why,
                    }
                    .into()
                }
                (error, _) => error,
            })
        }
        (Reach::Running(monitor), None) => all_at_once(monitor, name, disks),
    }
}

/// Makes it of the disks alone, at one moment for all of them.
fn all_at_once(monitor: &mut Client, name: &str, disks: &Disks) -> Result<(), Error> {
    let actions: Vec<Value> = disks
        .nodes()
        .iter()
        .map(|node| {
            json!({
                "type": "blockdev-snapshot-internal-sync",
                "data": { "device": node, "name": name },
            })
        })
        .collect();
    monitor.execute("transaction", json!({ "actions": actions }))?;
    Ok(())
}
