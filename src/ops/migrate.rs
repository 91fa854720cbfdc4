//! Taking VMs over from Python maqet.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::Serialize;

use crate::config::{self, DeviceName, Document, Layers, VmConfig};
use crate::store::{
    self,
    python::{self, PythonVm},
};
use crate::vm::VmName;

use super::add::{self, Source};
use super::claims::Claims;
use super::{Host, check};

/// Why a VM is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no database of Python maqet.
    #[error("{} is no database of Python maqet", .0.display())]
    NoDatabase(PathBuf),
    /// What is there is no such database.
    #[error("cannot read {} as a database of Python maqet", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: store::Error,
    },
    /// It has no VM of that name.
    #[error("no VM of Python maqet is named `{0}`")]
    NoSuchVm(String),
    /// Its name cannot be one here.
    #[error("`{}` cannot name a VM here", .0.escape_debug())]
    Name(String, VmName),
    /// It runs.
    #[error("VM `{name}` still runs under Python maqet{}", .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    StillRuns {
        /// The VM.
        name: String,
        /// Its QEMU, or what looks after it.
        pid: Option<u32>,
    },
}

/// A new name for a VM, written `OLD=NEW`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// What Python maqet calls it.
    pub old: String,
    /// What it will be called.
    pub new: VmName,
}

/// A word that is not `OLD=NEW`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not OLD=NEW, with a name that a VM can have", .0.escape_debug())]
pub struct InvalidRename(String);

impl FromStr for Rename {
    type Err = InvalidRename;

    fn from_str(word: &str) -> Result<Self, InvalidRename> {
        word.split_once('=')
            .and_then(|(old, new)| {
                Some(Self {
                    old: old.to_owned(),
                    new: new.parse().ok()?,
                })
            })
            .ok_or_else(|| InvalidRename(word.to_owned()))
    }
}

/// A VM that was taken over, or would be.
#[derive(Debug, Serialize)]
pub struct Migrated {
    /// What Python maqet calls it.
    pub old_name: String,
    /// Its name.
    pub name: VmName,
    /// Its definition.
    pub definition: String,
    /// The disks that were not there, and were made.
    pub made: Vec<PathBuf>,
    /// What its owner should know.
    pub notes: Vec<String>,
}

/// VMs of Python maqet.
#[derive(Debug)]
pub struct Old {
    /// Its database.
    file: PathBuf,
    vms: Vec<PythonVm>,
}

impl Old {
    /// Those in a database, or in the database of a directory; by default where it
    /// keeps its own. All of them, or the ones named.
    pub fn read(host: &Host, from: Option<&Path>, names: &[String]) -> Result<Self, super::Error> {
        let file = match from {
            Some(dir) if dir.is_dir() => dir.join("instances.db"),
            Some(file) => file.to_owned(),
            None => host.paths.database().with_file_name("instances.db"),
        };
        if !file.is_file() {
            return Err(Error::NoDatabase(file).into());
        }
        let mut vms = python::read(&file).map_err(|source| Error::Unreadable {
            file: file.clone(),
            source,
        })?;
        if let Some(name) = names
            .iter()
            .find(|name| vms.iter().all(|vm| vm.name != **name))
        {
            return Err(Error::NoSuchVm(name.clone()).into());
        }
        vms.retain(|vm| names.is_empty() || names.contains(&vm.name));
        let file = std::path::absolute(file)
            .map_err(super::Error::io("cannot tell the current directory"))?;
        Ok(Self { file, vms })
    }

    /// What they are called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.vms.iter().map(|vm| vm.name.as_str())
    }

    /// Takes one over: either all of it or nothing. Its disks stay where they are, and are not
    /// maqet's own. With `only_try`, nothing is done but what tells whether it can be.
    pub fn migrate(
        &self,
        host: &Host,
        name: &str,
        renames: &[Rename],
        only_try: bool,
    ) -> Result<Migrated, super::Error> {
        let vm = self
            .vms
            .iter()
            .find(|vm| vm.name == name)
            .ok_or_else(|| Error::NoSuchVm(name.to_owned()))?;
        let new = match renames.iter().find(|rename| rename.old == name) {
            Some(rename) => rename.new.clone(),
            None => name
                .parse()
                .map_err(|_| Error::Name(name.to_owned(), suggestion(name)))?,
        };
        if let Some(pid) = runs(vm) {
            return Err(Error::StillRuns {
                name: name.to_owned(),
                pid,
            }
            .into());
        }
        let text = lines(&python(&vm.definition));
        // No such file is there; it names the place in messages.
        let file = self.file.join(format!("{new}.yaml"));
        let notes = config::notes(&text, &file);
        let mut document = Document::parse(&text, &file)?;
        if !document.says("name") {
            // Mistakes are shown in what Python maqet kept.
            let config = VmConfig::parse(&text, &file)?;
            for (disk, made) in disks_without_place(vm, &config) {
                document.set(&format!("disk.{disk}.file"), made)?;
            }
        }
        document.set("name", new.as_str())?;
        let source = Source {
            text: document.to_string(),
            file: document.file().to_owned(),
            notes,
        };
        let definition = config::resolve(&source.text, &source.file)?;
        let mut migrated = Migrated {
            old_name: name.to_owned(),
            name: new,
            definition,
            made: Vec::new(),
            notes: source.notes.clone(),
        };
        if only_try {
            let claims = Claims::for_vms(host, 1);
            let judge = check::faults(&claims, None);
            VmConfig::parse_checked(&source.text, &source.file, &host.defaults()?, judge)?;
            if host.list()?.iter().any(|vm| vm.name == migrated.name) {
                return Err(super::Error::AlreadyExists(migrated.name));
            }
        } else {
            let layers = Layers::load(vec![source.into()], &host.paths.templates())?;
            migrated.made = add::add(host, &layers)?.made;
        }
        Ok(migrated)
    }
}

/// The nearest name that a VM can have.
fn suggestion(name: &str) -> VmName {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_matches(['-', '_']);
    let name = name.get(..63).unwrap_or(name);
    name.parse()
        .unwrap_or_else(|_| "vm".parse().expect("it is a valid name"))
}

/// The disks that Python maqet made where it liked, and where that is.
fn disks_without_place(vm: &PythonVm, config: &VmConfig) -> Vec<(DeviceName, String)> {
    let disks = config.disks.iter().filter(|(_, disk)| disk.file.is_none());
    disks
        .map(|(name, disk)| {
            let kind = disk.format.as_str();
            (name.clone(), format!("/tmp/maqet-{}-{name}.{kind}", vm.id))
        })
        .filter(|(_, made)| Path::new(made).exists())
        .collect()
}

/// A definition that is seen to be Python maqet's, also if it has only keys that are ours, too.
fn python(json: &str) -> Cow<'_, str> {
    const THEIRS: [&str; 5] = [
        "\"binary\"",
        "\"args\"",
        "\"arguments\"",
        "\"storage\"",
        "\"cpu\"",
    ];
    match json.trim_end().strip_suffix('}') {
        Some(rest) if rest.contains(':') && !THEIRS.iter().any(|key| json.contains(key)) => {
            format!("{rest},\"arguments\":[]}}").into()
        }
        _ => json.into(),
    }
}

/// JSON with a line for each value, so that a place in it can be shown.
fn lines(json: &str) -> String {
    let mut text = String::new();
    let mut depth = 0_usize;
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            text.push(c);
            continue;
        }
        let line = |depth| format!("\n{}", "  ".repeat(depth));
        match c {
            '{' | '[' => {
                depth += 1;
                text.push(c);
                text += &line(depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                text += &line(depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                text += &line(depth);
            }
            ':' => text += ": ",
            c if c.is_whitespace() => {}
            c => {
                in_string = c == '"';
                text.push(c);
            }
        }
    }
    text
}

/// Whether a VM runs, and as which process if that can be told. What the database says of
/// that is not believed: it is lost in one way and goes stale in another.
fn runs(vm: &PythonVm) -> Option<Option<u32>> {
    let socket = format!("{}.sock", vm.id);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|pid| pid.parse().ok())
        else {
            continue;
        };
        let Ok(line) = fs::read(process.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split('\0');
        // QEMU has the socket, and the process that looks after it the VM's id.
        let runner = line.contains("maqet.vm_runner") && words.clone().any(|word| word == vm.id);
        let qemu = words.any(|word| word.contains(&socket)) && line.contains("mode=control");
        if runner || qemu {
            return Some(Some(pid));
        }
    }
    // Another user's process may not show its words.
    vm.sockets.iter().any(|path| answers(path)).then_some(None)
}

/// Whether someone listens on a socket.
fn answers(path: &Path) -> bool {
    let Ok(address) = SocketAddrUnix::new(path) else {
        return false;
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(socket) = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else {
        return false;
    };
    // A queue that is full is one that somebody has.
    matches!(
        connect(&socket, &address),
        Ok(()) | Err(rustix::io::Errno::AGAIN)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_with_keys_of_both_is_seen_to_be_theirs() {
        for json in [
            r#"{"memory":512}"#,
            r#"{"name": "a", "memory": 512, "display": "none"}"#,
        ] {
            let text = lines(&python(json));
            let config = VmConfig::parse(&text, Path::new("a.yaml")).unwrap();
            assert_eq!(config.memory.size.bytes(), 512 << 20, "{text}");
        }
        for json in ["{}", r#"{"cpu":2}"#, r#"{"args":[]}"#, "null", "{"] {
            assert_eq!(python(json), json);
        }
    }
}
