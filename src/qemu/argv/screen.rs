//! What the guest shows, and where.

use std::ffi::OsString;

use super::{Argv, Host};
use crate::config::{Display, Vga, VmConfig};
use crate::qemu::optarg::OptArg;

/// Video device, and where its picture goes.
pub(super) fn display(argv: &mut Argv, config: &VmConfig, host: &Host) {
    let pc = config.board().is_pc();
    let driver = match config.vga {
        Vga::None => None,
        Vga::Std => Some("VGA"),
        Vga::Virtio if pc => Some("virtio-vga"),
        Vga::Virtio => Some("virtio-gpu-pci"),
        Vga::Qxl => Some("qxl-vga"),
    };
    if let Some(driver) = driver {
        argv.opt("-device", OptArg::new("driver", driver).with("id", "video"));
    }
    let kind = match config.display {
        Display::None | Display::Vnc => "none",
        Display::Gtk => "gtk",
        Display::Sdl => "sdl",
    };
    argv.opt("-display", OptArg::new("type", kind));
    if config.display == Display::Vnc {
        let mut address = OsString::from("unix:");
        address.push(&host.sockets.vnc);
        argv.opt("-vnc", OptArg::new("vnc", address));
    }
}
