//! Definitions: what a VM *is*, never what it is doing.
//!
//! A definition is TOML text, or YAML in a file that is called so; what is
//! stored is TOML. [`VmConfig::parse`] reads it and finds every
//! mistake in it; [`resolve`] makes it independent of where its file lies;
//! [`Layers`] are the several texts that one can be made of;
//! [`Document`] edits it. See maqet.toml(5) for the keys.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vm::{GroupName, VmName};

mod assignment;
mod audio;
mod balloon;
mod board;
mod boot;
mod check;
mod cpu;
mod defaults;
mod device;
mod device_name;
mod difference;
mod disk;
mod display;
mod document;
mod error;
mod explain;
mod forward;
mod host_port;
mod input;
mod layer;
mod limits;
mod mac;
mod memory;
mod merge;
mod net;
mod passthrough;
mod path;
mod port;
mod python;
mod ready;
mod rng;
mod schema;
mod short;
mod size;
mod smbios;
mod source;
mod template;
mod text;
mod time_span;
mod unit;
mod vsock;
mod watchdog;
mod words;
mod yaml;

pub use self::vsock::Vsock;
pub use assignment::{Assignment, How, InvalidAssignment, is_key};
pub use audio::{Audio, AudioBackend, SoundDevice};
pub use balloon::Balloon;
pub use board::Board;
pub use boot::{Boot, BootName};
pub use cpu::{Cpu, CpuFeature, InvalidCpuFeature};
pub use defaults::Defaults;
pub use device::{Device, Property};
pub use device_name::{DeviceName, InvalidDeviceName};
pub use difference::{Difference, differences};
pub use disk::{Aio, Cache, DetectZeroes, Discard, Disk, Format, Interface, IoThread};
pub(crate) use display::VNC_PORT;
pub use display::{Display, DisplayKind, Listen, Vga};
pub use document::{Document, name, rename, resolve, with_defaults};
pub use error::{Error, Fault, Mistake, Position};
pub use explain::{Explained, Place, render};
pub use forward::{Forward, InvalidForward, Protocol};
pub use host_port::{HostPort, without_index};
pub use input::Input;
pub use layer::{Layer, Layers, Origin};
pub use limits::{Limit, Limits, Throttle};
pub use mac::{InvalidMac, Mac};
pub use memory::{HugePages, Memory};
pub use net::{DomainName, InterfaceName, McastGroup, Net, NetKind, Network};
pub use passthrough::{Pci, PciAddress, Usb, UsbId, UsbPort};
pub use path::{is_device_node, path_text};
pub use port::{InvalidLoopback, Loopback, Port, PortKind};
pub use ready::{InvalidReadyLevel, Ready, ReadyLevel};
pub use rng::Rng;
pub use schema::schema;
pub use size::{InvalidSize, Size};
pub use smbios::Smbios;
pub use template::{BUILT_IN, Template, users as user_templates};
pub use time_span::{InvalidTimeSpan, TimeSpan};
pub use unit::UnitValue;
pub use watchdog::{PanicAction, Watchdog, WatchdogAction, WatchdogModel};

use path::Env;
use source::Source;

/// What a VM is made of: a definition, checked, with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct VmConfig {
    /// What the VM is called.
    pub name: VmName,
    /// A line for people.
    #[serde(default)]
    pub description: Option<String>,
    /// The VMs that it shares a budget with, and is started and stopped with.
    #[serde(default)]
    pub group: Option<GroupName>,
    /// What users tell it from others by.
    #[serde(default)]
    pub labels: IndexMap<String, String>,
    /// Whether it cannot be removed.
    #[serde(default)]
    pub protect: bool,
    /// QEMU's machine type.
    #[serde(default = "default_machine")]
    #[schemars(length(min = 1))]
    pub machine: String,
    /// Accelerator.
    #[serde(default)]
    pub accel: AccelChoice,
    /// Memory of the guest.
    #[serde(default, deserialize_with = "short::deserialize")]
    #[schemars(schema_with = "short::schema::<Memory>", extend("default" = "1G"))]
    pub memory: Memory,
    /// Number of CPUs.
    #[serde(default = "default_cpus")]
    #[schemars(range(min = 1, max = 1024))]
    pub cpus: u32,
    /// What the CPUs are like.
    #[serde(default, deserialize_with = "short::deserialize")]
    #[schemars(schema_with = "short::schema::<Cpu>")]
    pub cpu: Cpu,
    /// Linux kernel to boot without a boot loader.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub kernel: Option<PathBuf>,
    /// Its initial RAM disk.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub initrd: Option<PathBuf>,
    /// Its command line.
    #[serde(default)]
    pub append: Option<String>,
    /// Device tree blob, for boards that have none of their own.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub dtb: Option<PathBuf>,
    /// What the firmware boots.
    #[serde(default, deserialize_with = "short::deserialize")]
    #[schemars(schema_with = "short::schema::<Boot>")]
    pub boot: Boot,
    /// Whether there is a channel for the guest agent.
    #[serde(default = "yes")]
    pub agent: bool,
    /// Memory that goes back to the host.
    #[serde(
        default = "usual::<Balloon>",
        deserialize_with = "short::deserialize_optional"
    )]
    #[schemars(schema_with = "short::optional_schema::<Balloon>")]
    pub balloon: Option<Balloon>,
    /// Whether there is a source of random numbers.
    #[serde(
        default = "usual::<Rng>",
        deserialize_with = "short::deserialize_optional"
    )]
    #[schemars(schema_with = "short::optional_schema::<Rng>")]
    pub rng: Option<Rng>,
    /// A device that acts when the guest hangs.
    #[serde(default, deserialize_with = "short::deserialize_optional")]
    #[schemars(schema_with = "short::optional_schema::<Watchdog>")]
    pub watchdog: Option<Watchdog>,
    /// What a panic of the guest's kernel does.
    #[serde(default)]
    pub panic: PanicAction,
    /// What the guest is told of its maker.
    #[serde(default)]
    pub smbios: Smbios,
    /// What the guest's clock shows.
    #[serde(default)]
    pub rtc: Rtc,
    /// Whether there is a serial console.
    #[serde(default = "yes")]
    pub serial: bool,
    /// The device for sockets between host and guest, if there is one.
    #[serde(default, deserialize_with = "self::vsock::deserialize")]
    #[schemars(schema_with = "self::vsock::schema")]
    pub vsock: Option<Vsock>,
    /// Further ports by name, in the order of the file.
    #[serde(default, rename = "port")]
    pub ports: IndexMap<DeviceName, Port>,
    /// Where the guest's screen is shown.
    #[serde(default, deserialize_with = "short::deserialize")]
    #[schemars(schema_with = "short::schema::<Display>", extend("default" = "none"))]
    pub display: Display,
    /// Video device.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub vga: Vga,
    /// A sound device.
    #[serde(default, deserialize_with = "short::deserialize_optional")]
    #[schemars(schema_with = "short::optional_schema::<Audio>")]
    pub audio: Option<Audio>,
    /// What the guest is pointed at and typed to with.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub input: Vec<Input>,
    /// Disks by name, in the order of the file.
    #[serde(default, rename = "disk")]
    pub disks: IndexMap<DeviceName, Disk>,
    /// Networks by name, in the order of the file; one NIC each.
    #[serde(default, rename = "net")]
    pub nets: IndexMap<DeviceName, Net>,
    /// Further devices by name, in the order of the file.
    #[serde(default, rename = "device")]
    pub devices: IndexMap<DeviceName, Device>,
    /// USB devices of the host that the guest gets, by name.
    #[serde(default, rename = "usb")]
    pub usbs: IndexMap<DeviceName, Usb>,
    /// PCI devices of the host that the guest gets, by name.
    #[serde(default, rename = "pci")]
    pub pcis: IndexMap<DeviceName, Pci>,
    /// VMs that this one starts after, and stops before.
    #[serde(default)]
    pub after: Vec<VmName>,
    /// VMs that are started before this one, and without which it does not start.
    #[serde(default)]
    pub requires: Vec<VmName>,
    /// How long after the start of the last of those it starts.
    #[serde(default)]
    pub start_delay: TimeSpan,
    /// When it counts as up.
    #[serde(default)]
    pub ready: Ready,
    /// How the VM is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// Properties of the unit by their names in unit files, in the order of the file.
    #[serde(default)]
    pub unit: IndexMap<String, UnitValue>,
    /// Which QEMU, and what is passed to it as it is.
    #[serde(default)]
    pub qemu: Qemu,
}

/// The accelerator that a definition asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccelChoice {
    /// KVM where it works, else TCG.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Emulation.
    Tcg,
}

/// What a guest's clock shows at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rtc {
    /// The time of Greenwich.
    #[default]
    Utc,
    /// The time of the host's clock on the wall, which Windows wants.
    Localtime,
}

/// How the VM is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Stop {
    /// How long the guest may take to power down.
    pub timeout: TimeSpan,
    /// What is done to it.
    pub action: StopAction,
}

/// What stopping does to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StopAction {
    /// Asks it to power down.
    #[default]
    Powerdown,
    /// Saves its memory; the next start goes on there.
    Save,
    /// Cuts its power.
    Kill,
}

/// Which QEMU, and what is passed to it as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Qemu {
    /// A path, or a name to look up in `PATH`.
    #[schemars(length(min = 1))]
    pub binary: PathBuf,
    /// Arguments that follow all of ours.
    pub args: Vec<String>,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            timeout: TimeSpan::from_secs(60),
            action: StopAction::default(),
        }
    }
}

impl Default for Qemu {
    fn default() -> Self {
        Self {
            binary: "qemu-system-x86_64".into(),
            args: Vec::new(),
        }
    }
}

fn default_machine() -> String {
    "q35".to_owned()
}

fn default_cpus() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// What the owner of a definition should know of it, besides what it says itself.
pub fn notes(text: &str, file: &Path) -> Vec<String> {
    yaml::notes(text, file)
}

fn usual<T: Default>() -> Option<T> {
    Some(T::default())
}

/// A definition whose values are read, and not yet held against each other.
struct Reading<'a> {
    config: VmConfig,
    source: Source<'a>,
    mistakes: Vec<Mistake>,
}

impl Reading<'_> {
    fn checked(mut self, judge: impl FnOnce(&VmConfig) -> Vec<Fault>) -> Result<VmConfig, Error> {
        let Self { config, source, .. } = &self;
        let own = check::faults(config).0.into_iter();
        let own = own.map(|(key, message)| source.mistake(&key, message));
        let judged = judge(config).into_iter().map(|fault| match fault.in_name {
            true => source.mistake_in_name(&fault.key, fault.message),
            false => source.mistake(&fault.key, fault.message),
        });
        let found: Vec<Mistake> = own.chain(judged).collect();
        self.mistakes.extend(found);
        self.source.check(self.mistakes)?;
        Ok(self.config)
    }
}

impl VmConfig {
    /// Reads a definition that lies in `file`, and checks all of it.
    ///
    /// Without a `name` it takes the file's: `web` for `web.toml`.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        Self::parse_with(text, file, &Defaults::default())
    }

    /// As [`VmConfig::parse`], with the user's defaults for what it does not say.
    pub fn parse_with(text: &str, file: &Path, defaults: &Defaults) -> Result<Self, Error> {
        Self::parse_checked(text, file, defaults, |_| Vec::new())
    }

    /// As [`VmConfig::parse_with`]; what `judge` finds wrong with the definition is told
    /// where it is written, with all other mistakes.
    pub fn parse_checked(
        text: &str,
        file: &Path,
        defaults: &Defaults,
        judge: impl FnOnce(&Self) -> Vec<Fault>,
    ) -> Result<Self, Error> {
        Self::parse_in(text, file, defaults, &path::process_env, judge)
    }

    fn parse_in(
        text: &str,
        file: &Path,
        defaults: &Defaults,
        env: Env<'_>,
        judge: impl FnOnce(&Self) -> Vec<Fault>,
    ) -> Result<Self, Error> {
        let source = Source::parse(text, file)?;
        Self::read(source, file, defaults, env)?.checked(judge)
    }

    /// Reads texts that are merged, and expands the paths in them.
    fn read<'a>(
        mut source: Source<'a>,
        file: &Path,
        defaults: &'a Defaults,
        env: Env<'_>,
    ) -> Result<Reading<'a>, Error> {
        let mut mistakes = Vec::new();
        if !source.says("name") {
            let stem = file.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            if stem.parse::<VmName>().is_ok() {
                source.add("name", stem);
            } else {
                let mut message = "the VM has no name: write `name = \"web\"`".to_owned();
                if file.extension().is_some() {
                    message += &format!(" (`{}` cannot be one)", stem.escape_debug());
                }
                mistakes.push(source.mistake("name", message));
                source.add("name", "unnamed");
            }
        }
        source.fill(defaults)?;
        let mut config: Self = source.read(&mut mistakes)?;
        mistakes.extend(source.lists_for_tables(&config));
        for (key, path) in config.paths_mut() {
            let text = path.to_str().expect("it was read from a text");
            match path::expand(text, source.dir(&key), env) {
                Ok(expanded) => *path = expanded,
                Err(message) => mistakes.push(source.mistake(&key, message)),
            }
        }
        config.complete(&source);
        Ok(Reading {
            config,
            source,
            mistakes,
        })
    }

    /// The paths it holds, with their keys.
    fn paths_mut(&mut self) -> Vec<(String, &mut PathBuf)> {
        let ports = self.ports.iter_mut();
        let ports = ports.map(|(name, port)| (format!("port.{name}.file"), port.file.as_mut()));
        let disks = self.disks.iter_mut();
        let files = disks.map(|(name, disk)| (format!("disk.{name}.file"), disk.file.as_mut()));
        let sockets = self.nets.iter_mut().flat_map(|(name, net)| {
            let paths = net.paths_mut().into_iter();
            paths.map(move |(key, path)| (format!("net.{name}.{key}"), path))
        });
        [
            ("kernel".to_owned(), self.kernel.as_mut()),
            ("initrd".to_owned(), self.initrd.as_mut()),
            ("dtb".to_owned(), self.dtb.as_mut()),
            (
                "rng.source".to_owned(),
                self.rng.as_mut().and_then(|rng| rng.source.as_mut()),
            ),
        ]
        .into_iter()
        .chain(ports)
        .chain(files)
        .chain(sockets)
        .filter_map(|(key, path)| Some((key, path?)))
        .chain(
            path::has_directory(&self.qemu.binary)
                .then(|| ("qemu.binary".to_owned(), &mut self.qemu.binary)),
        )
        .collect()
    }

    /// The VMs that this one starts after, each once.
    pub fn before(&self) -> impl Iterator<Item = &VmName> {
        let others = self.requires.iter();
        let others = others.filter(|name| !self.after.contains(name));
        self.after.iter().chain(others)
    }

    /// The board that its machine type is.
    pub fn board(&self) -> Board {
        Board::of(&self.machine)
    }

    /// Fills in the defaults that depend on other values.
    fn complete(&mut self, source: &Source<'_>) {
        let board = self.board();
        if self.ready.level == ReadyLevel::Notify && !source.says("vsock") {
            self.vsock = Some(Vsock::default());
        }
        self.cpu.complete(&mut self.cpus, source.says("cpus"));
        if !source.says("balloon") && (board == Board::None || balloon::is_one_of(&self.devices)) {
            self.balloon = None;
        }
        if !source.says("input")
            && board.has_pci()
            && self.display.kind != DisplayKind::None
            && !self.devices.values().any(|it| it.driver() == "usb-tablet")
        {
            self.input = vec![Input::Tablet];
        }
        if !source.says("rng") && board == Board::None {
            self.rng = None;
        }
        if !source.says("vga") {
            self.vga = board.default_vga();
        }
        if !source.says("net") && board != Board::None {
            let name = "net0".parse().expect("it is a valid name");
            self.nets.insert(name, Net::default());
        }
        for (name, net) in &mut self.nets {
            if !source.says(&format!("net.{name}.model")) {
                net.model = board.default_nic().to_owned();
            }
        }
        for (name, disk) in &mut self.disks {
            disk.read_only |= disk.interface == Interface::Cdrom;
            disk.is_format_said = source.says(&format!("disk.{name}.format"));
            if !disk.is_format_said {
                disk.format = disk.usual_format();
            }
        }
    }
}

#[cfg(test)]
mod tests;
