//! What is wrong with a definition, as far as this host can tell before it is kept.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::slice;

use rustix::fs::{Access, access};

use crate::config::{DeviceName, Fault, Format, VmConfig};
use crate::image::Header;
use crate::store::Row;

use super::claims::{Claims, RivalMac};
use super::disk::{self, Defined, User, defined, guard};
use super::{Error, Host, knowledge, order, plumbing, policy};

/// Sizes of disks are multiples of it, in bytes.
const SECTOR: u64 = 512;

/// What is to be told where it is written; for [`VmConfig::parse_checked`].
///
/// Of a VM that is changed, `old` is what is kept of it: what was wrong before, and is
/// none of the change's, is left to its start.
pub(super) fn faults<'a>(
    claims: &'a Claims<'a>,
    old: Option<&'a Row>,
) -> impl FnOnce(&VmConfig) -> Vec<Fault> + 'a {
    move |config| {
        let mut faults = all(claims, config, old);
        let before = old.and_then(|old| claims.host.config(old).ok());
        if let Some(before) = &before {
            let before = all(claims, before, old);
            faults.retain(|fault| !before.contains(fault));
        }
        faults.extend(bases(claims, config, before.as_ref()).unwrap_or_default());
        // These say what cannot be at all.
        policy::faults(config).into_iter().chain(faults).collect()
    }
}

fn all(claims: &Claims<'_>, config: &VmConfig, old: Option<&Row>) -> Vec<Fault> {
    let mut faults = disks(claims.host, config);
    // Without the other definitions, there is nothing to be told of them.
    faults.extend(macs(claims, config, old).unwrap_or_default());
    faults.extend(overwritten(claims, config, old).unwrap_or_default());
    faults.extend(plumbing::files(config).map(|(key, why)| fault(key, why)));
    faults.extend(knowledge::check(claims.host, config).0);
    faults
}

fn fault(key: String, message: String) -> Fault {
    Fault {
        key,
        in_name: false,
        message,
    }
}

/// Disks that are there and cannot be disks.
fn disks(host: &Host, config: &VmConfig) -> Vec<Fault> {
    let dir = host.paths.vm(&config.name);
    let disks = config.disks.iter();
    disks
        .filter_map(|(name, disk)| {
            let path = disk.path(name, dir.path())?;
            if let Some(why) = unusable(&path, disk.read_only) {
                let message = format!("{}: {why}", path.display());
                return Some(fault(format!("disk.{name}.file"), message));
            }
            // What cannot be read now is not known to be another.
            let other = guard::other_format(&path, disk).ok()??;
            let (key, then) = match (disk.is_format_said, disk.format) {
                (true, _) => ("format", ""),
                (false, Format::Qcow2) => ("file", ": `format = \"raw\"` has it taken as it is"),
                (false, Format::Raw) => ("file", ": say its `format`"),
            };
            Some(fault(
                format!("disk.{name}.{key}"),
                format!("{other}{then}"),
            ))
        })
        .collect()
}

/// Disks that would write what another one stands on, and did not so far.
fn bases(
    claims: &Claims<'_>,
    config: &VmConfig,
    before: Option<&VmConfig>,
) -> Result<Vec<Fault>, Error> {
    let had = before.map_or_else(Vec::new, |before| defined(claims.host, before));
    let mut faults = Vec::new();
    for it in defined(claims.host, config) {
        let is_old = had
            .iter()
            .any(|old| old.path == it.path && !old.disk.read_only);
        // What is not there is nobody's base, and many are made at once.
        if it.disk.read_only || is_old || !it.path.exists() {
            continue;
        }
        if let Some(user) = claims.stands_on(&it.path)? {
            let (file, who) = (it.path.display(), disk::words(slice::from_ref(&user)));
            let message = format!("{file}: {who}, so it must not be written");
            faults.push(fault(format!("disk.{}.file", it.name), message));
        }
    }
    Ok(faults)
}

/// Why what is at `path` cannot be a disk; `None` if it can, or is not there.
pub(super) fn unusable(path: &Path, read_only: bool) -> Option<String> {
    let kind = match fs::metadata(path) {
        Ok(file) => file.file_type(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(error.to_string()),
    };
    let is = |what: &str| Some(format!("is {what}, and no disk"));
    if kind.is_dir() {
        return is("a directory");
    }
    // Opening one would wait for its other end.
    if kind.is_fifo() {
        return is("a FIFO");
    }
    if kind.is_socket() {
        return is("a socket");
    }
    // Asked for and not tried: whoever closes a block device that was open for writing has
    // udev look at it anew.
    if let Err(error) = access(path, Access::READ_OK) {
        return Some(format!("cannot be read: {error}"));
    }
    match access(path, Access::WRITE_OK) {
        Err(error) if !read_only => Some(format!(
            "cannot be written: {error}; a disk can be `read-only = true`"
        )),
        _ => None,
    }
}

/// Addresses that another VM has. Of a VM that is new, those that derive are to come.
fn macs(claims: &Claims<'_>, config: &VmConfig, old: Option<&Row>) -> Result<Vec<Fault>, Error> {
    let own = old.map_or(&config.name, |old| &old.name);
    let uuid = old.map(|old| &*old.uuid);
    let rivals = claims.rival_macs(own, uuid, config)?;
    Ok(rivals.iter().map(same_address).collect())
}

/// What is told of an address that another VM has.
pub(super) fn same_address(rival: &RivalMac) -> Fault {
    let RivalMac { vm, theirs, .. } = rival;
    let message = match rival.derived {
        None => format!("VM `{vm}` has the same address, for its network `{theirs}`"),
        Some(mac) => format!(
            "VM `{vm}` has the address that derives for this network, {mac}, for its network \
             `{theirs}`: say another, with `mac`"
        ),
    };
    fault(format!("net.{}.mac", rival.net), message)
}

/// Sees to it that nobody else has the addresses of a VM that is new, and comes with its UUID.
pub(super) fn addresses(claims: &Claims<'_>, uuid: &str, config: &VmConfig) -> Result<(), Error> {
    let rivals = claims.rival_macs(&config.name, Some(uuid), config)?;
    match rivals.first().map(same_address) {
        Some(Fault { key, message, .. }) => Err(Error::Host {
            what: key.trim_end_matches(".mac").to_owned(),
            why: message,
        }),
        None => Ok(()),
    }
}

/// Files that a guest would print into, and that are something else.
fn overwritten(
    claims: &Claims<'_>,
    config: &VmConfig,
    old: Option<&Row>,
) -> Result<Vec<Fault>, Error> {
    let own = old.map_or(&config.name, |old| &old.name);
    let found = claims.overwritten(own, config)?.into_iter();
    Ok(found.map(|(key, message)| fault(key, message)).collect())
}

/// Sees to it that no guest prints into a disk that a VM is to have.
pub(super) fn not_printed(
    host: &Host,
    row: &Row,
    config: &VmConfig,
    disk: &DeviceName,
) -> Result<(), Error> {
    let what = format!("disk.{disk}.file");
    let found = overwritten(&Claims::for_vms(host, 1), config, Some(row))?;
    // A port of its own is told with the port.
    let file = config.disks[disk].path(disk, host.paths.vm(&row.name).path());
    let is_it = |fault: &Fault| {
        let its = file.as_ref().map(|file| format!("{} is ", file.display()));
        fault.key == what || its.is_some_and(|its| fault.message.starts_with(&its))
    };
    match found.into_iter().find(is_it) {
        Some(Fault { message: why, .. }) => Err(Error::Host { what, why }),
        None => Ok(()),
    }
}

/// What may be in the way of a VM one day, a sentence each: others, or a newer QEMU.
pub(super) fn warnings(claims: &Claims<'_>, config: &VmConfig) -> Result<Vec<String>, Error> {
    let (_, mut found) = knowledge::check(claims.host, config);
    found.extend(claims.conflicts(config)?);
    found.extend(order::circle(claims.host, config).map(|it| Error::Circle(it).to_string()));
    found.extend(sizes(claims.host, config));
    let disks = defined(claims.host, config);
    found.extend(disks.iter().filter_map(taken_for_raw));
    for it in &disks {
        found.extend(written_below(claims, config, it)?);
    }
    Ok(found)
}

/// Of a disk that is a qcow2 image, and would be written as if it was not.
pub(super) fn taken_for_raw(it: &Defined) -> Option<String> {
    if it.disk.format != Format::Raw || Header::read(&it.path).is_err() {
        return None;
    }
    let (name, path) = (&it.name, it.path.display());
    Some(format!(
        "disk `{name}`: {path} is a qcow2 image, and `format = \"raw\"` has the guest see its \
         inside: what it writes there destroys the image and its snapshots"
    ))
}

/// Of a disk that stands on what another VM would write.
fn written_below(
    claims: &Claims<'_>,
    config: &VmConfig,
    it: &Defined,
) -> Result<Option<String>, Error> {
    for link in it.chain().links.iter().skip(1) {
        let mut users = claims.users(&link.path)?.into_iter();
        let is_writer = |user: &User| !user.as_base && !user.read_only && user.vm != config.name;
        if let Some(User { vm, disk, .. }) = users.find(is_writer) {
            return Ok(Some(format!(
                "disk `{}` stands on {}, which is disk `{disk}` of VM `{vm}`: that one cannot be \
                 started as long as it does",
                it.name,
                link.path.display()
            )));
        }
    }
    Ok(None)
}

/// Disks whose images are there, and have another size than is said.
fn sizes(host: &Host, config: &VmConfig) -> Vec<String> {
    let mut found = Vec::new();
    for it in defined(host, config) {
        let size = it
            .disk
            .size
            .map(|size| size.bytes().next_multiple_of(SECTOR));
        let is = match it.disk.format {
            Format::Qcow2 => Header::read(&it.path).ok().map(|it| it.virtual_size),
            Format::Raw => fs::metadata(&it.path).ok().map(|it| it.len()),
        };
        if let (Some(size), Some(is)) = (size, is.filter(|is| *is > 0))
            && size != is.next_multiple_of(SECTOR)
        {
            let (name, path) = (&it.name, it.path.display());
            found.push(format!(
                "disk `{name}`: {path} is there and has {is} bytes, and not {size}; \
                 `maqet disk resize` changes that"
            ));
        }
    }
    found
}

/// The warnings that were none before. What cannot be told now keeps nothing from being done.
pub(super) fn new_warnings(
    claims: &Claims<'_>,
    config: &VmConfig,
    before: Option<&VmConfig>,
) -> Vec<String> {
    let told = |config| warnings(claims, config).unwrap_or_default();
    let mut found = told(config);
    if let Some(before) = before.map(told) {
        found.retain(|warning| !before.contains(warning));
    }
    found.extend(claims.controllers.idle_in(config, before));
    found
}
