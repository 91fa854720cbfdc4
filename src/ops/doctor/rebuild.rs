//! Making the database again, from the definitions that starts have kept.
//!
//! What is known of disks is not guessed: which of them maqet made, only the database
//! knew. So after this they count as the user's own, and are never deleted.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::config::VmConfig;
use crate::vm::VmName;

use super::super::{Error, Host, add};
use super::vms::kept_definitions;
use super::with_causes;

/// What was restored, and what was not.
#[derive(Debug, Serialize)]
pub struct Rebuilt {
    /// The damaged database, under its new name.
    pub kept_aside: Option<PathBuf>,
    /// VMs that are known again.
    pub restored: Vec<VmName>,
    /// Definitions that could not be read, and why.
    pub failed: Vec<(PathBuf, String)>,
    /// VMs that the database has, and that were left as they are.
    pub untouched: usize,
}

/// Adds to the database the VMs of which a definition was kept, and that it does not have.
///
/// A database that is damaged is kept under another name first; one that is not is only
/// added to.
///
/// # Errors
/// When the database cannot be written, or is a newer maqet's.
pub fn rebuild(host: &Host) -> Result<Rebuilt, Error> {
    let damaged = match host.existing_store() {
        Ok(None) => false,
        Ok(Some(store)) => !store.faults().is_ok_and(|faults| faults.is_empty()),
        Err(Error::Store(error)) if error.is_damage() => true,
        Err(error) => return Err(error),
    };
    let kept_aside = match damaged {
        true => Some(put_aside(&host.paths.database())?),
        false => None,
    };
    let mut store = host.store()?;
    let mut rebuilt = Rebuilt {
        kept_aside,
        restored: Vec::new(),
        failed: Vec::new(),
        untouched: store.list()?.len(),
    };
    for (name, file) in kept_definitions(host) {
        if store.get(&name)?.is_some() {
            continue;
        }
        let restored = read(host, &name, &file)
            .and_then(|row| store.insert(&row, |_| Ok::<_, Error>(Some(Vec::new()))));
        match restored {
            Ok(_) => rebuilt.restored.push(name),
            // Someone else was quicker.
            Err(Error::AlreadyExists(_)) => {}
            Err(error) => rebuilt.failed.push((file, with_causes(&error))),
        }
    }
    Ok(rebuilt)
}

/// What `internal::launch` has kept: the UUID in a comment, and the definition.
fn read(host: &Host, name: &VmName, file: &Path) -> Result<crate::store::Row, Error> {
    let text = fs::read_to_string(file)
        .map_err(Error::io(format_args!("cannot read {}", file.display())))?;
    let kept = text.split_once('\n').and_then(|(first, definition)| {
        let uuid = first.strip_prefix("# uuid = \"")?.strip_suffix('"')?;
        Some((uuid.to_owned(), definition.to_owned()))
    });
    let (uuid, definition) = match kept {
        Some(kept) => kept,
        None => (add::uuid()?, text),
    };
    let config = VmConfig::parse_with(&definition, file, &host.defaults()?)?;
    if config.name != *name {
        return Err(Error::OtherName {
            name: config.name,
            dir: name.clone(),
        });
    }
    add::row(&config, definition, uuid, file)
}

/// Gives the database and its journal another name, which nothing has.
fn put_aside(database: &Path) -> Result<PathBuf, Error> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let named = |suffix: &str, count: u32| {
        let mut path = database.as_os_str().to_owned();
        path.push(format!(".damaged-{now}-{count}{suffix}"));
        PathBuf::from(path)
    };
    let free = (0..).find(|&count| !named("", count).exists());
    let count = free.expect("some number is free");
    for suffix in ["", "-wal", "-shm"] {
        let mut old = database.as_os_str().to_owned();
        old.push(suffix);
        match fs::rename(&old, named(suffix, count)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let path = database.display();
                return Err(Error::io(format_args!("cannot put {path} aside"))(error));
            }
            _ => {}
        }
    }
    Ok(named("", count))
}
