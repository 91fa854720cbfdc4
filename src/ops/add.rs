//! Making a VM known.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{self, Document, Explained, Format, Interface, Layer, Layers, Size, VmConfig};
use crate::image;
use crate::qemu::argv::Sockets;
use crate::store::{MadeDisk, Row};
use crate::vm::VmName;

use super::claims::Claims;
use super::{Error, Host, TRIES, check, prepare};

/// A VM that was added.
#[derive(Debug, Serialize)]
pub struct Added {
    /// Its name.
    pub name: VmName,
    /// The disks that were made for it.
    pub made: Vec<PathBuf>,
    /// What may be in its way one day.
    pub warnings: Vec<String>,
    /// What its owner should know of the definition.
    pub notes: Vec<String>,
}

/// Where a definition comes from.
#[derive(Debug)]
pub struct Source {
    /// Its text.
    pub text: String,
    /// The file it is in: for messages, and what its relative paths are relative to.
    pub file: PathBuf,
    /// See [`config::notes`].
    pub notes: Vec<String>,
}

impl From<Source> for Layer {
    fn from(source: Source) -> Self {
        Self::file(&source.file, source.text)
    }
}

/// Reads a definition's file; `-` is standard input, whose paths are relative to the
/// current directory.
pub fn read(file: &Path) -> Result<Source, Error> {
    let is_pipe = file == Path::new("-");
    // No name of a VM: it has to be in the text.
    let file = if is_pipe {
        Path::new("standard input")
    } else {
        file
    };
    let text = match is_pipe {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = text.map_err(Error::io(format_args!("cannot read {}", file.display())))?;
    if text.trim().is_empty() {
        return Err(Error::Empty(file.to_owned()));
    }
    let file = std::path::absolute(file).map_err(Error::io("cannot tell the current directory"))?;
    Ok(Source {
        notes: config::notes(&text, &file),
        text,
        file,
    })
}

/// Reads a definition's file, with what it extends merged into its text.
pub fn read_whole(host: &Host, file: &Path) -> Result<Source, Error> {
    let source = read(file)?;
    let layer = Layer::file(&source.file, source.text.clone());
    let layers = Layers::load(vec![layer], &host.paths.templates())?;
    if layers.is_one_file() {
        return Ok(source);
    }
    // Mistakes are told in the files, and not in what comes of them.
    layers.check(&host.defaults()?, |_| Vec::new())?;
    Ok(Source {
        text: layers.resolve()?,
        file: source.file.with_extension("toml"),
        notes: layers.notes(),
    })
}

/// The texts of a definition: templates, files on top of them, each with what it extends.
pub fn layers(host: &Host, templates: &[String], files: &[PathBuf]) -> Result<Layers, Error> {
    let dir = host.paths.templates();
    let templates = templates
        .iter()
        .map(|name| Layer::template(name, &dir).map_err(Error::Template));
    let files = files.iter().map(|file| Ok(read(file)?.into()));
    let texts = templates.chain(files).collect::<Result<_, Error>>()?;
    Ok(Layers::load(texts, &dir)?)
}

/// What would be added.
#[derive(Debug, Serialize)]
pub struct Preview {
    /// Its name.
    pub name: VmName,
    /// Its definition, with all defaults filled in.
    pub definition: VmConfig,
    /// Each value, and where it is from.
    pub values: Vec<Explained>,
    /// What would keep it from being added, or from running at the same time as others.
    pub warnings: Vec<String>,
}

/// Checks a definition as [`add`] does, and shows what comes of it. Changes nothing.
pub fn preview(host: &Host, layers: &Layers) -> Result<Preview, Error> {
    let defaults = host.defaults()?;
    let claims = Claims::for_vms(host, 1);
    let config = layers.check(&defaults, check::faults(&claims, None))?;
    disks_to_make(host, &config, None)?;
    let mut warnings = Vec::new();
    if host.vm(&config.name).is_ok() {
        warnings.push(format!("there is a VM `{}` already", config.name));
    }
    warnings.extend(check::warnings(&claims, &config)?);
    warnings.extend(claims.controllers.idle_in(&config, None));
    Ok(Preview {
        values: layers.explain(&defaults)?,
        name: config.name.clone(),
        definition: config,
        warnings,
    })
}

/// The QEMU command line of what would be added, which has no UUID yet.
pub fn preview_argv(host: &Host, layers: &Layers) -> Result<Vec<OsString>, Error> {
    let claims = Claims::for_vms(host, 1);
    let config = layers.check(&host.defaults()?, check::faults(&claims, None))?;
    let uuid = "00000000-0000-0000-0000-000000000000".to_owned();
    let row = row(&config, layers.resolve()?, uuid, layers.file())?;
    let sockets = Sockets::in_dir(host.paths.sockets(&config.name).path(), &config);
    prepare::command_line(host, &row, &config, sockets, None)
}

/// Adds a VM: checks its definition, makes the disks that have a size and are missing, keeps it.
///
/// Whatever fails, nothing is left behind.
pub fn add(host: &Host, layers: &Layers) -> Result<Added, Error> {
    for _ in 0..TRIES {
        if let Some(added) = try_add(host, layers)? {
            return Ok(added);
        }
    }
    Err(Error::Contended)
}

/// The same, if nobody else comes to want what it wants meanwhile.
fn try_add(host: &Host, layers: &Layers) -> Result<Option<Added>, Error> {
    let defaults = host.defaults()?;
    let claims = Claims::for_vms(host, 1);
    let config = layers.check(&defaults, check::faults(&claims, None))?;
    let definition = layers.resolve()?;
    let mut store = host.store()?;
    let row = row(
        &config,
        definition,
        claims.new_uuid(&config)?,
        layers.file(),
    )?;
    let mut made = Vec::new();
    let missing = missing_dirs(host, &config);
    let added = store.insert(&row, |store| {
        if !claims.still_hold(store)? {
            return Ok(None);
        }
        make_disks(host, &config, None, &mut made)?;
        let made = made.iter().map(|path| made_disk(path));
        made.collect::<Result<_, Error>>().map(Some)
    });
    match added {
        Ok(true) => Ok(Some(Added {
            // It is kept already.
            warnings: check::new_warnings(&claims, &config, None),
            name: config.name,
            made,
            notes: layers.notes(),
        })),
        Ok(false) => Ok(None),
        // The other one's directory is none of ours.
        Err(Error::AlreadyExists(name)) => Err(Error::AlreadyExists(name)),
        Err(error) => {
            for disk in &made {
                // Made a moment ago, and empty.
                let _ = std::fs::remove_file(disk);
            }
            let dir = host.paths.vm(&config.name);
            for dir in missing.iter().map(PathBuf::as_path).chain([dir.path()]) {
                // Only goes when nothing is in it.
                let _ = std::fs::remove_dir(dir);
            }
            Err(error)
        }
    }
}

/// The directories that are made with the disks, the inner ones first.
fn missing_dirs(host: &Host, config: &VmConfig) -> Vec<PathBuf> {
    let dir = host.paths.vm(&config.name);
    let disks = config.disks.iter();
    let disks = disks.filter_map(|(name, disk)| disk.path(name, dir.path()));
    disks
        .flat_map(|path| {
            let dirs = path.ancestors().skip(1).map(Path::to_owned);
            dirs.take_while(|dir| !dir.exists()).collect::<Vec<_>>()
        })
        .collect()
}

/// What is stored of a VM.
pub(super) fn row(
    config: &VmConfig,
    definition: String,
    uuid: String,
    file: &Path,
) -> Result<Row, Error> {
    // It is TOML, whatever it was made from.
    let says = Document::parse(&definition, &file.with_extension("toml"))?;
    Ok(Row {
        uuid,
        memory: says.says("memory.size").then(|| config.memory.size.bytes()),
        cpus: (says.says("cpus") || config.cpu.has_topology()).then_some(config.cpus),
        group: config.group.clone(),
        labels: config.labels.clone(),
        protected: config.protect,
        name: config.name.clone(),
        definition,
    })
}

/// Makes the disks that are to be made, and that `old` has not; tells `made` of each.
pub(super) fn make_disks(
    host: &Host,
    config: &VmConfig,
    old: Option<&VmConfig>,
    made: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    for (path, format, size) in disks_to_make(host, config, old)? {
        image::create(&path, format.as_str(), size.bytes())?;
        made.push(path);
    }
    Ok(())
}

/// Where they are to be, and as what.
pub(super) fn disks_to_make(
    host: &Host,
    config: &VmConfig,
    old: Option<&VmConfig>,
) -> Result<Vec<(PathBuf, Format, Size)>, Error> {
    let mut missing = Vec::new();
    let dir = host.paths.vm(&config.name);
    for (name, disk) in &config.disks {
        let Some(path) = disk.path(name, dir.path()) else {
            continue;
        };
        let before = old.and_then(|old| old.disks.get(name));
        if before.and_then(|disk| disk.path(name, dir.path())).as_ref() == Some(&path) {
            continue;
        }
        if path
            .try_exists()
            .map_err(Error::io(format_args!("cannot look at {}", path.display())))?
        {
            continue;
        }
        let Some(size) = disk.size else {
            if disk.interface == Interface::Cdrom {
                // Nobody makes a medium.
                return Err(Error::Missing {
                    what: format!("disk `{name}`"),
                    path,
                    source: std::io::ErrorKind::NotFound.into(),
                });
            }
            return Err(Error::NoDisk {
                disk: name.to_string(),
                path,
            });
        };
        missing.push((path, disk.format, size));
    }
    Ok(missing)
}

/// What is remembered of a disk that was just made.
pub(super) fn made_disk(path: &Path) -> Result<MadeDisk, Error> {
    Ok(MadeDisk {
        identity: image::identity(path)
            .map_err(Error::io(format_args!("cannot look at {}", path.display())))?,
        path: path.to_owned(),
    })
}

/// A random UUID (RFC 9562, version 4).
pub(super) fn uuid() -> Result<String, Error> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map_err(Error::io("cannot read random numbers"))?;
    Ok(uuid.trim().to_owned())
}
