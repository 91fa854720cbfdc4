//! The command line that a definition becomes.
//!
//! [`argv`] is pure: a definition, and what only the host knows, in; arguments
//! out. What disks, networks and further devices become, their own modules say.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::optarg::OptArg;
use super::part::{self, Part, virtio};
use super::{disk, net, passthrough, vhost};
use crate::address::Addresses;
use crate::config::{Board, DeviceName, Interface, VmConfig};

mod board;
mod port;
mod screen;
mod small;

pub use port::port_id;
pub use screen::{sound_driver, video_driver};

/// What the definition does not say.
#[derive(Clone, Debug)]
pub struct Host {
    /// The QEMU to run.
    pub binary: PathBuf,
    /// The accelerator that was chosen.
    pub accel: Accel,
    /// The VM's UUID.
    pub uuid: String,
    /// Whether the kernel can serve the NICs behind tap devices.
    pub vhost_net: bool,
    /// The VM's directory, where disks without a `file` lie.
    pub vm_dir: PathBuf,
    /// Where its sockets are.
    pub sockets: Sockets,
    /// The file that the serial console is logged to.
    pub console_log: PathBuf,
    /// The files that further ports are logged to, by their names.
    pub port_logs: Vec<(DeviceName, PathBuf)>,
    /// Whether the VM is to wait for a saved state instead of booting.
    pub incoming: bool,
    /// Where the devices were whose state it goes on from.
    pub addresses: Addresses,
}

/// An accelerator of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The kernel's.
    Kvm,
    /// Emulation.
    Tcg,
}

/// A unix socket that QEMU serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An inherited descriptor that is listening already.
    Fd(i32),
    /// A path to listen on.
    Path(PathBuf),
}

/// The sockets of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// The monitor of the unit's own helpers.
    pub ctl: Listen,
    /// The monitor of maqet's commands.
    pub qmp: Listen,
    /// The monitor of the user's tools.
    pub user: Listen,
    /// The serial console.
    pub serial: Listen,
    /// The guest agent.
    pub agent: Listen,
    /// The further ports that have sockets, by their names.
    pub ports: Vec<(DeviceName, Listen)>,
    /// The VNC server; QEMU takes no descriptor for it.
    pub vnc: PathBuf,
    /// The SPICE server; nor for this one.
    pub spice: PathBuf,
    /// The file that gets a copy of the event log.
    pub events_log: PathBuf,
    /// The CID that was taken for it, and the descriptor that holds it.
    pub vsock: Option<(u32, i32)>,
}

impl Sockets {
    /// All of them by path, in the runtime directory of a VM.
    pub fn in_dir(dir: &Path, config: &VmConfig) -> Self {
        let path = |name: &str| Listen::Path(dir.join(name));
        let ports = config.ports.iter().filter(|(_, port)| port.has_socket());
        Self {
            ctl: path("ctl.sock"),
            qmp: path("qmp.sock"),
            user: path("user.sock"),
            serial: path("serial.sock"),
            agent: path("agent.sock"),
            ports: ports
                .map(|(name, _)| (name.clone(), path(&format!("{name}.sock"))))
                .collect(),
            vnc: dir.join("vnc.sock"),
            spice: dir.join("spice.sock"),
            events_log: dir.join("events.log"),
            vsock: None,
        }
    }
}

/// The whole command line, the program first.
pub fn argv(config: &VmConfig, host: &Host) -> Vec<OsString> {
    let mut argv = Argv {
        words: vec![host.binary.clone().into()],
        addresses: &host.addresses,
    };
    identity(&mut argv, config, host);
    board::machine(&mut argv, config, host);
    board::boot(&mut argv, config);
    board::smbios(&mut argv, config, host);
    board::clock(&mut argv, config);
    monitors(&mut argv, &host.sockets);
    // Before all other devices: whatever else is added to a definition, a NIC keeps
    // its slot, and with it its name in the guest.
    nets(&mut argv, config, host);
    small::panic(&mut argv, config);
    screen::display(&mut argv, config, host);
    port::serial(&mut argv, config, host);
    port::virtio_serial(&mut argv, config);
    port::agent(&mut argv, config, host);
    port::ports(&mut argv, config, host);
    port::spice_agent(&mut argv, config);
    small::rng(&mut argv, config);
    vsock(&mut argv, config, host);
    hotplug_ports(&mut argv, config);
    disks(&mut argv, config, host);
    if host.incoming {
        // Paused when it is loaded: the state must be gone before the guest goes on.
        argv.verbatim("-incoming", "defer");
        argv.flag("-S");
    }
    devices(&mut argv, config);
    // Last: the slots of other devices are the same with and without it.
    small::balloon(&mut argv, config);
    small::watchdog(&mut argv, config);
    screen::input(&mut argv, config);
    screen::sound(&mut argv, config);
    argv.words
        .extend(config.qemu.args.iter().map(OsString::from));
    argv.words
}

/// A command line in the making; keeps an option and its value together.
struct Argv<'a> {
    words: Vec<OsString>,
    addresses: &'a Addresses,
}

impl Argv<'_> {
    fn flag(&mut self, option: &str) {
        self.words.push(option.into());
    }

    fn opt(&mut self, option: &str, value: OptArg) {
        let value = match option {
            "-device" => placed(value, self.addresses),
            _ => value,
        };
        self.words.extend([option.into(), value.into()]);
    }

    fn parts(&mut self, parts: impl IntoIterator<Item = Part>) {
        for part in parts {
            let (option, value) = part.option();
            self.opt(option, value);
        }
    }

    /// For the few options whose value QEMU takes as it is, commas included.
    fn verbatim(&mut self, option: &str, value: impl AsRef<OsStr>) {
        self.words
            .extend([option.into(), value.as_ref().to_owned()]);
    }

    fn socket(&mut self, id: &str, listen: &Listen, log: Option<&Path>) {
        let arg = OptArg::new("backend", "socket").with("id", id);
        let arg = match listen {
            Listen::Fd(fd) => arg.with("fd", fd.to_string()),
            Listen::Path(path) => arg.with("path", path),
        };
        let arg = arg.with("server", "on").with("wait", "off");
        self.opt("-chardev", logged(arg, log));
    }

    fn monitor(&mut self, chardev: &str) {
        self.opt(
            "-mon",
            OptArg::new("chardev", chardev).with("mode", "control"),
        );
    }
}

/// A device where it was, unless it says where it is.
fn placed(device: OptArg, addresses: &Addresses) -> OptArg {
    let id = device.get("id").and_then(OsStr::to_str);
    let address = id.and_then(|id| addresses.of(id)).into_iter().flatten();
    address.fold(device, |device, (key, value)| match device.get(key) {
        None => device.with(key, value),
        Some(_) => device,
    })
}

/// A chardev with a file that what goes to it is appended to, whether or not somebody reads.
fn logged(chardev: OptArg, log: Option<&Path>) -> OptArg {
    match log {
        Some(log) => chardev.with("logfile", log).with("logappend", "on"),
        None => chardev,
    }
}

/// Whose process it is, and nothing that the definition does not say.
fn identity(argv: &mut Argv, config: &VmConfig, host: &Host) {
    argv.flag("-no-user-config");
    argv.flag("-nodefaults");
    argv.opt(
        "-name",
        OptArg::new("guest", config.name.as_str()).with("debug-threads", "on"),
    );
    argv.verbatim("-uuid", &host.uuid);
}

/// Three monitors, as one serves one client; and on stdio the log of all events.
fn monitors(argv: &mut Argv, sockets: &Sockets) {
    for (id, listen) in [
        ("ctl", &sockets.ctl),
        ("qmp", &sockets.qmp),
        ("user", &sockets.user),
    ] {
        argv.socket(id, listen, None);
        argv.monitor(id);
    }
    argv.opt(
        "-chardev",
        OptArg::new("backend", "stdio")
            .with("id", "events")
            .with("signal", "off")
            .with("logfile", &sockets.events_log)
            .with("logappend", "on"),
    );
    argv.monitor("events");
}

/// The guest's address for sockets between it and the host, if it has any.
fn cid(config: &VmConfig, host: &Host) -> Option<u32> {
    let vsock = config.vsock.as_ref()?;
    let taken = host.sockets.vsock.map(|(cid, _)| cid);
    Some(taken.unwrap_or_else(|| vhost::usual_cid(vsock, &host.uuid)))
}

/// Where a guest's systemd can tell that it is up.
fn notify_address(cid: u32) -> String {
    // 2 is the host. As a stream: sequenced packets need a newer kernel on both sides.
    format!("vsock-stream:2:{}", vhost::notify_port(cid))
}

/// Sockets between host and guest; where no SMBIOS tells the guest's systemd what to do
/// with them, the firmware's files do.
fn vsock(argv: &mut Argv, config: &VmConfig, host: &Host) {
    let (Some(cid), Some(driver)) = (cid(config, host), virtio(config.board(), "vhost-vsock"))
    else {
        return;
    };
    let mut device = OptArg::new("driver", driver).with("id", "vsock");
    if let Some((_, fd)) = host.sockets.vsock {
        device = device.with("vhostfd", fd.to_string());
    }
    argv.opt("-device", device.with("guest-cid", cid.to_string()));
    if !config.board().is_pc() {
        let name = "opt/io.systemd.credentials/vmm.notify_socket";
        let file = OptArg::new("name", name).with("string", notify_address(cid));
        argv.opt("-fw_cfg", file);
    }
}

/// Free ports: on q35, devices cannot be added to the root bus of a running VM.
fn hotplug_ports(argv: &mut Argv, config: &VmConfig) {
    if config.board() != Board::Q35 {
        return;
    }
    for port in 0..4 {
        // One slot for all, at the end of the bus: slots of other devices stay
        // what they are, and with them the names of NICs in the guest.
        let arg = OptArg::new("driver", "pcie-root-port")
            .with("id", format!("hotplug{port}"))
            .with("bus", "pcie.0")
            .with("addr", format!("0x1e.{port}"))
            .with("chassis", (port + 1).to_string())
            .with_if(port == 0, "multifunction", "on");
        argv.opt("-device", arg);
    }
}

/// NICs, each on its own network.
fn nets(argv: &mut Argv, config: &VmConfig, host: &Host) {
    for (name, net) in &config.nets {
        let [netdev, nic] = net::parts(name, net, &host.uuid, host.vhost_net);
        argv.parts([netdev, nic.booted(config.boot.index_of_net(name))]);
    }
}

/// Disks, with the controllers that they need, and the one that other devices need.
fn disks(argv: &mut Argv, config: &VmConfig, host: &Host) {
    let board = config.board();
    let has = |wanted: &[Interface]| {
        config
            .disks
            .values()
            .any(|disk| wanted.contains(&disk.interface))
    };
    // Controllers stay when the last device on them is removed from a running VM.
    if has(&[Interface::Scsi]) || host.addresses.has(part::SCSI) {
        argv.parts(part::scsi_controller(board));
    }
    if has(&[Interface::Sata, Interface::Cdrom]) && board != Board::Q35 {
        argv.opt("-device", OptArg::new("driver", "ahci").with("id", "sata"));
    }
    if part::needs_usb_controller(config) || host.addresses.has(part::USB) {
        argv.parts([part::usb_controller()]);
    }
    let mut sata_ports = 0..;
    let mut threads = HashSet::new();
    for (name, disk) in &config.disks {
        // q35 has its SATA controller built in; its ports are called `ide`.
        let controller = if board == Board::Q35 { "ide" } else { "sata" };
        let sata = matches!(disk.interface, Interface::Sata | Interface::Cdrom)
            .then(|| sata_ports.next())
            .flatten()
            .map(|port| format!("{controller}.{port}"));
        let parts = disk::parts(name, disk, board, &host.vm_dir, sata);
        let is_new = |thread: &Part| threads.insert(thread.id().to_owned());
        argv.parts(parts.iothread.filter(is_new));
        argv.parts(parts.limits);
        argv.parts(parts.nodes);
        argv.parts([parts.device.booted(config.boot.index_of_disk(name))]);
    }
}

/// Further devices, and those of the host.
fn devices(argv: &mut Argv, config: &VmConfig) {
    for (name, device) in &config.devices {
        argv.parts([part::device(name, device)]);
    }
    for (name, usb) in &config.usbs {
        argv.parts([passthrough::usb(name, usb)]);
    }
    for (name, pci) in &config.pcis {
        argv.parts([passthrough::pci(name, pci)]);
    }
}

/// The command line as text for sh(1), one option a line.
pub fn paste(argv: &[OsString]) -> OsString {
    let mut text = Vec::new();
    for (i, arg) in argv.iter().enumerate() {
        if i > 0 {
            let separator: &[u8] = if arg.as_bytes().starts_with(b"-") {
                b" \\\n  "
            } else {
                b" "
            };
            text.extend_from_slice(separator);
        }
        quote(arg.as_bytes(), &mut text);
    }
    OsString::from_vec(text)
}

/// Quotes a word for sh(1) unless it is plain.
fn quote(word: &[u8], text: &mut Vec<u8>) {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./:,=+@%".contains(b);
    if !word.is_empty() && word.iter().all(plain) {
        return text.extend_from_slice(word);
    }
    text.push(b'\'');
    for &byte in word {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            _ => text.push(byte),
        }
    }
    text.push(b'\'');
}

#[cfg(test)]
mod tests;
