//! What a VM needs of the host beside files: bridges, tap devices, USB and PCI devices.
//!
//! QEMU's own words for what is missing are few. These are found before it starts,
//! with what to do.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, geteuid, getrlimit};

use crate::config::{DeviceName, InterfaceName, Net, NetKind, Pci, Usb, VmConfig};
use crate::holder;
use crate::image::Kind;
use crate::vm::VmName;

use super::{By, Error};

/// Where Linux tells of the devices that it has.
const USB: &str = "/sys/bus/usb/devices";
const PCI: &str = "/sys/bus/pci/devices";

/// What lets the kernel serve a NIC.
const VHOST_NET: &str = "/dev/vhost-net";

/// Where distributions have qemu-bridge-helper, and its list of bridges.
const HELPERS: [&str; 3] = [
    "/usr/lib/qemu/qemu-bridge-helper",
    "/usr/libexec/qemu-bridge-helper",
    "/usr/local/libexec/qemu-bridge-helper",
];
const ALLOWED: &str = "/etc/qemu/bridge.conf";

/// Finds what a definition names and this host lacks, or this user may not use.
pub(in crate::ops) fn check(config: &VmConfig) -> Result<(), Error> {
    let mut nets = config.nets.iter();
    nets.try_for_each(|(name, net)| check_net(name, net))?;
    let mut usbs = config.usbs.iter();
    usbs.try_for_each(|(name, usb)| check_usb(name, usb))?;
    let mut pcis = config.pcis.iter();
    pcis.try_for_each(|(name, pci)| check_pci(&config.name, name, pci))?;
    match files(config).next() {
        Some((what, why)) => Err(Error::Host { what, why }),
        None => Ok(()),
    }
}

/// Files that QEMU would overwrite or delete: the key that names each, and what it is.
pub(in crate::ops) fn files(config: &VmConfig) -> impl Iterator<Item = (String, String)> {
    let ports = config.ports.iter().filter_map(|(name, port)| {
        let path = port.file.as_ref()?;
        let why = unprintable(path)?;
        Some((
            format!("port.{name}.file"),
            format!("{} {why}", path.display()),
        ))
    });
    let nets = config.nets.iter().flat_map(|(name, net)| {
        deleted(net).map(move |(key, why)| (format!("net.{name}.{key}"), why))
    });
    ports.chain(nets)
}

/// Files in the places of a network's sockets, which QEMU deletes for them
/// (unix_listen_saddr, net_dgram_unix_init).
fn deleted(net: &Net) -> impl Iterator<Item = (&'static str, String)> {
    let sockets = [("listen", &net.listen), ("local", &net.local)];
    sockets.into_iter().filter_map(|(key, path)| {
        let path = path.as_ref()?;
        let kind = fs::symlink_metadata(path).ok()?.file_type();
        let path = path.display();
        let why = format!("{path} is there and no socket: QEMU would delete it");
        (!kind.is_socket()).then_some((key, why))
    })
}

/// Why nothing is to be printed into what is at `path`.
fn unprintable(path: &Path) -> Option<String> {
    let kind = fs::metadata(path).ok()?.file_type();
    if kind.is_dir() {
        return Some("is a directory, and no file".to_owned());
    }
    if kind.is_socket() {
        return Some("is a socket, and no file".to_owned());
    }
    // Opening one would wait for its other end.
    if kind.is_fifo() {
        return Some("is a FIFO, and no file".to_owned());
    }
    if kind.is_block_device() {
        return Some("is a block device: nothing is to be printed into it".to_owned());
    }
    if !kind.is_file() {
        return None;
    }
    match Kind::of(path) {
        Ok(Kind::Image(format)) => Some(format!(
            "is an image of format {format}: nothing is to be printed into it"
        )),
        _ => None,
    }
}

/// What a network needs of the host.
pub(in crate::ops) fn check_net(name: &DeviceName, net: &Net) -> Result<(), Error> {
    let checked = match (net.kind, &net.ifname) {
        (NetKind::Bridge, _) => {
            check_bridge(net.bridge.as_ref().map_or("br0", InterfaceName::as_str))
        }
        (NetKind::Tap, Some(ifname)) => check_tap(ifname),
        _ => deleted(net).next().map_or(Ok(()), |(_, why)| Err(why)),
    };
    checked.map_err(|why| lacks("net", name, why))
}

/// Whether a USB device is there, and this user's.
pub(in crate::ops) fn check_usb(name: &DeviceName, usb: &Usb) -> Result<(), Error> {
    find_usb(usb).map_err(|why| lacks("usb", name, why))
}

/// Whether a PCI device is there, this user's, and free, or a VM's that runs.
pub(in crate::ops) fn check_pci(vm: &VmName, name: &DeviceName, pci: &Pci) -> Result<(), Error> {
    find_pci(vm, pci).map_err(|why| lacks("pci", name, why))
}

fn lacks(kind: &str, name: &DeviceName, why: String) -> Error {
    let what = format!("{kind}.{name}");
    Error::Host { what, why }
}

/// Whether the kernel can serve the NIC behind a tap device, and this user may have it do so.
pub(in crate::ops) fn has_vhost_net() -> bool {
    is_open(Path::new(VHOST_NET)).is_ok()
}

fn is_open(node: &Path) -> Result<(), String> {
    open(node).map_err(|error| format!("{}: {error}", node.display()))
}

fn open(node: &Path) -> io::Result<()> {
    let opened = OpenOptions::new().read(true).write(true).open(node);
    opened.map(drop)
}

fn check_bridge(bridge: &str) -> Result<(), String> {
    if !Path::new("/sys/class/net")
        .join(bridge)
        .join("bridge")
        .exists()
    {
        return Err(format!(
            "this host has no bridge `{bridge}`: make it with `ip link add {bridge} type bridge`"
        ));
    }
    let helpers = HELPERS.iter().map(Path::new);
    let Some((helper, metadata)) = helpers
        .filter_map(|helper| Some((helper, fs::metadata(helper).ok()?)))
        .next()
    else {
        return Err("there is no qemu-bridge-helper: install it".to_owned());
    };
    let is_root = geteuid().is_root();
    if !is_root && metadata.permissions().mode() & 0o4000 == 0 {
        let helper = helper.display();
        return Err(format!(
            "{helper} is not set-user-ID, so that you cannot use it: `chmod u+s {helper}` as root"
        ));
    }
    match fs::read_to_string(ALLOWED) {
        // It may be for the helper's eyes only.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Ok(rules) if allows(&rules, bridge) => Ok(()),
        Ok(_) | Err(_) => Err(format!(
            "{ALLOWED} does not allow `{bridge}`: add the line `allow {bridge}`"
        )),
    }
}

/// Whether the rules of qemu-bridge-helper allow a bridge; what they include is not looked at.
fn allows(rules: &str, bridge: &str) -> bool {
    let lines = rules.lines().map(|line| line.split_whitespace());
    let rules: Vec<(&str, &str)> = lines
        .filter_map(|mut words| Some((words.next()?, words.next()?)))
        .filter(|(verb, _)| !verb.starts_with('#'))
        .collect();
    let says = |verb: &str| {
        let mut its = rules.iter().filter(|(said, _)| *said == verb);
        its.any(|(_, name)| [bridge, "all"].contains(name))
    };
    !says("deny") && (says("allow") || rules.iter().any(|(verb, _)| *verb == "include"))
}

fn check_tap(ifname: &InterfaceName) -> Result<(), String> {
    if geteuid().is_root() {
        // QEMU makes it.
        return Ok(());
    }
    let sysfs = ifname.sysfs();
    let user = users_name();
    if !sysfs.exists() {
        return Err(format!(
            "this host has no tap device `{ifname}`: make it with \
             `ip tuntap add {ifname} mode tap user {user}` as root"
        ));
    }
    let number = |file: &str| {
        let text = fs::read_to_string(sysfs.join(file)).ok()?;
        let text = text.trim();
        let hex = text.strip_prefix("0x");
        hex.map_or_else(
            || text.parse().ok(),
            |hex| i64::from_str_radix(hex, 16).ok(),
        )
    };
    // IFF_TAP, linux/if_tun.h
    if number("tun_flags").is_none_or(|flags| flags & 2 == 0) {
        return Err(format!("`{ifname}` is not a tap device"));
    }
    let owner = number("owner").unwrap_or(-1);
    if owner >= 0 && owner != i64::from(geteuid().as_raw()) {
        return Err(format!(
            "the tap device `{ifname}` is another user's: \
             `ip tuntap add {ifname} mode tap user {user}` as root makes one of yours"
        ));
    }
    is_open(Path::new("/dev/net/tun"))
}

fn users_name() -> String {
    std::env::var("USER").unwrap_or_else(|_| geteuid().as_raw().to_string())
}

fn find_usb(usb: &Usb) -> Result<(), String> {
    let all = fs::read_dir(USB).into_iter().flatten().flatten();
    let all = all.map(|entry| entry.path());
    let read = |device: &Path, file: &str| {
        let text = fs::read_to_string(device.join(file)).unwrap_or_default();
        text.trim().to_owned()
    };
    let is_it = |device: &PathBuf| match (usb.vendor, usb.product, usb.bus, &usb.port) {
        (Some(vendor), Some(product), ..) => {
            read(device, "idVendor") == vendor.to_string()
                && read(device, "idProduct") == product.to_string()
        }
        (_, _, Some(bus), Some(port)) => {
            let name = format!("{bus}-{}", port.as_str());
            device.file_name().is_some_and(|file| *file == *name)
        }
        _ => false,
    };
    let Some(device) = all.into_iter().find(is_it) else {
        return Err(match (usb.vendor, usb.product, usb.bus, &usb.port) {
            (_, _, Some(bus), Some(port)) => {
                let port = port.as_str();
                format!("nothing is plugged into port {port} of USB bus {bus}: see `lsusb -t`")
            }
            (Some(vendor), Some(product), ..) => {
                format!("no USB device {vendor}:{product} is plugged in: see `lsusb`")
            }
            _ => "it names no device".to_owned(),
        });
    };
    let number = |file| read(&device, file).parse().unwrap_or(0);
    let (bus, number): (u16, u16) = (number("busnum"), number("devnum"));
    let node = format!("/dev/bus/usb/{bus:03}/{number:03}");
    is_open(Path::new(&node)).map_err(|error| {
        format!(
            "{error}: give yourself the device, for now with `setfacl -m u:{}:rw {node}` as root",
            users_name()
        )
    })
}

fn find_pci(vm: &VmName, pci: &Pci) -> Result<(), String> {
    let address = pci.address.as_str();
    let device = Path::new(PCI).join(address);
    if !device.exists() {
        return Err(format!(
            "this host has no PCI device {address}: see `lspci -D`"
        ));
    }
    let link = |name: &str| {
        let target = fs::read_link(device.join(name)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    };
    let Some(group) = link("iommu_group") else {
        return Err(format!(
            "{address} is in no IOMMU group: boot the host with `intel_iommu=on` or `amd_iommu=on`"
        ));
    };
    match link("driver") {
        Some(driver) if driver == "vfio-pci" => {}
        driver => {
            let driver = driver.map_or("no driver".to_owned(), |it| format!("the driver `{it}`"));
            return Err(format!(
                "{address} has {driver}, not vfio-pci: \
                 `driverctl set-override {address} vfio-pci` as root gives it that"
            ));
        }
    }
    let node = format!("/dev/vfio/{group}");
    let Err(error) = open(Path::new(&node)) else {
        return Ok(());
    };
    // A group is opened by one at a time.
    if error.kind() == io::ErrorKind::ResourceBusy {
        return match holder::of_file(Path::new(&node)).map_or(By::Unknown, By::from) {
            By::Vm(other) if other == *vm => Ok(()),
            by => Err(format!("{address} is taken, {by}")),
        };
    }
    let user = users_name();
    Err(format!(
        "{node}: {error}: give yourself the group, for now with `chown {user} {node}` as root"
    ))
}

/// Whether as much memory as a PCI device of the host needs can be locked by this process.
pub(in crate::ops) fn check_locked(config: &VmConfig) -> Result<(), Error> {
    let Some(name) = config.pcis.keys().next() else {
        return Ok(());
    };
    let needed = config.memory.size.bytes();
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < needed && !geteuid().is_root() => {
            let (vm, mib, uid) = (&config.name, limit >> 20, geteuid().as_raw());
            let why = format!(
                "all of the guest's memory, {} MiB, has to stay in the host's, and the VM may \
                 lock {mib} MiB: `maqet set {vm} unit.LimitMEMLOCK=infinity`, and for that, as \
                 root, `LimitMEMLOCK=infinity` in `[Service]` by `systemctl edit user@{uid}`, \
                 which counts once your user manager starts anew",
                needed >> 20
            );
            Err(lacks("pci", name, why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_the_bridge_helper_are_read() {
        for (rules, allowed) in [
            ("allow br0", true),
            ("# allow br0\n", false),
            ("allow all\n", true),
            ("allow all\ndeny br0\n", false),
            ("  allow   br1\nallow br0 # mine\n", true),
            ("allow br1", false),
            ("include /etc/qemu/me.conf", true),
            ("", false),
        ] {
            assert_eq!(allows(rules, "br0"), allowed, "{rules:?}");
        }
    }
}
