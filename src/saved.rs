//! A running VM that was saved: its memory and devices, in a file.
//!
//! The state fits the disks as they were at that moment and no others. So it
//! goes before the guest runs again, and is refused when a disk has changed.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::address::Addresses;
use crate::paths::{SavedState, create_private_dir};
use crate::vm::VmName;

/// What is to be known of a saved VM before its state can be used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    /// Seconds since 1970.
    pub at: u64,
    /// The definition that the VM ran with, the defaults of that time in it, by which alone
    /// its state can be loaded.
    pub definition: String,
    /// Its SMBIOS UUID.
    pub uuid: String,
    /// Whether it ran under KVM.
    pub kvm: bool,
    /// Whether the guest ran, and goes on when the state is loaded.
    pub was_running: bool,
    /// Whether it was up, as far as its definition says. States of old do not tell, and
    /// count as those that were.
    #[serde(default = "was_ready")]
    pub ready: bool,
    /// Whether the guest had said over vsock that it is up: it will not say so again.
    #[serde(default)]
    pub notified: bool,
    /// The disks that the guest could write to.
    pub disks: Vec<DiskStamp>,
    /// Where its devices were. States of old do not tell.
    #[serde(default)]
    pub addresses: Addresses,
}

fn was_ready() -> bool {
    true
}

/// How a disk was when the VM was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStamp {
    /// The image.
    pub path: PathBuf,
    /// Inode, size and time of the last change. Not the device: after a reboot of the
    /// host it may have another number.
    pub stamp: String,
}

impl DiskStamp {
    /// The disk as it is now.
    pub fn of(path: PathBuf) -> io::Result<Self> {
        let meta = fs::metadata(&path)?;
        let stamp = format!(
            "{}:{}:{}.{:09}",
            meta.ino(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        Ok(Self { path, stamp })
    }
}

/// A state that is being written; dropping it leaves nothing behind.
pub struct Unfinished<'a> {
    files: &'a SavedState,
    /// The file.
    pub path: PathBuf,
    /// Where QEMU is to write.
    pub file: File,
}

impl<'a> Unfinished<'a> {
    /// Makes the file, for the user alone.
    pub fn begin(files: &'a SavedState) -> io::Result<Self> {
        let state = files.state();
        if let Some(dir) = state.parent() {
            create_private_dir(dir)?;
        }
        let path = files.unfinished();
        let file = create(&path)?;
        Ok(Self { files, path, file })
    }

    /// Makes it the VM's saved state. Returns its size in bytes.
    pub fn finish(self, saved: &Saved) -> io::Result<u64> {
        self.file.sync_all()?;
        let bytes = self.file.metadata()?.len();
        saved.write_facts(self.files)?;
        // The state is there only when all that belongs to it is.
        fs::rename(&self.path, self.files.state())?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(bytes)
    }
}

/// A new or empty file for the user alone.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // It has another name by now, or is of no use.
        let _ = fs::remove_file(&self.path);
    }
}

impl Saved {
    /// Writes down what is to be known of a state.
    pub fn write_facts(&self, files: &SavedState) -> io::Result<()> {
        let facts = create(&files.facts())?;
        serde_json::to_writer(&facts, self)?;
        facts.sync_all()
    }

    /// The saved state of a VM; `None` if it has none.
    pub fn read(files: &SavedState) -> io::Result<Option<Self>> {
        if !files.state().try_exists()? {
            return Ok(None);
        }
        let text = fs::read(files.facts())?;
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// The disks that are not what they were.
    pub fn changed_disks(&self) -> Vec<&Path> {
        let as_it_was =
            |disk: &&DiskStamp| !DiskStamp::of(disk.path.clone()).is_ok_and(|now| now == **disk);
        let changed = self.disks.iter().filter(as_it_was);
        changed.map(|disk| disk.path.as_path()).collect()
    }
}

/// The VMs that have a saved state in `dir`.
pub fn all(dir: &Path) -> HashSet<VmName> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = files.filter_map(|file| {
        let path = PathBuf::from(file.file_name());
        let is_state = path.extension().is_some_and(|suffix| suffix == "state");
        path.file_stem()
            .filter(|_| is_state)?
            .to_str()?
            .parse()
            .ok()
    });
    names.collect()
}

/// Deletes the saved state of a VM. Whether there was one.
pub fn discard(files: &SavedState) -> io::Result<bool> {
    let mut found = false;
    // The state first: without it the facts mean nothing.
    for file in [files.state(), files.facts()] {
        match fs::remove_file(&file) {
            Ok(()) => found = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

impl Saved {
    /// When it was saved.
    pub fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;

    fn files(dir: &Path) -> SavedState {
        let paths = Paths {
            data: dir.to_owned(),
            config: dir.to_owned(),
            runtime: dir.to_owned(),
        };
        paths.saved(&"web".parse().unwrap())
    }

    fn saved(disks: Vec<DiskStamp>) -> Saved {
        Saved {
            at: 1,
            definition: "name = \"web\"\n".to_owned(),
            uuid: String::new(),
            kvm: false,
            was_running: true,
            ready: true,
            notified: false,
            disks,
            addresses: Addresses::default(),
        }
    }

    #[test]
    fn what_was_not_finished_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        drop(Unfinished::begin(&files).unwrap());
        assert!(Saved::read(&files).unwrap().is_none());
        assert_eq!(
            files.state().parent().unwrap().read_dir().unwrap().count(),
            0
        );

        let unfinished = Unfinished::begin(&files).unwrap();
        unfinished.finish(&saved(Vec::new())).unwrap();
        assert!(Saved::read(&files).unwrap().is_some());
        assert!(discard(&files).unwrap());
        assert!(!discard(&files).unwrap());
        assert!(Saved::read(&files).unwrap().is_none());
    }

    #[test]
    fn a_disk_that_was_written_to_or_replaced_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        fs::write(&disk, "one").unwrap();
        let saved = saved(vec![DiskStamp::of(disk.clone()).unwrap()]);
        assert!(saved.changed_disks().is_empty());
        fs::write(dir.path().join("other"), "one").unwrap();
        fs::rename(dir.path().join("other"), &disk).unwrap();
        assert_eq!(saved.changed_disks(), [disk.as_path()]);
        fs::remove_file(&disk).unwrap();
        assert_eq!(saved.changed_disks(), [disk.as_path()]);
    }
}
