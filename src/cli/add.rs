use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use indexmap::IndexMap;

use crate::config::{Assignment, Defaults, Document, Layer, Layers, Size, render};
use crate::ops::set::Change;
use crate::ops::{self, Host};
use crate::vm::{GroupName, VmName};

use super::output::Output;

/// Add a VM from definition files, from options, or from both
///
/// Reads the definition, checks it, makes the disks that have a size and do not
/// exist, and keeps it. The VM is not started. Several files are merged, the
/// last wins: SEVERAL FILES in maqet.toml(5). Options win over files, and --set
/// and --unset, which take any key, over those.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Definition files (TOML, or YAML in `.yaml` and `.yml`), see maqet.toml(5); `-` is standard input
    #[arg(required_unless_present = "name", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Begin with a template (`maqet template ls`); for several, give it several times
    #[arg(long, value_name = "NAME")]
    template: Vec<String>,
    /// Show what would be added: each value, and where it is from
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run, show the QEMU command line instead, ready to paste into a shell
    #[arg(long, requires = "dry_run")]
    argv: bool,
    /// Give any key a value, as `maqet set` does, such as stop.timeout=90s; for several, give it several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Assignment>,
    /// Take a key out of what the files say, such as net.lan.forward; for several, give it several times
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Name of the VM [default: what the files say, or the last one's own name]
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
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err("a disk is a FILE, or FILE:SIZE");
        }
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
    let layers = layers(host, &args)?;
    if args.argv {
        out.note(
            "the UUID is made when the VM is added, and MAC addresses that are not written \
             derive from it",
        );
        super::show::argv(out, &ops::add::preview_argv(host, &layers)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        let preview = ops::add::preview(host, &layers)?;
        for note in layers.notes() {
            out.note(note);
        }
        for warning in &preview.warnings {
            out.note(format_args!("warning: {warning}"));
        }
        out.answer(&preview, |w| {
            w.write_all(render(&preview.values).as_bytes())
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let added = ops::add::add(host, &layers)?;
    for note in &added.notes {
        out.note(note);
    }
    for disk in &added.made {
        out.note(format_args!("made {}", disk.display()));
    }
    for warning in &added.warnings {
        out.warn(warning);
    }
    out.done(&added, format_args!("VM `{}` added", added.name))?;
    Ok(ExitCode::SUCCESS)
}

/// The files, and above them each option as a text of its own.
fn layers(host: &Host, args: &Args) -> anyhow::Result<Layers> {
    let mut layers = ops::add::layers(host, &args.template, &args.files)?;
    for key in &args.unset {
        let mut document = Document::parse("", Path::new(""))?;
        document.set("unset", toml_edit::Array::from_iter([key]))?;
        layers.push(option(&["--unset", key], &document)?);
    }
    let mut add = |words: &[&str], values: Vec<(String, toml_edit::Value)>| -> anyhow::Result<()> {
        let mut document = Document::parse("", Path::new(""))?;
        for (key, value) in values {
            document.set(&key, value)?;
        }
        layers.push(option(words, &document)?);
        Ok(())
    };
    let texts = [
        ("--name", "name", args.name.as_ref().map(VmName::to_string)),
        ("--description", "description", args.description.clone()),
        ("--memory", "memory", args.memory.map(|it| it.to_string())),
        ("--machine", "machine", args.machine.clone()),
        ("--accel", "accel", args.accel.clone()),
        ("--kernel", "kernel", path(args.kernel.as_deref())?),
        ("--initrd", "initrd", path(args.initrd.as_deref())?),
        ("--append", "append", args.append.clone()),
        (
            "--group",
            "group",
            args.group.as_ref().map(GroupName::to_string),
        ),
        ("--qemu", "qemu.binary", program(args.qemu.as_deref())?),
    ];
    for (flag, key, value) in texts {
        if let Some(value) = value {
            add(
                &[flag, &value],
                vec![(key.to_owned(), value.as_str().into())],
            )?;
        }
    }
    if let Some(cpus) = args.cpus {
        let value = i64::from(cpus).into();
        add(
            &["--cpus", &cpus.to_string()],
            vec![("cpus".to_owned(), value)],
        )?;
    }
    for (i, disk) in args.disk.iter().enumerate() {
        let file = path(Some(&disk.file))?.unwrap_or_default();
        let mut words = disk.file.display().to_string();
        let mut values = vec![(format!("disk.disk{i}.file"), file.into())];
        if let Some(size) = disk.size {
            words += &format!(":{size}");
            values.push((format!("disk.disk{i}.size"), size.to_string().into()));
        }
        add(&["--disk", &words], values)?;
    }
    let mut properties: IndexMap<&str, Vec<&str>> = IndexMap::new();
    for change in &args.unit {
        let values = properties.entry(&change.property).or_default();
        values.push(&change.value);
    }
    for (property, values) in properties {
        let value: toml_edit::Value = match values[..] {
            [value] => value.into(),
            _ => values.iter().copied().collect::<toml_edit::Array>().into(),
        };
        let words = format!("{property}={}", values.join(" "));
        add(
            &["--unit", &words],
            vec![(format!("unit.{property}"), value)],
        )?;
    }
    for word in &args.qemu_arg {
        let list = toml_edit::Array::from_iter([word]);
        add(
            &["--qemu-arg", word],
            vec![("qemu.args".to_owned(), list.into())],
        )?;
    }
    if !args.forward.is_empty() {
        // Of the definition's networks the first; it has one by default.
        let nets = layers.check(&Defaults::default(), |_| Vec::new());
        let net = nets.ok().and_then(|it| it.nets.into_keys().next());
        let net = net.map_or("net0".to_owned(), |net| net.to_string());
        for forward in &args.forward {
            let mut document = Document::parse("", Path::new(""))?;
            let list = toml_edit::Array::from_iter([forward]);
            document.set(&format!("net.{net}.forward"), list)?;
            layers.push(option(&["--forward", forward], &document)?);
        }
    }
    for word in &args.set {
        // What the value is, and what it is added to, depends on all that is below.
        let mut below = Document::parse(&layers.resolve()?, Path::new("set.toml"))?;
        below.assign(word, &host.defaults()?)?;
        let mut document = Document::parse("", Path::new(""))?;
        document.copy(&below, &word.key)?;
        layers.push(Layer {
            replaces_lists: true,
            ..option(&["--set", &word.to_string()], &document)?
        });
    }
    Ok(layers)
}

/// An option as one of the texts that a definition is made of.
fn option(words: &[&str], document: &Document) -> anyhow::Result<Layer> {
    let dir = std::env::current_dir().context("cannot tell the current directory")?;
    Ok(Layer::option(words.join(" "), document.to_string(), &dir))
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
