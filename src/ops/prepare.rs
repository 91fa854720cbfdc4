//! What a definition needs from the host before QEMU can run it.

use std::ffi::OsString;
use std::fs::File;

use std::path::Path;

use crate::config::{AccelChoice, VmConfig};
use crate::image::{Chain, Fault};
use crate::qemu::argv::{self, Accel, Sockets};
use crate::qemu::{binary, kvm};
use crate::store::Row;

use super::disk::Users;
use super::save::{Kept, Place};
use super::{Error, Host, check, disk, plumbing};

/// The command line that a definition becomes on this host, today; with a state that it goes on from,
/// one that waits for it.
pub fn command_line(
    host: &Host,
    row: &Row,
    config: &VmConfig,
    sockets: Sockets,
    kept: Option<&Kept>,
) -> Result<Vec<OsString>, Error> {
    let vm_dir = host.paths.vm(&row.name);
    let logged = config.ports.iter().filter(|(_, port)| port.has_log());
    let port_logs = logged.map(|(name, _)| (name.clone(), vm_dir.port_log(name.as_str())));
    let facts = argv::Host {
        binary: binary::find(&config.qemu.binary)?,
        accel: match (kept, why_not_kvm(host, config.accel)) {
            (Some(Kept { kvm: true, .. }), _) => Accel::Kvm,
            (None, None) if config.accel != AccelChoice::Tcg => Accel::Kvm,
            _ => Accel::Tcg,
        },
        incoming: kept.is_some_and(|kept| kept.place == Place::File),
        uuid: row.uuid.clone(),
        vhost_net: plumbing::has_vhost_net(),
        console_log: vm_dir.console_log(),
        port_logs: port_logs.collect(),
        vm_dir: vm_dir.path().to_owned(),
        sockets,
        addresses: kept.map(|kept| kept.addresses.clone()).unwrap_or_default(),
    };
    Ok(argv::argv(config, &facts))
}

/// Sees to it that a VM writes nothing that disks of others stand on.
///
/// # Errors
/// [`Needed`](super::disk::Error::Needed).
pub fn spare_bases(host: &Host, config: &VmConfig) -> Result<(), Error> {
    match Users::known(host) {
        Ok(users) => users.spare_bases(host, config),
        // One of which too much is unknown is for QEMU to judge.
        Err(_) => Ok(()),
    }
}

/// Why a VM that would rather have KVM is emulated; `None` if it is not, or is meant to be.
pub fn why_not_kvm(host: &Host, choice: AccelChoice) -> Option<kvm::Unusable> {
    match choice {
        AccelChoice::Auto => kvm::usable(&host.paths.cache()).err(),
        AccelChoice::Kvm | AccelChoice::Tcg => None,
    }
}

/// Finds what keeps this very process from being the VM's QEMU.
pub fn check_limits(config: &VmConfig) -> Result<(), Error> {
    plumbing::check_locked(config)
}

/// Finds the program and the files that a definition names, or tells which is missing.
pub fn check_files(host: &Host, row: &Row, config: &VmConfig) -> Result<(), Error> {
    binary::find(&config.qemu.binary)?;
    for (what, path) in [
        ("kernel", &config.kernel),
        ("initrd", &config.initrd),
        ("dtb", &config.dtb),
    ] {
        if let Some(path) = path {
            File::open(path).map_err(|source| Error::Missing {
                what: what.to_owned(),
                path: path.clone(),
                source,
            })?;
        }
    }
    plumbing::check(config)?;
    let vm_dir = host.paths.vm(&row.name);
    for (name, disk) in &config.disks {
        let Some(path) = disk.path(name, vm_dir.path()) else {
            continue;
        };
        let disk_name = name.to_string();
        match check::unusable(&path, disk.read_only) {
            Some(why) => {
                return Err(Error::NotADisk {
                    disk: disk_name,
                    path,
                    why,
                });
            }
            None if path.exists() => {
                let chain = Chain::of(&path, disk.format.as_str());
                if let Some(fault) = chain.fault
                    && keeps_off(&fault, &path, disk.read_only)
                {
                    return Err(disk::Error::Broken {
                        vm: row.name.clone(),
                        disk: name.clone(),
                        fault,
                    }
                    .into());
                }
            }
            None if disk.size.is_some() => {
                return Err(Error::DiskGone {
                    vm: row.name.clone(),
                    disk: disk_name,
                    path,
                });
            }
            None => {
                return Err(Error::NoDisk {
                    disk: disk_name,
                    path,
                });
            }
        }
    }
    Ok(())
}

/// Whether QEMU does not take a disk with such a fault.
fn keeps_off(fault: &Fault, image: &Path, read_only: bool) -> bool {
    match fault {
        // It may know what maqet does not.
        Fault::NoFile { .. } => false,
        // What is only read may be damaged.
        Fault::Damaged { image: damaged } => !read_only && damaged == image,
        _ => true,
    }
}
