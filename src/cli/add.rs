use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use indexmap::IndexMap;

use crate::config::{Document, Size, VmConfig};
use crate::ops::set::Change;
use crate::ops::{self, Host, add::Source};
use crate::vm::{GroupName, VmName};

use super::output::Output;

/// Add a VM from a definition file, from options, or from both
///
/// Reads the definition, checks it, makes the disks that have a size and do not
/// exist, and keeps it. The VM is not started. Options win over the file.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Definition file (TOML, or YAML in `.yaml` and `.yml`), see maqet.toml(5)
    #[arg(required_unless_present = "name")]
    file: Option<PathBuf>,
    /// Name of the VM [default: what the file says, or the file's own name]
    #[arg(long)]
    name: Option<VmName>,
    /// One line about the VM
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Memory, such as 512M or 4G
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Number of virtual CPUs
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Machine type of QEMU, such as q35
    #[arg(long, value_name = "TYPE")]
    machine: Option<String>,
    /// Accelerator: auto, kvm or tcg
    #[arg(long)]
    accel: Option<String>,
    /// Disk image, made if missing when there is a size; for several disks, give it several times
    #[arg(long, value_name = "FILE[:SIZE]")]
    disk: Vec<DiskArg>,
    /// Forward a port of this host to the guest, such as 2222:22; for several ports, give it several times
    #[arg(long, value_name = "[PROTO:][ADDR:]PORT:PORT")]
    forward: Vec<String>,
    /// Linux kernel to boot directly
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk for the kernel
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Command line for the kernel
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
    /// Group whose budget it shares
    #[arg(long, value_name = "GROUP")]
    group: Option<GroupName>,
    /// Property of its unit, such as MemoryMax=6G or Restart=on-failure; for several, give it several times
    #[arg(long, value_name = "PROPERTY=VALUE")]
    unit: Vec<Change>,
    /// QEMU program, a name or a path
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// Argument for QEMU, passed on as it is; for several, give it several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    qemu_arg: Vec<String>,
}

/// `FILE` or `FILE:SIZE`.
#[derive(Clone, Debug)]
struct DiskArg {
    file: PathBuf,
    size: Option<Size>,
}

impl std::str::FromStr for DiskArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What follows the last colon is a size only if it reads as one.
        let split = text
            .rsplit_once(':')
            .and_then(|(file, size)| Some((file, size.parse().ok()?)));
        Ok(match split {
            Some((file, size)) if !file.is_empty() => Self {
                file: file.into(),
                size: Some(size),
            },
            _ => Self {
                file: text.into(),
                size: None,
            },
        })
    }
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let source = source(args)?;
    let added = ops::add::add(host, &source)?;
    for note in &added.notes {
        out.note(note);
    }
    for disk in &added.made {
        out.note(format_args!("made {}", disk.display()));
    }
    for warning in &added.warnings {
        out.note(format_args!("warning: {warning}"));
    }
    out.done(&added, format_args!("VM `{}` added", added.name))?;
    Ok(ExitCode::SUCCESS)
}

/// The definition with the options written into it.
fn source(args: Args) -> anyhow::Result<Source> {
    let Source { text, file, notes } = match &args.file {
        Some(file) => ops::add::read(file)?,
        None => Source {
            text: String::new(),
            // For messages only: paths on the command line are made absolute here.
            file: "the command line".into(),
            notes: Vec::new(),
        },
    };
    let mut document = Document::parse(&text, &file)?;
    let unchanged = document.to_string();
    let mut set = |key: &str, value: Option<String>| match value {
        Some(value) => document.set(key, value),
        None => Ok(()),
    };
    set("name", args.name.map(|name| name.to_string()))?;
    set("description", args.description)?;
    set("memory", args.memory.map(|size| size.to_string()))?;
    set("machine", args.machine)?;
    set("accel", args.accel)?;
    set("kernel", path(args.kernel.as_deref())?)?;
    set("initrd", path(args.initrd.as_deref())?)?;
    set("append", args.append)?;
    set("group", args.group.map(|group| group.to_string()))?;
    set("qemu.binary", program(args.qemu.as_deref())?)?;
    if let Some(cpus) = args.cpus {
        document.set("cpus", i64::from(cpus))?;
    }
    for (i, disk) in args.disk.iter().enumerate() {
        let name = format!("disk{i}");
        document.set(
            &format!("disk.{name}.file"),
            path(Some(&disk.file))?.unwrap_or_default(),
        )?;
        if let Some(size) = disk.size {
            document.set(&format!("disk.{name}.size"), size.to_string())?;
        }
    }
    if !args.forward.is_empty() {
        // Of the definition's networks the first; it has one by default.
        let nets = VmConfig::parse(&text, &file).map(|config| config.nets);
        let net = nets
            .ok()
            .and_then(|nets| Some(nets.keys().next()?.to_string()));
        let key = format!("net.{}.forward", net.as_deref().unwrap_or("net0"));
        document.set(&key, args.forward.iter().collect::<toml_edit::Array>())?;
    }
    let mut properties: IndexMap<&str, Vec<&str>> = IndexMap::new();
    for change in &args.unit {
        properties
            .entry(&change.property)
            .or_default()
            .push(&change.value);
    }
    for (property, values) in properties {
        let value: toml_edit::Value = match values[..] {
            [value] => value.into(),
            _ => values.into_iter().collect::<toml_edit::Array>().into(),
        };
        document.set(&format!("unit.{property}"), value)?;
    }
    if !args.qemu_arg.is_empty() {
        document.set(
            "qemu.args",
            args.qemu_arg.iter().collect::<toml_edit::Array>(),
        )?;
    }
    let changed = document.to_string();
    if changed == unchanged {
        // Mistakes are shown in what the user wrote.
        return Ok(Source { text, file, notes });
    }
    Ok(Source {
        text: changed,
        file: document.file().to_owned(),
        notes,
    })
}

/// A path from the command line, which is relative to the current directory and not to the file.
fn path(path: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    let absolute = std::path::absolute(path).context("cannot tell the current directory")?;
    match crate::config::path_text(&absolute) {
        Some(text) => Ok(Some(text)),
        None => anyhow::bail!("{} is not UTF-8, and cannot be stored", absolute.display()),
    }
}

/// A program from the command line: a path as above, or a name for `$PATH`.
fn program(program: Option<&Path>) -> anyhow::Result<Option<String>> {
    match program {
        Some(name) if name.components().count() == 1 => {
            Ok(Some(name.to_string_lossy().into_owned()))
        }
        other => path(other),
    }
}
