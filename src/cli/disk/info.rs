use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use crate::config::DeviceName;
use crate::ops::Host;
use crate::ops::disk::info::{Info, info};
use crate::vm::VmName;

use super::super::output::{Output, bytes};
use super::super::status::moment;

/// Show all that is known of disks
///
/// Sizes, the images that a disk stands on, its snapshots, and which VMs use its image
/// or stand on it. A running QEMU is asked; of a VM that does not run, qemu-img(1).
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the VM
    name: VmName,
    /// Name of the disk; without it, all are shown
    disk: Option<DeviceName>,
}

pub(super) fn run(out: &Output, host: &Host, args: &Args) -> anyhow::Result<ExitCode> {
    let disks = info(host, &args.name, args.disk.as_ref())?;
    out.answer(&disks, |w| {
        for (index, disk) in disks.iter().enumerate() {
            if index > 0 {
                writeln!(w)?;
            }
            write(w, disk)?;
        }
        Ok(())
    })?;
    for disk in disks.iter().map(|info| &info.listed) {
        if disk.fault.is_some() {
            out.note(format_args!(
                "hint: `maqet disk check {} {}` tells what mends it",
                args.name, disk.disk
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(w: &mut dyn Write, info: &Info) -> io::Result<()> {
    let disk = &info.listed;
    let mut line = |key: &str, value: &dyn std::fmt::Display| writeln!(w, "{key:>9}  {value}");
    line("disk", &disk.disk)?;
    let Some(file) = &disk.file else {
        return line("file", &"none: the drive is empty");
    };
    let whose = match (disk.made, disk.block_device) {
        (true, _) => " (made by maqet)",
        (_, true) => " (a block device)",
        _ => "",
    };
    line("file", &format_args!("{}{whose}", file.display()))?;
    if let Some(fault) = &disk.fault {
        line("broken", fault)?;
    }
    let mut state = Vec::new();
    if disk.read_only {
        state.push("read-only");
    }
    if disk.plugged {
        state.push("in the running VM");
    }
    if !disk.defined {
        state.push("not in the definition");
    }
    if !state.is_empty() {
        line("state", &state.join(", "))?;
    }
    if let Some(format) = &disk.format {
        line("format", format)?;
    }
    if let Some(size) = disk.virtual_size {
        line("size", &bytes(size))?;
    }
    if let Some(size) = disk.actual_size {
        line("on host", &bytes(size))?;
    }
    for base in info.chain.iter().skip(1) {
        let words = format_args!(
            "{} ({}, {} on the host)",
            base.path.display(),
            base.format,
            bytes(base.actual_size)
        );
        line("on top of", &words)?;
    }
    for snapshot in &info.snapshots {
        let memory = match snapshot.vm_state_size {
            0 => String::new(),
            size => format!(", with {} of memory", bytes(size)),
        };
        let time = snapshot.time().min(SystemTime::now());
        let words = format_args!("{} ({}{memory})", snapshot.name, moment(time));
        line("snapshot", &words)?;
    }
    for user in &info.users {
        let how = match (user.as_base, user.read_only) {
            (true, _) => ", which stands on it",
            (false, true) => ", which only reads it",
            (false, false) => "",
        };
        let words = match &user.snapshot {
            Some(snapshot) => format!("VM `{}`, snapshot `{snapshot}`{how}", user.vm),
            None => format!("VM `{}`, disk `{}`{how}", user.vm, user.disk),
        };
        line("used by", &words)?;
    }
    Ok(())
}
