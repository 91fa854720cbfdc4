//! Starting VMs.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::{ReadyLevel, StopAction, VmConfig};
use crate::console;
use crate::paths::create_private_dir;
use crate::qemu::vhost;
use crate::store::Limit;
use crate::systemd::property::Setting;
use crate::systemd::{self, Started, Transient, UnitStatus, journal};
use crate::vm::{GroupName, VmName};

use super::controllers::{self, Controllers};
use super::disk::Users;
use super::order::{self, Plan, Vm};
use super::port::{self, Reserved};
use super::save::Place;
use super::{Error, Host, group, operation, past, policy, prepare, save};

/// How a start ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It runs now.
    Started {
        /// Why it does without KVM, when its definition leaves that open.
        why_not_kvm: Option<String>,
        /// Whether it went on from a saved state.
        resumed: bool,
    },
    /// It ran before.
    AlreadyRunning,
}

/// Of the caller's environment, what QEMU gets to see: where programs are, and
/// where a window can open.
const ENVIRONMENT: [&str; 4] = ["PATH", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"];

/// Starts VMs, all at once, and waits until QEMU has taken its arguments.
///
/// One whose state was saved goes on there, unless `discard_saved`. Those that they
/// require are started, too; one that comes after others waits for them.
///
/// `done` is called for each as it ends, in the order in which they end. Returned is what
/// may come of it, a sentence each: groups that have more VMs running now than they have
/// memory for, and limits that do nothing.
///
/// # Errors
/// Only when nothing at all could be done; what happens to one VM goes to `done`.
pub fn start(
    host: &Host,
    names: &[VmName],
    discard_saved: bool,
    mut done: impl FnMut(&VmName, Result<Outcome, Error>),
) -> Result<Vec<String>, Error> {
    let maqet = host.maqet()?;
    let ports = Reserved::default();
    let discards = |name: &VmName| discard_saved && names.contains(name);
    let find = |name: &VmName| find(host, name, discards(name));
    let users = OnceCell::new();
    let check = |vm: &Vm| {
        // One of which too much is unknown is for QEMU to judge.
        if let Some(users) = users.get_or_init(|| Users::known(host).ok()) {
            users.spare_bases(host, &vm.1)?;
        }
        ports.check(&vm.0.name, &vm.1)?;
        check(host, vm, discards(&vm.0.name))
    };
    let Plan { mut vms, failed } = order::plan(names, find, check);
    for (name, error) in failed {
        done(&name, Err(error));
    }
    let mut applied: HashMap<GroupName, Vec<Limit>> = HashMap::new();
    vms.retain(|(row, config, _)| match &config.group {
        Some(group) if !applied.contains_key(group) => match group::apply(host, group) {
            Ok(limits) => applied.insert(group.clone(), limits).is_none(),
            Err(error) => {
                done(&row.name, Err(error));
                false
            }
        },
        _ => true,
    });
    let output_logs: Vec<Option<PathBuf>> = vms
        .iter()
        .map(|(row, ..)| host.output_log(&row.name))
        .collect();
    let settings: Vec<Vec<Setting>> = vms
        .iter()
        .map(|(_, config, _)| policy::settings(config))
        .collect::<Result<_, _>>()?;
    let units: Vec<Transient<'_>> = vms
        .iter()
        .zip(&output_logs)
        .zip(settings)
        .map(|(((row, config, resumes), output), settings)| Transient {
            name: &row.name,
            // It is shown on one line.
            description: match config.description.as_ref().and_then(|it| it.lines().next()) {
                Some(text) => format!("VM {}: {text}", row.name),
                None => format!("VM {}", row.name),
            },
            maqet: &maqet,
            environment: environment(host),
            stop_timeout: match config.stop.action {
                StopAction::Powerdown | StopAction::Save => config.stop.timeout.duration(),
                StopAction::Kill => Duration::ZERO,
            },
            save: config.stop.action == StopAction::Save,
            start_time: match resumes {
                true => load_time(host, config) + ready_time(config),
                false => ready_time(config),
            },
            after: config.before().cloned().collect(),
            requires: config.requires.clone(),
            start_delay: config.start_delay.duration(),
            group: config.group.as_ref(),
            settings,
            output: output.as_deref(),
        })
        .collect();
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let mut fuller: BTreeSet<&GroupName> = BTreeSet::new();
    let mut started = Vec::new();
    systemd::start(&host.scope, &units, &mut |index, ended| {
        let name = units[index].name;
        if matches!(ended, Ok(Started::Now)) {
            fuller.extend(&vms[index].1.group);
            started.push(&vms[index].1);
        }
        let outcome = match ended {
            Ok(Started::Now) => not_ready(host, name).map_or(
                Ok(Outcome::Started {
                    why_not_kvm: prepare::why_not_kvm(host, vms[index].1.accel)
                        .map(|reason| reason.to_string()),
                    resumed: vms[index].2,
                }),
                Err,
            ),
            // No one asked for it, and nothing was done.
            Ok(Started::Already) if !names.contains(name) => return,
            Ok(Started::Already) => Ok(Outcome::AlreadyRunning),
            Ok(Started::Failed(unit)) => Err(died(host, name, &vms[index].1, &unit)),
            Err(systemd::Error::Dependency { on, .. }) => Err(Error::Dependency {
                name: name.clone(),
                on,
            }),
            Err(error) => Err(error.into()),
        };
        done(name, outcome);
    })?;
    let own = started.into_iter().flat_map(controllers::limits);
    let shared = fuller.iter().flat_map(|group| &applied[*group]);
    let shared = shared.map(|(name, value)| (&**name, &**value));
    let idle = Controllers::new(host).idle(own.chain(shared));
    // They have started: what cannot be told of their groups is no failure.
    let over = fuller
        .into_iter()
        .filter_map(|group| group::over_budget(host, group).ok().flatten());
    Ok(over.map(|it| it.to_string()).chain(idle).collect())
}

/// What a VM is made of, and whether it goes on from a saved state.
fn find(host: &Host, name: &VmName, discard_saved: bool) -> Result<Vm, Error> {
    // The launcher would wait for less long, and could not say so as well.
    operation::wait(host, name)?;
    let row = host.vm(name)?;
    let (row, saved) = match discard_saved {
        true => (row, None),
        false => save::as_saved(host, row)?,
    };
    let is_whole = saved.as_ref().is_some_and(|kept| kept.place == Place::File);
    let config = host.checked_config(&row, is_whole)?;
    Ok((row, config, saved.is_some()))
}

/// Finds what would keep a VM from starting and can be told without QEMU.
fn check(host: &Host, (row, config, _): &Vm, discard_saved: bool) -> Result<(), Error> {
    prepare::check_files(host, row, config)?;
    if config.vsock.is_some() {
        vhost::open()?;
    }
    if discard_saved {
        save::discard_of(host, &row.name)?;
    }
    if host.output_log(&row.name).is_some() {
        // systemd opens the file before the launcher runs.
        let dir = host.paths.vm(&row.name);
        create_private_dir(dir.path()).map_err(Error::io(format_args!(
            "cannot make {}",
            dir.path().display()
        )))?;
    }
    Ok(())
}

/// How fast a saved state is loaded at the very least, in bytes a second.
const LOAD_RATE: u64 = 20 << 20;

/// How long loading a VM's memory may take, from a file or from a snapshot.
fn load_time(host: &Host, config: &VmConfig) -> Duration {
    let state = std::fs::metadata(host.paths.saved(&config.name).state());
    let bytes = state.map_or(config.memory.size.bytes(), |state| state.len());
    Duration::from_secs(bytes / LOAD_RATE)
}

/// How long the guest may take to be up, when that is waited for.
fn ready_time(config: &VmConfig) -> Duration {
    match config.ready.level {
        ReadyLevel::Monitor => Duration::ZERO,
        _ => config.ready.timeout.duration(),
    }
}

/// What the unit left word of, if its guest was not up in time.
fn not_ready(host: &Host, name: &VmName) -> Option<Error> {
    let reason = std::fs::read_to_string(host.paths.sockets(name).not_ready()).ok()?;
    let log = host.paths.vm(name).console_log();
    Some(Error::NotReady {
        name: name.clone(),
        reason,
        console: console::last_lines(&log, CONSOLE_LINES).unwrap_or_default(),
    })
}

/// How much of the console is shown of a guest that is not up.
const CONSOLE_LINES: usize = 10;

/// The manager has an environment of its own; the launcher is to find the same files as we do.
fn environment(host: &Host) -> Vec<(String, OsString)> {
    let dirs = [
        ("XDG_DATA_HOME", &host.paths.data),
        ("XDG_CONFIG_HOME", &host.paths.config),
    ]
    .into_iter()
    .filter_map(|(name, dir)| Some((name.to_owned(), dir.parent()?.into())));
    let variables = ENVIRONMENT
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), env::var_os(name)?)));
    dirs.chain(variables).collect()
}

/// journald takes a moment to write what it was sent: how long it may still take once
/// systemd's word that the unit failed is there.
const JOURNAL_DELAY: Duration = Duration::from_secs(1);

/// How long that word may take, which comes after every failure.
const VERDICT_DELAY: Duration = Duration::from_secs(10);

/// A start that failed, with the words of the run that did.
fn died(host: &Host, name: &VmName, config: &VmConfig, unit: &UnitStatus) -> Error {
    let begun = Instant::now();
    let mut limit = match journal::readable() {
        true => VERDICT_DELAY,
        false => JOURNAL_DELAY,
    };
    let mut pause = Duration::from_millis(5);
    let words = loop {
        let LastWords { main, manager, all } = last_words(host, name, unit);
        if !main.is_empty() {
            break main;
        }
        // Ended without a word, for what systemd could not do.
        if begun.elapsed() > limit {
            break manager;
        }
        if all {
            limit = limit.min(begun.elapsed() + JOURNAL_DELAY);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(JOURNAL_DELAY / 5);
    };
    Error::Died {
        name: name.clone(),
        explained: port::explain(name, config, &words),
        words,
        result: unit.result.clone(),
    }
}

/// What is known of a run that failed.
struct LastWords {
    /// What its main process wrote, without QEMU's events.
    main: Vec<String>,
    /// What systemd could not do for it.
    manager: Vec<String>,
    /// Whether systemd has had its last word on it.
    all: bool,
}

fn last_words(host: &Host, name: &VmName, unit: &UnitStatus) -> LastWords {
    // With a restart policy, systemd may have begun its next try before it was told not to.
    let is_another_run = unit.result == "success";
    let query = journal::Query {
        invocation_id: unit.invocation_id.as_deref().filter(|_| !is_another_run),
        ..Default::default()
    };
    let entries = host.output(name, &query).into_iter().flatten();
    let mut entries: Vec<journal::Entry> = entries.collect();
    let mut pid = unit.exec_main_pid;
    if is_another_run {
        let run = past::failed_run(&entries, None);
        entries.retain(|entry| entry.invocation_id == run);
        // The main process is the first of them.
        let first = entries.iter().find(|entry| entry.identifier != "systemd");
        pid = first.and_then(|entry| entry.pid);
    }
    let (manager, others): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|entry| entry.identifier == "systemd");
    let main = others
        .into_iter()
        .filter(|entry| entry.pid.is_none() || entry.pid == pid)
        .filter(|entry| !entry.is_monitor_traffic())
        .map(|entry| entry.message);
    // "maqet-web.service: Failed to spawn 'start-post' task: …"
    let about = format!("{}: ", unit.unit);
    let manager = manager
        .iter()
        .filter_map(|entry| entry.message.strip_prefix(&about));
    let (verdict, manager): (Vec<_>, Vec<_>) =
        manager.partition(|message| message.starts_with("Failed with result "));
    LastWords {
        main: main.collect(),
        manager: (manager.iter().map(|it| format!("systemd: {it}"))).collect(),
        all: !verdict.is_empty(),
    }
}
