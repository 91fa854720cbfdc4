//! What the guest shows, and where; its sound, and what it is pointed at with.

use std::ffi::OsString;

use super::{Argv, Host};
use crate::config::{Board, DisplayKind, Input, Listen, SoundDevice, VNC_PORT, Vga, VmConfig};
use crate::qemu::optarg::OptArg;
use crate::qemu::part::{USB, virtio};

/// QEMU's name of the video device, if there is one.
pub fn video_driver(config: &VmConfig) -> Option<String> {
    match config.vga {
        Vga::None => None,
        Vga::Std => Some("VGA".to_owned()),
        Vga::Virtio if config.board().is_pc() => Some("virtio-vga".to_owned()),
        Vga::Virtio | Vga::VirtioGpu => virtio(config.board(), "virtio-gpu"),
        Vga::Qxl => Some("qxl-vga".to_owned()),
        Vga::Bochs => Some("bochs-display".to_owned()),
        Vga::Cirrus => Some("cirrus-vga".to_owned()),
    }
}

/// QEMU's name of a sound device.
pub fn sound_driver(device: SoundDevice, board: Board) -> &'static str {
    match device {
        SoundDevice::Virtio => "virtio-sound-pci",
        SoundDevice::Hda if board == Board::Q35 => "ich9-intel-hda",
        SoundDevice::Hda => "intel-hda",
    }
}

/// Video device, and where its picture goes.
pub(super) fn display(argv: &mut Argv, config: &VmConfig, host: &Host) {
    if let Some(driver) = video_driver(config) {
        argv.opt("-device", OptArg::new("driver", driver).with("id", "video"));
    }
    let kind = match config.display.kind {
        DisplayKind::None | DisplayKind::Vnc | DisplayKind::Spice => "none",
        DisplayKind::Gtk => "gtk",
        DisplayKind::Sdl => "sdl",
    };
    argv.opt("-display", OptArg::new("type", kind));
    match config.display.kind {
        DisplayKind::Vnc => vnc(argv, config.display.listen, host),
        DisplayKind::Spice => spice(argv, config.display.listen, host),
        _ => {}
    }
}

fn vnc(argv: &mut Argv, listen: Listen, host: &Host) {
    let address: OsString = match listen {
        Listen::Unix => {
            let mut address = OsString::from("unix:");
            address.push(&host.sockets.vnc);
            address
        }
        Listen::Tcp(address) => {
            let display = address.port().saturating_sub(VNC_PORT);
            match address.ip().is_ipv6() {
                true => format!("[{}]:{display}", address.ip()).into(),
                false => format!("{}:{display}", address.ip()).into(),
            }
        }
    };
    argv.opt("-vnc", OptArg::new("vnc", address));
}

fn spice(argv: &mut Argv, listen: Listen, host: &Host) {
    let arg = match listen {
        Listen::Unix => OptArg::new("unix", "on").with("addr", &host.sockets.spice),
        Listen::Tcp(address) => {
            OptArg::new("addr", address.ip().to_string()).with("port", address.port().to_string())
        }
    };
    // Who reaches it is a matter of the directory's mode, or of the loopback.
    argv.opt("-spice", arg.with("disable-ticketing", "on"));
}

/// Pointers and keyboards.
pub(super) fn input(argv: &mut Argv, config: &VmConfig) {
    for input in &config.input {
        let of_virtio = |device| virtio(config.board(), device).unwrap_or_default();
        let driver = match input {
            Input::Tablet => "usb-tablet".to_owned(),
            Input::Keyboard => "usb-kbd".to_owned(),
            Input::Mouse => "usb-mouse".to_owned(),
            Input::VirtioTablet => of_virtio("virtio-tablet"),
            Input::VirtioKeyboard => of_virtio("virtio-keyboard"),
            Input::VirtioMouse => of_virtio("virtio-mouse"),
        };
        let arg = OptArg::new("driver", driver)
            .with("id", format!("input-{}", input.as_str()))
            .with_if(input.is_usb(), "bus", format!("{USB}.0"));
        argv.opt("-device", arg);
    }
}

/// The sound device, and where it is heard.
pub(super) fn sound(argv: &mut Argv, config: &VmConfig) {
    let Some(audio) = &config.audio else { return };
    let backend = OptArg::new("driver", audio.backend.as_str()).with("id", "audio");
    argv.opt("-audiodev", backend);
    let id = "sound";
    let driver = sound_driver(audio.device, config.board());
    let device = OptArg::new("driver", driver).with("id", id);
    let codec = match audio.device {
        SoundDevice::Virtio => device,
        SoundDevice::Hda => {
            argv.opt("-device", device);
            OptArg::new("driver", "hda-duplex")
                .with("id", "sound-codec")
                .with("bus", format!("{id}.0"))
        }
    };
    argv.opt("-device", codec.with("audiodev", "audio"));
}
