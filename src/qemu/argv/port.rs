//! Ports of the guest that bytes go through: serial ones, and those of virtio-serial.

use super::{Argv, Host};
use crate::config::{Board, VmConfig};
use crate::qemu::AGENT_CHARDEV;
use crate::qemu::optarg::OptArg;
use crate::qemu::part::virtio;

/// The serial console, logged whether or not someone looks.
pub(super) fn serial(argv: &mut Argv, config: &VmConfig, host: &Host) {
    if config.serial && config.board() != Board::None {
        argv.socket("serial", &host.sockets.serial, Some(&host.console_log));
        argv.verbatim("-serial", "chardev:serial");
    }
}

/// The channel of the guest agent.
pub(super) fn agent(argv: &mut Argv, config: &VmConfig, host: &Host) {
    let Some(driver) = virtio(config.board(), "virtio-serial") else {
        return;
    };
    if !config.agent {
        return;
    }
    argv.opt(
        "-device",
        OptArg::new("driver", driver).with("id", "virtio-serial"),
    );
    argv.socket(AGENT_CHARDEV, &host.sockets.agent, None);
    argv.opt(
        "-device",
        OptArg::new("driver", "virtserialport")
            .with("id", "agent")
            .with("bus", "virtio-serial.0")
            .with("chardev", AGENT_CHARDEV)
            .with("name", "org.qemu.guest_agent.0"),
    );
}
