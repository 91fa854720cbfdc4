//! What one VM is doing: systemd's, QEMU's and the kernel's word together.

use std::fs::Metadata;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{Format, VmConfig};
use crate::image::Header;
use crate::process;
use crate::qmp::{self, Monitor, lock_path};
use crate::saved::Saved;
use crate::systemd::{ActiveState, UnitStatus, boot, property, rfc3339};
use crate::vm::{GroupName, VmName};

use super::device::ls::block_image;
use super::diff::{self, Differing};
pub use super::endpoint::{Endpoint, EndpointKind, Socket};
use super::error::with_causes;
use super::in_force::{self, Definition};
use super::ls::State;
use super::past;
pub use super::past::{Ending, Failure};
use super::save::settle;
use super::{Error, Host, controllers, endpoint, snapshot};

/// All that is known of a VM at this moment.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Its name.
    pub name: VmName,
    /// What it is doing.
    pub state: State,
    /// Its labels.
    pub labels: IndexMap<String, String>,
    /// The group whose limits it shares.
    pub group: Option<GroupName>,
    /// Its own limits, with values as in unit files.
    pub limits: IndexMap<String, String>,
    /// Whether it cannot be removed.
    pub protected: bool,
    /// What systemd says.
    #[serde(flatten)]
    pub unit: UnitStatus,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// Why its definition, or the user's defaults, cannot be read.
    pub mistake: Option<String>,
    /// Whether the definition is another than the one the VM runs with.
    pub definition_changed: bool,
    /// What that changes at the next start, key by key.
    pub pending: Vec<Differing>,
    /// The accelerator in use, `kvm` or `tcg`, while QEMU answers.
    pub accel: Option<&'static str>,
    /// Bytes of memory that the guest has, by its balloon, while QEMU answers.
    pub balloon: Option<u64>,
    /// Bytes of memory that the guest is to have without one.
    pub guest_memory: Option<u64>,
    /// Bytes of memory that QEMU uses.
    pub memory_used: Option<u64>,
    /// Seconds of CPU time that QEMU has used.
    pub cpu_seconds: Option<f64>,
    /// Its guest's address for vsock sockets, if it has one and runs.
    pub vsock_cid: Option<u32>,
    /// Its sockets, by what they are for.
    pub sockets: Vec<Socket>,
    /// The ports and the display that have none, while it runs.
    pub endpoints: Vec<Endpoint>,
    /// Its drives, as QEMU has them; as defined while it does not run.
    pub drives: Vec<Drive>,
    /// Why QEMU could not be asked, while it runs.
    pub monitor_error: Option<String>,
    /// How the last run ended, by QEMU's own SHUTDOWN event.
    pub ended: Option<Ending>,
    /// Why its guest was not up in time, if it runs and was not.
    pub not_ready: Option<String>,
    /// What was killed of which its guest is stopped, in words.
    pub cut_short: Option<&'static str>,
    /// The state that the next start goes on from.
    pub saved: Option<KeptState>,
    /// The snapshot that the next start goes on at, with its memory.
    pub resumes: Option<String>,
    /// How the last run failed that did, if this is it or came after it by a restart.
    pub failure: Option<Failure>,
    /// The last lines of QEMU and systemd in that run.
    pub last_lines: Vec<String>,
    /// The last lines of the guest's console in that run.
    pub last_console_lines: Vec<String>,
}

/// A disk.
#[derive(Debug, Serialize)]
pub struct Drive {
    /// Its id in QEMU, or its name in the definition.
    pub name: String,
    /// The image; none in an empty CD-ROM drive.
    pub file: Option<String>,
    /// Format of the image.
    pub format: Option<String>,
    /// What the guest sees, in bytes.
    pub virtual_size: Option<u64>,
    /// What it takes on the host, in bytes.
    pub actual_size: Option<u64>,
    /// Whether the guest may only read.
    pub read_only: bool,
}

/// A state that the next start is to go on from.
#[derive(Debug, Serialize)]
pub struct KeptState {
    /// When it was saved.
    #[serde(serialize_with = "rfc3339")]
    pub at: Option<SystemTime>,
    /// Its size in bytes.
    pub bytes: u64,
    /// Disks that changed since, so that it cannot be used.
    pub changed_disks: Vec<PathBuf>,
}

/// How long QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Looks at a VM.
pub fn status(host: &Host, name: &VmName) -> Result<Status, Error> {
    let unit = host.unit(name)?;
    let row = match host.vm(name) {
        Ok(row) => Some(row),
        // It runs all the same: its definition was lost, or is another user directory's.
        Err(Error::NoSuchVm { .. }) if unit.active_state != ActiveState::Inactive => None,
        Err(error) => return Err(error),
    };
    let read = row.as_ref().map(|row| host.config(row)).transpose();
    let (config, mistake) = match read {
        Ok(config) => (config, None),
        Err(error) => (None, Some(with_causes(&error))),
    };
    let runtime = host.paths.sockets(name);
    let up = unit.active_state.is_up();
    // One that today's maqet cannot read differs, but cannot be compared.
    let used = up
        .then(|| in_force::read(host, name).ok().flatten())
        .flatten();
    let new = row
        .as_ref()
        .and_then(|row| Definition::read(host, name, &row.definition).ok());
    let mut pending = match (&used, &new) {
        (Some(used), Some(new)) => diff::pending(host, name, used, new, None),
        _ => Vec::new(),
    };
    let is_unreadable = used.is_some() && row.is_some() && new.is_none();
    let (mut run_state, mut accel, mut drives, mut monitor_error) = (None, None, Vec::new(), None);
    let mut balloon = None;
    let running = used.as_ref().map(|used| &used.config).or(config.as_ref());
    let has_terminal = running.is_some_and(|vm| vm.ports.values().any(|port| port.pty));
    let mut chardevs = None;
    if unit.active_state == ActiveState::Active {
        let socket = runtime.qmp();
        let asked = Monitor::open(&socket, &lock_path(&socket), ANSWER).and_then(|mut monitor| {
            monitor.set_timeout(ANSWER);
            if let (Some(used), Some(new)) = (&used, &new) {
                pending = diff::pending(host, name, used, new, Some(&mut monitor));
            }
            if has_terminal {
                chardevs = Some(monitor.execute("query-chardev", ())?);
            }
            balloon = match monitor.execute("query-balloon", ()) {
                // It has none.
                Err(qmp::Error::Refused { .. }) => None,
                answer => answer?["actual"].as_u64(),
            };
            Ok((
                monitor.status()?.run_state,
                monitor.execute("query-kvm", ())?,
                monitor.execute("query-block", ())?,
            ))
        });
        match asked {
            Ok((state, kvm, blocks)) => {
                run_state = Some(state);
                accel = Some(if kvm["enabled"] == json!(true) {
                    "kvm"
                } else {
                    "tcg"
                });
                drives = blocks
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(running_drive)
                    .collect();
            }
            Err(error) => monitor_error = Some(with_causes(&error)),
        }
    } else if let Some(config) = &config {
        drives = defined_drives(host, name, config);
    }
    let cut_short = run_state
        .as_ref()
        .and_then(|state| settle::cut_short(host, name, state));
    let saved = match up {
        true => None,
        false => kept_state(host, name)?,
    };
    let usage = unit.main_pid.and_then(process::usage);
    let past = past::look(host, name, &unit)?;
    Ok(Status {
        state: State::new(
            unit.active_state,
            &unit.sub_state,
            run_state,
            saved.is_some(),
        ),
        not_ready: std::fs::read_to_string(runtime.not_ready()).ok(),
        cut_short,
        saved,
        resumes: match up {
            true => None,
            false => snapshot::awaited(host, name)?,
        },
        labels: row
            .as_ref()
            .map(|row| row.labels.clone())
            .unwrap_or_default(),
        group: row.as_ref().and_then(|row| row.group.clone()),
        limits: running.map_or_else(IndexMap::new, |config| {
            controllers::limits(config)
                .filter(|(name, _)| property::controller(name).is_some())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        }),
        balloon,
        guest_memory: running.map(|config| config.memory.size.bytes()),
        protected: row.as_ref().is_some_and(|row| row.protected),
        enabled: boot::enabled(&host.scope)?.contains(name),
        mistake,
        definition_changed: is_unreadable || !pending.is_empty(),
        pending,
        accel,
        memory_used: unit.memory.or(usage.map(|usage| usage.memory)),
        cpu_seconds: unit
            .cpu_nanoseconds
            .map(Duration::from_nanos)
            .or(usage.map(|usage| usage.cpu))
            .filter(|_| up)
            .map(|cpu| cpu.as_secs_f64()),
        vsock_cid: std::fs::read_to_string(runtime.cid())
            .ok()
            .filter(|_| up)
            .and_then(|cid| cid.parse().ok()),
        sockets: if up {
            endpoint::sockets(&runtime, running)
        } else {
            Vec::new()
        },
        endpoints: running
            .filter(|_| up)
            .map(|config| endpoint::endpoints(config, chardevs.as_ref()))
            .unwrap_or_default(),
        drives,
        monitor_error,
        ended: past.ended,
        failure: past.failure,
        last_lines: past.last_lines,
        last_console_lines: past.last_console_lines,
        unit,
        name: name.clone(),
    })
}

/// The saved state of a VM, if it has one.
fn kept_state(host: &Host, name: &VmName) -> Result<Option<KeptState>, Error> {
    let files = host.paths.saved(name);
    let failed = |source| Error::Io(format!("cannot read {}", files.facts().display()), source);
    let Some(saved) = Saved::read(&files).map_err(failed)? else {
        return Ok(None);
    };
    let bytes = std::fs::metadata(files.state()).map_err(failed)?.len();
    Ok(Some(KeptState {
        at: Some(saved.time()),
        bytes,
        changed_disks: saved
            .changed_disks()
            .into_iter()
            .map(PathBuf::from)
            .collect(),
    }))
}

/// One element of the answer to `query-block`.
fn running_drive(block: &Value) -> Drive {
    let image = block_image(block);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Drive {
        // Devices made with -device have a path for a name: `/machine/peripheral/disk-root/…`.
        name: text(&block["qdev"])
            .map(|path| path.trim_start_matches("/machine/peripheral/").to_owned())
            .map(|path| path.split('/').next().unwrap_or_default().to_owned())
            .or_else(|| text(&block["device"]))
            .unwrap_or_default(),
        file: text(&image["filename"]),
        format: text(&image["format"]),
        virtual_size: image["virtual-size"].as_u64(),
        actual_size: image["actual-size"].as_u64(),
        read_only: block["inserted"]["ro"] == json!(true),
    }
}

fn defined_drives(host: &Host, name: &VmName, config: &VmConfig) -> Vec<Drive> {
    use std::os::unix::fs::MetadataExt;
    let dir = host.paths.vm(name);
    config
        .disks
        .iter()
        .map(|(name, disk)| {
            let path = disk.path(name, dir.path());
            let file = path.as_ref().and_then(|path| std::fs::metadata(path).ok());
            let virtual_size = match disk.format {
                Format::Qcow2 => path
                    .as_ref()
                    .and_then(|path| Some(Header::read(path).ok()?.virtual_size)),
                Format::Raw => file.as_ref().map(Metadata::len),
            };
            Drive {
                name: name.to_string(),
                actual_size: file.map(|file| file.blocks() * 512),
                format: path.as_ref().map(|_| disk.format.as_str().to_owned()),
                file: path.map(|path| path.to_string_lossy().into_owned()),
                virtual_size,
                read_only: disk.read_only,
            }
        })
        .collect()
}
