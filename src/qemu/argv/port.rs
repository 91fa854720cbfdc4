//! Ports of the guest that bytes go through: serial ones, and those of virtio-serial.

use super::{Argv, Host, logged};
use crate::config::{Board, DeviceName, DisplayKind, Port, PortKind, VmConfig};
use crate::qemu::AGENT_CHARDEV;
use crate::qemu::optarg::OptArg;
use crate::qemu::part::virtio;

/// The id of the controller of all virtio ports.
const VIRTIO_SERIAL: &str = "virtio-serial";

/// The serial console, logged whether or not someone looks.
pub(super) fn serial(argv: &mut Argv, config: &VmConfig, host: &Host) {
    if config.serial && config.board() != Board::None {
        argv.socket("serial", &host.sockets.serial, Some(&host.console_log));
        argv.verbatim("-serial", "chardev:serial");
    }
}

/// The controller of virtio ports, if there are any.
pub(super) fn virtio_serial(argv: &mut Argv, config: &VmConfig) {
    let mut ports = config.ports.values();
    let is_needed = config.agent
        || config.display.kind == DisplayKind::Spice
        || ports.any(|port| port.kind != PortKind::Serial);
    if let Some(driver) = virtio(config.board(), "virtio-serial")
        && is_needed
    {
        argv.opt(
            "-device",
            OptArg::new("driver", driver).with("id", VIRTIO_SERIAL),
        );
    }
}

fn on_virtio_serial(driver: &str, id: &str, chardev: &str) -> OptArg {
    OptArg::new("driver", driver)
        .with("id", id)
        .with("bus", format!("{VIRTIO_SERIAL}.0"))
        .with("chardev", chardev)
}

/// The channel of the guest agent.
pub(super) fn agent(argv: &mut Argv, config: &VmConfig, host: &Host) {
    if config.agent && config.board() != Board::None {
        argv.socket(AGENT_CHARDEV, &host.sockets.agent, None);
        let port = on_virtio_serial("virtserialport", "agent", AGENT_CHARDEV);
        argv.opt("-device", port.with("name", "org.qemu.guest_agent.0"));
    }
}

/// The channel of the agent that shares a clipboard with a SPICE client.
pub(super) fn spice_agent(argv: &mut Argv, config: &VmConfig) {
    if config.display.kind == DisplayKind::Spice {
        let id = "spice-agent";
        let chardev = OptArg::new("backend", "spicevmc").with("id", id);
        argv.opt("-chardev", chardev.with("name", "vdagent"));
        let port = on_virtio_serial("virtserialport", id, id);
        argv.opt("-device", port.with("name", "com.redhat.spice.0"));
    }
}

/// The id in QEMU of a port, and of its other end.
pub fn port_id(name: &DeviceName) -> String {
    format!("port-{name}")
}

/// Further ports.
pub(super) fn ports(argv: &mut Argv, config: &VmConfig, host: &Host) {
    for (name, port) in &config.ports {
        let id = port_id(name);
        chardev(argv, &id, name, port, host);
        let serial = match config.board() {
            Board::Q35 | Board::Pc | Board::Microvm => "isa-serial",
            Board::Pci | Board::None => "pci-serial",
        };
        let device = match port.kind {
            PortKind::Serial => OptArg::new("driver", serial)
                .with("id", &id)
                .with("chardev", &id),
            PortKind::Virtio => on_virtio_serial("virtconsole", &id, &id),
            PortKind::VirtioPort => {
                on_virtio_serial("virtserialport", &id, &id).with("name", port.channel(name))
            }
        };
        argv.opt("-device", device);
    }
}

/// The end of a port on the host.
fn chardev(argv: &mut Argv, id: &str, name: &DeviceName, port: &Port, host: &Host) {
    let backend = |kind| OptArg::new("backend", kind).with("id", id);
    let log = host.port_logs.iter().find(|(it, _)| it == name);
    let log = log.map(|(_, log)| log.as_path());
    if let Some(file) = &port.file {
        argv.opt(
            "-chardev",
            backend("file").with("path", file).with("append", "on"),
        );
    } else if let Some(address) = port.tcp {
        let arg = backend("socket")
            .with("host", address.ip().to_string())
            .with("port", address.port().to_string());
        let arg = arg.with("server", "on").with("wait", "off");
        argv.opt("-chardev", logged(arg, log));
    } else if port.pty {
        argv.opt("-chardev", logged(backend("pty"), log));
    } else if let Some((_, listen)) = host.sockets.ports.iter().find(|(it, _)| it == name) {
        argv.socket(id, listen, log);
    }
}
