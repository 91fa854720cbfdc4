//! Where maqet keeps things.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use crate::vm::{InvalidVmName, VmName};

/// The directories of one user's maqet. Nothing is created by naming it.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `$XDG_DATA_HOME/maqet`: the database and a directory for each VM.
    pub data: PathBuf,
    /// `$XDG_CONFIG_HOME/maqet`: `config.toml`.
    pub config: PathBuf,
    /// `$XDG_RUNTIME_DIR`, or `/run/user/UID` where that is not set (su, cron).
    pub runtime: PathBuf,
}

/// A place in the environment that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither the variable nor what stands in for it is set.
    #[error("neither ${0} nor $HOME is set")]
    Unset(&'static str),
    /// systemd and SQLite take UTF-8 only.
    #[error("${name} is not a UTF-8 path: {}", .path.display())]
    NotUtf8 {
        /// The variable.
        name: &'static str,
        /// Its value.
        path: PathBuf,
    },
}

impl Paths {
    /// The places that the environment names (XDG Base Directory Specification).
    pub fn from_env() -> Result<Self, Error> {
        Ok(Self {
            data: base("XDG_DATA_HOME", ".local/share")?.join("maqet"),
            config: base("XDG_CONFIG_HOME", ".config")?.join("maqet"),
            runtime: absolute("XDG_RUNTIME_DIR").unwrap_or_else(|| {
                let uid = rustix::process::geteuid().as_raw();
                Path::new("/run/user").join(uid.to_string())
            }),
        })
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.data.join("maqet.db")
    }

    /// The user's defaults for definitions.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The user's templates for definitions, each `NAME.toml`.
    pub fn templates(&self) -> PathBuf {
        self.config.join("templates")
    }

    /// A directory for each VM.
    pub fn vms(&self) -> PathBuf {
        self.data.join("vms")
    }

    /// What was typed in the shell of `maqet qmp`.
    pub fn qmp_history(&self) -> PathBuf {
        self.data.join("qmp_history")
    }

    /// What maqet keeps for a VM: disks made for it, its console log, its lock.
    pub fn vm(&self, name: &VmName) -> VmDir {
        VmDir(self.vms().join(name.as_str()))
    }

    /// The saved state of a VM.
    pub fn saved(&self, name: &VmName) -> SavedState {
        SavedState(self.saved_states().join(name.as_str()))
    }

    /// Where all saved states are: one look tells which VMs have one.
    pub fn saved_states(&self) -> PathBuf {
        self.data.join("saved")
    }

    /// Where the sockets of a running VM are; systemd makes and removes it.
    pub fn sockets(&self, name: &VmName) -> RuntimeDir {
        RuntimeDir(self.runtime.join("maqet").join(name.as_str()))
    }

    /// What is remembered until the next boot, for all VMs.
    pub fn cache(&self) -> PathBuf {
        self.runtime.join("maqet")
    }
}

/// The directory of one VM under the data directory.
#[derive(Clone, Debug)]
pub struct VmDir(PathBuf);

impl VmDir {
    /// The directory at `path`, where a link of its VM leads.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Locked (flock(2)) by whoever works on the VM's disks; QEMU while it runs.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Locked by whoever does to the VM what takes several steps, whether it runs or not.
    pub fn operation_lock(&self) -> PathBuf {
        self.0.join("operation.lock")
    }

    /// What the guest printed on its serial port in this or the last run.
    pub fn console_log(&self) -> PathBuf {
        self.0.join("console.log")
    }

    /// The same for the run before that.
    pub fn previous_console_log(&self) -> PathBuf {
        self.0.join("console.log.1")
    }

    /// What the guest printed on a further port, by the port's name in the definition, in
    /// this or the last run.
    pub fn port_log(&self, name: &str) -> PathBuf {
        self.0.join(format!("port-{name}.log"))
    }

    /// The same for the run before that.
    pub fn previous_port_log(&self, name: &str) -> PathBuf {
        self.0.join(format!("port-{name}.log.1"))
    }

    /// Whether a file of the directory has the name of such a log.
    pub fn is_port_log(file: &Path) -> bool {
        let name = file.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_prefix("port-"))
            .is_some_and(|name| name.ends_with(".log") || name.ends_with(".log.1"))
    }

    /// How far the console log has been copied to the journal.
    pub fn console_shipped(&self) -> PathBuf {
        self.0.join("console.shipped")
    }

    /// QEMU's output, where the user cannot read the journal.
    pub fn output_log(&self) -> PathBuf {
        self.0.join("qemu.log")
    }

    /// The definition that the last start used.
    pub fn definition(&self) -> PathBuf {
        self.0.join("definition.toml")
    }
}

/// The saved state of one VM.
#[derive(Clone, Debug)]
pub struct SavedState(PathBuf);

impl SavedState {
    /// Memory and devices, as QEMU writes them: it is there when the VM is saved.
    pub fn state(&self) -> PathBuf {
        self.0.with_extension("state")
    }

    /// Where it is while it is written; what a power cut leaves is of no use.
    pub fn unfinished(&self) -> PathBuf {
        self.0.with_extension("unfinished")
    }

    /// What must be known to load it.
    pub fn facts(&self) -> PathBuf {
        self.0.with_extension("json")
    }
}

/// How the names of links to the files of ports begin.
const PORT_LOG: &str = "log-of-port-";

/// The runtime directory of one VM.
#[derive(Clone, Debug)]
pub struct RuntimeDir(PathBuf);

impl RuntimeDir {
    /// The directory at `path`, as systemd names it to the unit's own processes.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The VM that it is of.
    pub fn vm(&self) -> Result<VmName, InvalidVmName> {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        name.parse()
    }

    /// The monitor of the unit's own helpers; nobody else ever sits in front of them.
    pub fn ctl(&self) -> PathBuf {
        self.0.join("ctl.sock")
    }

    /// The monitor of maqet's commands.
    pub fn qmp(&self) -> PathBuf {
        self.0.join("qmp.sock")
    }

    /// Where QEMU puts the picture of a screen that it was asked for.
    pub fn screenshot(&self) -> PathBuf {
        self.0.join("screenshot")
    }

    /// The monitor that maqet leaves to the user's own tools.
    pub fn user(&self) -> PathBuf {
        self.0.join("user.sock")
    }

    /// The serial port.
    pub fn serial(&self) -> PathBuf {
        self.0.join("serial.sock")
    }

    /// The guest agent's channel.
    pub fn agent(&self) -> PathBuf {
        self.0.join("agent.sock")
    }

    /// The VNC display.
    pub fn vnc(&self) -> PathBuf {
        self.0.join("vnc.sock")
    }

    /// The SPICE display.
    pub fn spice(&self) -> PathBuf {
        self.0.join("spice.sock")
    }

    /// A further port, by its name in the definition.
    pub fn port(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.sock"))
    }

    /// A link to the file that a further port writes to, there while the VM runs.
    pub fn port_log(&self, name: &str) -> PathBuf {
        self.0.join(format!("{PORT_LOG}{name}"))
    }

    /// Those links that there are.
    pub fn port_logs(&self) -> io::Result<Vec<PathBuf>> {
        let mut links = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PORT_LOG) {
                links.push(entry.path());
            }
        }
        Ok(links)
    }

    /// A link to the VM's console log, there while it runs.
    pub fn console_log(&self) -> PathBuf {
        self.0.join("console.log")
    }

    /// QEMU's events of this run, as in the journal.
    pub fn events_log(&self) -> PathBuf {
        self.0.join("events.log")
    }

    /// What the VM has in this run: memory in bytes and vCPUs, for whoever lists many.
    pub fn shape(&self) -> PathBuf {
        self.0.join("shape")
    }

    /// There when the VM's state was saved in this run, and nothing is left to do but to end.
    pub fn saved(&self) -> PathBuf {
        self.0.join("saved")
    }

    /// There while a running guest is paused for its state to be saved.
    pub fn saving(&self) -> PathBuf {
        self.0.join("saving")
    }

    /// Why the guest was not up in time, if it was not: one line.
    pub fn not_ready(&self) -> PathBuf {
        self.0.join("not-ready")
    }

    /// There when the VM was seen to be up, as far as its definition says.
    pub fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }

    /// The address of the guest for vsock sockets, if it has one.
    pub fn cid(&self) -> PathBuf {
        self.0.join("cid")
    }

    /// There when the guest has said over vsock that it is up; as old as its word.
    pub fn notified(&self) -> PathBuf {
        self.0.join("notified")
    }

    /// The definition that the VM goes by in this run; as old as the run.
    pub fn definition(&self) -> PathBuf {
        self.0.join("definition.toml")
    }

    /// Locked (flock(2)) by whoever changes that.
    pub fn definition_lock(&self) -> PathBuf {
        self.0.join("definition.lock")
    }
}

fn base(name: &'static str, below_home: &str) -> Result<PathBuf, Error> {
    let path = absolute(name)
        .or_else(|| Some(absolute("HOME")?.join(below_home)))
        .ok_or(Error::Unset(name))?;
    match path.to_str() {
        Some(_) => Ok(path),
        None => Err(Error::NotUtf8 { name, path }),
    }
}

/// A variable's value; one that is not absolute counts as unset, as the specification says.
fn absolute(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// Makes a directory and its parents, for the user alone.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}
