//! Unplugging a device from a running VM.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::Document;
use crate::nearest::nearest;
use crate::ops::{Error, Host};
use crate::qemu::net;
use crate::qemu::part::Kind;
use crate::qmp::{self, Event, Follower, Heard, RunState, Start};
use crate::vm::VmName;

use super::definition::{self, keep, note};
use super::qemu::Qemu;
use super::{Error as DeviceError, Target};

/// How long after a request that a guest did not hear it is asked again.
///
/// QEMU takes no second one for 5 s where it is a button that would cancel the
/// first (hw/pci/pcie.c), and a guest that only just boots forgets what it was asked.
const AGAIN: Duration = Duration::from_secs(6);

/// How to remove a device.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long the guest may take; `None` does not wait for it.
    pub timeout: Option<Duration>,
    /// Whether the definition is to lose it, too.
    pub persist: bool,
}

/// How a device was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is unplugged, and what was behind it is closed.
    Unplugged,
    /// The guest was asked, and not waited for.
    Requested,
    /// It stays until the VM stops; the definition has it no more.
    AtNextStart,
    /// It was not plugged; what was left of it, or the definition's table, is gone.
    WasNotPlugged,
}

/// A device that was removed.
#[derive(Debug, Serialize)]
pub struct Removed {
    /// The VM.
    pub vm: VmName,
    /// Its id.
    pub id: String,
    /// How.
    pub outcome: Outcome,
    /// Whether the definition lost it.
    pub persistent: bool,
}

/// Whether a running VM can be without a device, or is.
pub(in crate::ops) fn may_go(host: &Host, name: &VmName, target: &Target) -> Result<bool, Error> {
    let id = target.id();
    let mut qemu = Qemu::open(host, name)?;
    Ok(qemu.driver(&id)?.is_none() || qemu.can_unplug(&id)?)
}

/// Unplugs a device, once its guest has let go of it. Its files stay.
pub fn rm(host: &Host, name: &VmName, target: &Target, options: Options) -> Result<Removed, Error> {
    let row = host.vm(name)?;
    let id = target.id();
    let mut qemu = Qemu::open(host, name)?;
    let document = Document::parse(&row.definition, &host.paths.vm(name).definition())?;
    // The default network is in no text.
    let is_defined = target.table().is_some_and(|table| document.says(&table))
        || matches!(target, Target::Net(net) if host.config(&row)?.nets.contains_key(net));
    let outcome = match qemu.driver(&id)? {
        Some(driver) => {
            if !qemu.can_unplug(&id)? {
                if !(is_defined && options.persist) {
                    return Err(DeviceError::Fixed {
                        name: name.clone(),
                        id,
                        is_defined,
                    }
                    .into());
                }
                Outcome::AtNextStart
            } else {
                unplug(host, name, qemu, target, &driver, options)?
            }
        }
        None => {
            let left = close(&mut qemu, target)?;
            if !(left || is_defined && options.persist) {
                return Err(no_device(name, target, &qemu));
            }
            note(host, name, &|document| {
                definition::without(document, target)
            });
            Outcome::WasNotPlugged
        }
    };
    let keeps = options.persist && is_defined;
    if keeps {
        keep(host, name, &|document| {
            definition::without(document, target)
        })
        .map_err(|source| DeviceError::NotKept {
            name: name.clone(),
            what: target.to_string(),
            done: "unplugged",
            source: source.into(),
        })?;
    }
    Ok(Removed {
        vm: name.clone(),
        id,
        outcome,
        persistent: keeps,
    })
}

fn unplug(
    host: &Host,
    name: &VmName,
    mut qemu: Qemu,
    target: &Target,
    driver: &str,
    options: Options,
) -> Result<Outcome, Error> {
    let id = target.id();
    let state = qemu.monitor.status()?.run_state;
    if state != RunState::Running && qemu.is_pci(driver)? {
        return Err(DeviceError::GuestStopped {
            name: name.clone(),
            id,
            state,
        }
        .into());
    }
    let Some(timeout) = options.timeout else {
        ask(&mut qemu, &id)?;
        return Ok(Outcome::Requested);
    };
    let log = host.paths.sockets(name).events_log();
    let mut events = Follower::open(&log, Start::Now)
        .map_err(Error::io(format_args!("cannot follow {}", log.display())))?;
    let deadline = Instant::now() + timeout;
    let mut qemu = Some(qemu);
    loop {
        // Held for the request only: the guest may take its time.
        let mut asking = match qemu.take() {
            Some(qemu) => qemu,
            None => Qemu::open(host, name)?,
        };
        let is_gone = !ask(&mut asking, &id)?;
        drop(asking);
        if is_gone {
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let heard = events.find(left.min(AGAIN), |event| what_became(event, &id));
        match heard.map_err(Error::io(format_args!("cannot follow {}", log.display())))? {
            Heard::Event(Became::Gone) => break,
            Heard::Event(Became::Refused) => {
                return Err(DeviceError::Refused {
                    name: name.clone(),
                    id,
                }
                .into());
            }
            Heard::Nothing if left > AGAIN => {}
            Heard::Nothing => {
                return Err(DeviceError::Kept {
                    name: name.clone(),
                    id,
                    seconds: timeout.as_secs(),
                }
                .into());
            }
            Heard::End(_) => return Err(Error::NotRunning(name.clone())),
        }
    }
    let mut qemu = Qemu::open(host, name)?;
    close(&mut qemu, target)?;
    note(host, name, &|document| {
        definition::without(document, target)
    });
    Ok(Outcome::Unplugged)
}

/// Asks the guest to let go of a device; whether it is still there.
fn ask(qemu: &mut Qemu, id: &str) -> Result<bool, Error> {
    match qemu.unmake(Kind::Device, id) {
        Ok(()) => Ok(true),
        Err(qmp::Error::Refused { class, .. }) if class == "DeviceNotFound" => Ok(false),
        // Someone else has asked, and QEMU waits for the guest.
        Err(qmp::Error::Refused { desc, .. }) if desc.contains("in the process of unplug") => {
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

enum Became {
    Gone,
    Refused,
}

fn what_became(event: &Event, id: &str) -> Option<Became> {
    let is_it = event.data.get("device").is_some_and(|device| device == id)
        || event.data.get("path").is_some_and(|path| path == id);
    match event.name.as_str() {
        "DEVICE_DELETED" if is_it => Some(Became::Gone),
        "DEVICE_UNPLUG_GUEST_ERROR" if is_it => Some(Became::Refused),
        _ => None,
    }
}

/// Closes what was behind a device that is gone; whether there was something.
fn close(qemu: &mut Qemu, target: &Target) -> Result<bool, Error> {
    match target {
        Target::Disk(_) => qemu.close_disk(&target.id()),
        Target::Net(name) => match qemu.unmake(Kind::Netdev, &net::netdev_id(name)) {
            Ok(()) => Ok(true),
            Err(qmp::Error::Refused { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        },
        Target::Usb(_) | Target::Pci(_) | Target::Device(_) => Ok(false),
    }
}

fn no_device(name: &VmName, target: &Target, qemu: &Qemu) -> Error {
    let what = target.to_string();
    let known = qemu.devices.keys().map(|id| {
        let Ok(known) = id.parse::<Target>();
        known.to_string()
    });
    let nearest = nearest(&what, known).into_iter().next();
    DeviceError::NoDevice {
        name: name.clone(),
        what,
        nearest,
    }
    .into()
}
