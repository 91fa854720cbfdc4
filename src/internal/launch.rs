//! ExecStart: the launcher, which becomes QEMU.
//!
//! Everything that QEMU needs is made here and inherited by descriptor: the lock
//! on the VM's disks and the listening monitor sockets. systemd runs it anew at
//! each restart, so a restart uses today's definition and fresh sockets.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::config::{self, VmConfig};
use crate::console::shipped::Shipped;
use crate::lock::VmLock;
use crate::ops::operation::Work;
use crate::ops::save::{Kept, Place};
use crate::ops::{Error, Host, prepare, save};
use crate::paths::{RuntimeDir, VmDir};
use crate::qemu::argv::{Listen, Sockets};
use crate::qemu::vhost;
use crate::qmp::{self, RunState};
use crate::store::Row;
use crate::systemd::journal;
use crate::vm::VmName;

use super::{listen, notify, ship};

/// How long another command may work on the VM: less than the unit's TimeoutStartSec, so
/// that it is named.
const SETTLED: Duration = Duration::from_secs(20);

/// Becomes the QEMU of VM `name`; returns only when it cannot.
///
/// `tell` is for what the journal should know.
pub fn launch(name: &VmName, tell: fn(&str)) -> anyhow::Result<Infallible> {
    become_qemu(name, tell).inspect_err(|_| super::give_up(name))
}

fn become_qemu(name: &VmName, tell: fn(&str)) -> anyhow::Result<Infallible> {
    let runtime = runtime_dir()?;
    let mut host = Host::from_env()?;
    host.tell = tell;
    let vm_dir = host.paths.vm(name);
    // Whoever works on the VM has this one first, too.
    let work = Work::take_within(&host, name, SETTLED)?;
    // Before the definition is read: until then it may be removed.
    let lock = VmLock::try_take(&vm_dir.lock()).map_err(Error::from)?;
    let lock = work.settle_stopped(lock)?;
    // QEMU is not to have it.
    drop(work);
    let stored = host.vm(name)?;
    let (row, kept) = save::as_saved(&host, stored.clone())?;
    let definition = match &kept {
        Some(kept) if kept.place == Place::File => row.definition.clone(),
        _ => config::with_defaults(&row.definition, &vm_dir.definition(), &host.defaults()?)?,
    };
    let config = host.whole_config(name, &definition)?;
    prepare::spare_bases(&host, &config)?;
    prepare::check_limits(&config)?;
    for required in &config.requires {
        // systemd only knows that it runs.
        if let Ok(reason) = fs::read_to_string(host.paths.sockets(required).not_ready()) {
            bail!("it requires VM `{required}`, which is not ready: {reason}");
        }
    }

    let mut inherited: Vec<OwnedFd> = vec![lock.into_file().into()];
    let mut listen = |path: PathBuf| -> anyhow::Result<Listen> {
        let listener =
            bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        let fd = listener.as_raw_fd();
        inherited.push(listener.into());
        Ok(Listen::Fd(fd))
    };
    let mut sockets = Sockets {
        ctl: listen(runtime.ctl())?,
        qmp: listen(runtime.qmp())?,
        user: listen(runtime.user())?,
        serial: listen(runtime.serial())?,
        agent: listen(runtime.agent())?,
        ports: config
            .ports
            .iter()
            .filter(|(_, port)| port.has_socket())
            .map(|(name, _)| Ok((name.clone(), listen(runtime.port(name.as_str()))?)))
            .collect::<anyhow::Result<_>>()?,
        vnc: runtime.vnc(),
        spice: runtime.spice(),
        events_log: runtime.events_log(),
        vsock: None,
    };
    if let Some(vsock) = &config.vsock {
        let (cid, device) = vhost::take(vsock, &row.uuid)?;
        sockets.vsock = Some((cid, device.as_raw_fd()));
        inherited.push(device.into());
    }
    let cid = sockets.vsock.map(|(cid, _)| cid);
    let mut argv = prepare::command_line(&host, &row, &config, sockets, kept.as_ref())?;
    if kept
        .as_ref()
        .is_some_and(|kept| kept.place == Place::Snapshot)
    {
        // Until it is loaded.
        argv.push("-S".into());
    }

    forget_last_run(&runtime).context("cannot clear the runtime directory")?;
    if let Some(kept) = &kept {
        keep_readiness(kept, &runtime).context("cannot keep what the guest has said")?;
    }
    if let Some(cid) = cid {
        fs::write(runtime.cid(), cid.to_string()).context("cannot keep the CID")?;
        listen::begin(cid)?;
    }
    // Nobody saves a VM that does not run: a power cut has left it.
    let _ = fs::remove_file(host.paths.saved(name).unfinished());
    keep_console_logs(&host, name, &runtime).context("cannot make the console log")?;
    keep_port_logs(&config, &vm_dir, &runtime).context("cannot keep the logs of ports")?;
    fs::write(runtime.definition(), &definition).context("cannot keep the definition")?;
    let shape = format!("{} {}", config.memory.size.bytes(), config.cpus);
    fs::write(runtime.shape(), shape).context("cannot keep the definition")?;
    keep_definition(&stored, &vm_dir).context("cannot keep the definition")?;
    let begins = begins(&config.qemu.args).filter(|_| kept.is_none());
    qmp::log::begin(&runtime.events_log(), begins.as_ref())
        .context("cannot begin the event log")?;
    begin_output_log(&vm_dir).context("cannot empty the output log")?;
    for fd in &inherited {
        fcntl_setfd(fd.as_fd(), FdFlags::empty()).context("cannot pass a descriptor on")?;
    }
    // Nobody does so in a process that becomes another.
    host.close();
    notify::ready().context("cannot notify systemd")?;
    let error = Command::new(&argv[0])
        .args(&argv[1..])
        .env_remove("NOTIFY_SOCKET")
        .exec();
    Err(error).with_context(|| format!("cannot run {}", Path::new(&argv[0]).display()))
}

/// The directory that systemd made for this unit.
pub(super) fn runtime_dir() -> anyhow::Result<RuntimeDir> {
    env::var_os("RUNTIME_DIRECTORY")
        .filter(|dir: &OsString| !dir.is_empty())
        .map(|dir| RuntimeDir::at(dir.into()))
        .ok_or_else(|| anyhow!("$RUNTIME_DIRECTORY is not set: only systemd runs this command"))
}

/// Listens on `path`, in the place of a socket that an earlier run left.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match UnixListener::bind(path) {
        // Longer than a socket address can be: through the directory's descriptor.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let (Some(dir), Some(file)) = (path.parent(), path.file_name()) else {
                return Err(error);
            };
            let dir = fs::File::open(dir)?;
            let short = format!("/proc/self/fd/{}", dir.as_raw_fd());
            UnixListener::bind(Path::new(&short).join(file))
        }
        other => other,
    }
}

/// The runtime directory outlives a restart, and what it says of the last run does not.
fn forget_last_run(runtime: &RuntimeDir) -> io::Result<()> {
    let files = [
        runtime.saving(),
        runtime.saved(),
        runtime.not_ready(),
        runtime.ready(),
        runtime.cid(),
        runtime.notified(),
    ];
    for file in files.into_iter().chain(runtime.port_logs()?) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A guest that goes on where it was does not say again that it is up.
fn keep_readiness(kept: &Kept, runtime: &RuntimeDir) -> io::Result<()> {
    for (was, file) in [
        (kept.ready, runtime.ready()),
        (kept.notified, runtime.notified()),
    ] {
        if was {
            fs::write(file, "")?;
        }
    }
    Ok(())
}

/// Keeps the last run's console log as the previous one, and begins a new one.
///
/// A link beside the sockets leads `internal trim` to the logs of running VMs.
fn keep_console_logs(host: &Host, vm: &VmName, runtime: &RuntimeDir) -> io::Result<()> {
    let vm_dir = host.paths.vm(vm);
    let mut shipped = Shipped::lock(&vm_dir.console_shipped())?;
    // The host went down with the last run. What the journal does not take, it does not have.
    if journal::readable() {
        let _ = ship::rest(host, vm, &vm_dir, &mut shipped);
    }
    match fs::rename(vm_dir.console_log(), vm_dir.previous_console_log()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let run = env::var("INVOCATION_ID").unwrap_or_default();
    let mark = ship::begin(run, shipped.mark.as_ref());
    // First, so that whoever sees the new log can see whose it is.
    shipped.keep(mark)?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(vm_dir.console_log())?;
    match symlink(vm_dir.console_log(), runtime.console_log()) {
        // Left by the run before, and the same.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Keeps the last run's logs of further ports as the previous ones.
///
/// Links beside the sockets lead `internal trim` to what ports write to; what is no
/// regular file does not grow.
fn keep_port_logs(config: &VmConfig, vm_dir: &VmDir, runtime: &RuntimeDir) -> io::Result<()> {
    for (name, port) in &config.ports {
        let name = name.as_str();
        let own = vm_dir.port_log(name);
        let file = match &port.file {
            Some(file) if fs::metadata(file).is_ok_and(|file| !file.is_file()) => continue,
            Some(file) => file,
            None if !port.has_log() => continue,
            None => match fs::rename(&own, vm_dir.previous_port_log(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => &own,
            },
        };
        symlink(file, runtime.port_log(name))?;
    }
    Ok(())
}

/// The state in which QEMU begins, as far as its arguments tell.
fn begins(args: &[String]) -> Option<RunState> {
    let has = |names: &[&str]| {
        // QEMU takes two dashes for one.
        args.iter()
            .any(|arg| names.contains(&arg.replacen("--", "-", 1).as_str()))
    };
    if has(&["-incoming", "-loadvm", "-preconfig", "-readconfig"]) {
        None
    } else if has(&["-S"]) {
        Some(RunState::Prelaunch)
    } else {
        Some(RunState::Running)
    }
}

/// Empties the file that the unit prints to, if it prints to a file: it is one run's.
fn begin_output_log(vm_dir: &VmDir) -> io::Result<()> {
    match OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(vm_dir.output_log())
    {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes the definition beside the disks, so that a lost database can be made again.
fn keep_definition(row: &Row, vm_dir: &VmDir) -> io::Result<()> {
    let text = format!("# uuid = \"{}\"\n{}", row.uuid, row.definition);
    if fs::read_to_string(vm_dir.definition()).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    let unfinished = vm_dir.definition().with_extension("toml.unfinished");
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, vm_dir.definition())
}
