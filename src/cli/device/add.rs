use std::process::ExitCode;

use anyhow::Context;

use crate::ops::Host;
use crate::ops::device::add::{Options, add};
use crate::vm::VmName;

use super::super::output::Output;

/// Plug a device into a running VM
///
/// WHAT is disk.NAME, net.NAME, usb.NAME, pci.NAME or device.NAME, with the keys of
/// the tables of that name in a definition, maqet.toml(5): disk.data file=data.qcow2
/// read-only=on, net.lan forward=2222:22, usb.key vendor=046d product=c31c,
/// device.tab driver=usb-tablet. Without
/// keys, it is plugged as the definition has it. Or WHAT is any driver of QEMU,
/// with its properties: virtio-balloon-pci deflate-on-oom=on; it is called
/// virtio-balloon0, virtio-balloon1 and so on unless there is an id=. On a q35
/// machine a PCI device goes to a free port, one of hotplug0 to hotplug3 and those
/// that the definition adds, unless there is a bus=. A USB device or a SCSI disk
/// brings the controller that the VM lacks.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// disk.NAME, net.NAME, usb.NAME, pci.NAME, device.NAME or a driver
    what: String,
    /// Keys of the table or properties of the driver
    #[arg(value_name = "KEY=VALUE")]
    words: Vec<String>,
    /// Write it into the definition, too, for the next start
    #[arg(long)]
    persist: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        dir: std::env::current_dir().context("cannot tell the current directory")?,
        persist: args.persist,
    };
    let added = add(host, &args.name, &args.what, &args.words, &options)?;
    if let Some(made) = &added.made {
        out.note(format_args!("made {}", made.display()));
    }
    if let Some(controller) = &added.controller {
        out.note(format_args!(
            "its controller `{controller}` is plugged, and stays: `maqet device rm {} {controller}` \
             removes it",
            added.vm
        ));
    }
    let verb = if added.was_plugged { "was" } else { "is" };
    let place = match &added.bus {
        Some(bus) => format!(" into {bus}"),
        None => String::new(),
    };
    let kept = if added.persistent {
        ", and in the definition"
    } else {
        ""
    };
    let words = format_args!("`{}` {verb} plugged{place}{kept}", added.id);
    out.done(&added, words)?;
    Ok(ExitCode::SUCCESS)
}
