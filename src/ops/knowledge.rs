//! What a QEMU program knows: its machine types, CPU models, devices, displays and audio
//! drivers, by its own word.
//!
//! Asked from a QEMU without a machine, and from what others print before they end, which
//! takes about 60 ms in all, and kept until the next boot. Only definitions that are about to be kept are checked by it, and never a start.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{AccelChoice, AudioBackend, Board, DisplayKind, Fault, VmConfig};
use crate::nearest::nearest;
use crate::paths::create_private_dir;
use crate::process::Process;
use crate::qemu::argv::{sound_driver, video_driver};
use crate::qemu::{binary, part};
use crate::qmp::{self, Client};

use super::{Host, hmp};

/// What one QEMU program knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Knowledge {
    /// Its version.
    version: String,
    /// Machine types, aliases among them.
    machines: Vec<Word>,
    /// CPU models; none for an architecture whose QEMU cannot tell.
    cpus: Vec<Word>,
    /// Devices that can be added, by all their names.
    devices: Vec<String>,
    /// Those of them that are plugged into PCI.
    on_pci: HashSet<String>,
    /// Displays, of which many are modules; none, if it does not tell.
    displays: Vec<String>,
    /// Audio drivers; none, if it does not tell.
    audio: Vec<String>,
    /// Whether it can be a SPICE server.
    has_spice: bool,
}

/// A name that QEMU knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    name: String,
    is_deprecated: bool,
}

/// How long a QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What is wrong with a definition, and what may be one day, for the QEMU that it names.
///
/// Nothing where there is no such QEMU: a definition can be written all the same. It may
/// be a stranger's, and so a program of its own is not run before the VM is started.
pub(super) fn check(host: &Host, config: &VmConfig) -> (Vec<Fault>, Vec<String>) {
    let binary = &config.qemu.binary;
    let Ok(program) = binary::find(binary) else {
        return Default::default();
    };
    if !binary::is_asked(binary, &program) && !is_default(host, binary) {
        let warning = format!(
            "{} was not asked what machine types, CPUs and devices it has: it is no QEMU that \
             root has installed, nor your default",
            program.display()
        );
        return (Vec::new(), vec![warning]);
    }
    let file = kept_in(&host.paths.cache(), &program);
    if let Some(known) = file.as_deref().and_then(recall) {
        let (faults, warnings) = known.judge(config);
        if faults.is_empty() {
            return (faults, warnings);
        }
        // A package may have brought a module for this very program since.
    }
    let Ok(known) = ask(&program) else {
        return Default::default();
    };
    if let Some(file) = file {
        // What is not kept is asked again.
        let _ = keep(&file, &known);
    }
    known.judge(config)
}

/// Whether the user's own defaults name the program.
fn is_default(host: &Host, binary: &Path) -> bool {
    let Ok(defaults) = host.defaults() else {
        return false;
    };
    let none = VmConfig::parse_with("", Path::new("defaults.toml"), &defaults);
    none.is_ok_and(|config| config.qemu.binary == binary)
}

impl Knowledge {
    fn judge(&self, config: &VmConfig) -> (Vec<Fault>, Vec<String>) {
        let mut faults = Vec::new();
        let mut warnings = Vec::new();
        let version = &self.version;
        let mut check = |key: String, what: &str, known: &[Word], word: &str| match known
            .iter()
            .find(|known| known.name == word)
        {
            Some(known) if known.is_deprecated => {
                warnings.push(format!("QEMU {version} calls {what} `{word}` deprecated"));
            }
            None if !known.is_empty() => {
                let names = known.iter().map(|known| known.name.as_str());
                faults.push(unknown(key, version, what, word, names));
            }
            _ => {}
        };
        check(
            "machine".to_owned(),
            "machine type",
            &self.machines,
            &config.machine,
        );
        if let Some(cpu) = &config.cpu.model {
            check("cpu.model".to_owned(), "CPU model", &self.cpus, cpu);
            if cpu == "host" && config.accel == AccelChoice::Tcg {
                let message = "CPU model `host` is KVM's, and `accel` is tcg: use `max`";
                faults.push(fault("cpu.model".to_owned(), message.to_owned()));
            }
        }
        let nics = config.nets.iter();
        let nics = nics.map(|(name, net)| (format!("net.{name}.model"), net.model.as_str()));
        let others = config.devices.iter();
        let others = others.map(|(name, it)| (format!("device.{name}.driver"), it.driver()));
        // None at all is a mistake by itself.
        let others = others.filter(|(_, driver)| !driver.is_empty());
        // QEMU's own words may have given it one.
        let is_given = config.qemu.args.iter().any(|word| word.contains("pcie"));
        let has_pci = config.board() != Board::Microvm || is_given;
        for (key, driver) in nics.chain(others) {
            let names = self.devices.iter().map(String::as_str);
            if !names.clone().any(|name| name == driver) {
                faults.push(unknown(key, version, "device", driver, names));
            } else if !has_pci && key.starts_with("device.") && self.on_pci.contains(driver) {
                let message = format!(
                    "`{driver}` is a PCI device, and machine `{}` has no PCI",
                    config.machine
                );
                faults.push(fault(key, message));
            } else if !has_pci && part::is_usb_device(driver) && part::needs_usb_controller(config)
            {
                let message = format!(
                    "`{driver}` is a USB device, whose controller is a PCI device, and machine \
                     `{}` has no PCI",
                    config.machine
                );
                faults.push(fault(key, message));
            }
        }
        let audio = config.audio.map(|audio| audio.device);
        let ours = [
            ("vga", video_driver(config)),
            (
                "audio.device",
                audio.map(|it| sound_driver(it, config.board()).to_owned()),
            ),
            (
                "watchdog.model",
                config.watchdog.map(|it| it.model.driver().to_owned()),
            ),
        ];
        for (key, driver) in ours {
            // An older one has not got it yet, or it is a module that is not installed.
            if let Some(driver) = driver.filter(|driver| !self.devices.contains(driver)) {
                let message = format!("QEMU {version} has no device `{driver}` here");
                faults.push(fault(key.to_owned(), message));
            }
        }
        faults.extend(self.missing_modules(config));
        (faults, warnings)
    }

    /// What is in packages of its own, mostly, and not here.
    fn missing_modules(&self, config: &VmConfig) -> Vec<Fault> {
        let mut faults = Vec::new();
        let version = &self.version;
        let mut missing = |key: &str, what: String, debian: &str, others: String| {
            let message = format!(
                "QEMU {version} has no {what} here: install its module, which is in \
                 `{debian}` on Debian, in `{others}` elsewhere"
            );
            faults.push(fault(key.to_owned(), message));
        };
        let lacks = |known: &[String], word: &str| {
            !known.is_empty() && !known.iter().any(|known| known == word)
        };
        let window = match config.display.kind {
            DisplayKind::Gtk => Some("gtk"),
            DisplayKind::Sdl => Some("sdl"),
            DisplayKind::None | DisplayKind::Vnc | DisplayKind::Spice => None,
        };
        if let Some(kind) = window.filter(|kind| lacks(&self.displays, kind)) {
            let (what, others) = (format!("display `{kind}`"), format!("qemu-ui-{kind}"));
            missing("display.type", what, "qemu-system-gui", others);
        }
        if config.display.kind == DisplayKind::Spice && !self.has_spice {
            let (what, others) = ("SPICE".to_owned(), "qemu-ui-spice-core".to_owned());
            missing("display.type", what, "qemu-system-modules-spice", others);
        }
        let backend = config.audio.map(|audio| audio.backend);
        if let Some(backend) = backend.filter(|it| lacks(&self.audio, it.as_str())) {
            let word = backend.as_str();
            let (what, others) = (
                format!("audio driver `{word}`"),
                format!("qemu-audio-{word}"),
            );
            let debian = match backend {
                AudioBackend::Spice => "qemu-system-modules-spice",
                _ => "qemu-system-gui",
            };
            missing("audio.backend", what, debian, others);
        }
        faults
    }
}

fn unknown<'a>(
    key: String,
    version: &str,
    what: &str,
    word: &str,
    known: impl Iterator<Item = &'a str>,
) -> Fault {
    let meant = match nearest(word, known).first() {
        Some(near) => format!(", did you mean `{near}`?"),
        None => String::new(),
    };
    let word = word.escape_debug();
    fault(key, format!("QEMU {version} has no {what} `{word}`{meant}"))
}

fn fault(key: String, message: String) -> Fault {
    Fault {
        key,
        in_name: false,
        message,
    }
}

/// Asks a program that should be a QEMU.
fn ask(program: &Path) -> Result<Knowledge, qmp::Error> {
    let cannot = |source| qmp::Error::Connect {
        path: program.to_owned(),
        source,
    };
    let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
    let also = theirs.try_clone().map_err(cannot)?;
    let mut command = Command::new(program);
    command
        .args(["-machine", "none", "-S", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-qmp", "stdio"])
        .stdin(OwnedFd::from(theirs))
        .stdout(OwnedFd::from(also))
        .stderr(Stdio::null());
    // SAFETY: prctl(2) is async-signal-safe, and touches no memory.
    unsafe {
        command.pre_exec(|| {
            // It would wait for commands for ever.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let child = command.spawn().map_err(cannot)?;
    // It holds the other end: only the child may, for its end to be noticed.
    drop(command);
    let _ended = Ended(child);
    let help = ["-display", "-audiodev", "-spice"].map(|option| help(program, option));
    let mut qmp = Client::new(ours);
    qmp.set_timeout(ANSWER);
    let version = qmp.greeting()?.version.qemu.to_string();
    let machines = qmp.execute("query-machines", ())?;
    let cpus = match qmp.execute("query-cpu-definitions", ()) {
        Err(qmp::Error::Refused { .. }) => Value::Null,
        cpus => cpus?,
    };
    // Unlike `qom-list-types`, it knows aliases, and what cannot be added.
    let devices = hmp::print(&mut qmp, "info qdm")?;
    let [displays, audio, spice] = help.map(|child| child.map(printed).unwrap_or_default());
    Ok(Knowledge {
        displays: words_below(&displays),
        audio: words_below(&audio),
        // Without the module, it has no options that it could print.
        has_spice: spice.contains("addr="),
        version,
        machines: words(&machines, "alias"),
        cpus: words(&cpus, "typename"),
        on_pci: devices
            .lines()
            .filter(|line| line.contains(", bus PCI"))
            .flat_map(device_names)
            .collect(),
        devices: devices
            .lines()
            .filter(|line| !line.contains(", no-user"))
            .flat_map(device_names)
            .collect(),
    })
}

/// A QEMU that prints what an option can be, and ends.
fn help(program: &Path, option: &str) -> std::io::Result<Ended> {
    let mut command = Command::new(program);
    let command = command.args([option, "help"]).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    Ok(Ended(child?))
}

/// What a QEMU has printed, which is less than a pipe holds; nothing, if it goes on.
fn printed(mut child: Ended) -> String {
    let process = Process::open(child.0.id());
    let is_over = process.is_some_and(|process| process.wait(ANSWER));
    let mut text = String::new();
    if let Some(stdout) = child.0.stdout.as_mut().filter(|_| is_over) {
        // What is no text are no names either.
        let _ = stdout.read_to_string(&mut text);
    }
    text
}

/// The words that have lines of their own, below a heading.
fn words_below(text: &str) -> Vec<String> {
    let lines = text.lines().skip(1).map(str::trim);
    let words = lines.filter(|line| !line.is_empty() && !line.contains(' '));
    words.map(str::to_owned).collect()
}

/// A QEMU that is of no more use.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The names of things, with their other names.
fn words(things: &Value, other: &str) -> Vec<Word> {
    let things = things.as_array().into_iter().flatten();
    things
        .flat_map(|thing| {
            let is_deprecated = thing["deprecated"] == true;
            let names = [&thing["name"], &thing[other]].into_iter();
            names.filter_map(Value::as_str).map(move |name| Word {
                name: name.to_owned(),
                is_deprecated,
            })
        })
        .collect()
}

/// The names in a line such as `name "e1000", bus PCI, alias "e1000-82540em", desc "…"`.
fn device_names(line: &str) -> impl Iterator<Item = String> {
    let line = line.split(", desc ").next().unwrap_or_default();
    let quoted = |word: &str| {
        let (_, rest) = line.split_once(word)?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    [quoted("name \""), quoted("alias \"")]
        .into_iter()
        .flatten()
}

/// Where the knowledge of a program is kept; a script in front of QEMU is not QEMU.
fn kept_in(cache: &Path, program: &Path) -> Option<PathBuf> {
    let mut magic = [0; 4];
    let mut file = fs::File::open(program).ok()?;
    file.read_exact(&mut magic).ok()?;
    let file = file.metadata().ok()?;
    (magic == *b"\x7fELF").then(|| {
        cache.join(format!(
            // The other names here are those of VMs.
            ".known-{:x}-{:x}-{:x}-{:x}.{:x}",
            file.dev(),
            file.ino(),
            file.size(),
            file.mtime(),
            file.mtime_nsec(),
        ))
    })
}

fn recall(file: &Path) -> Option<Knowledge> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

fn keep(file: &Path, known: &Knowledge) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        create_private_dir(dir)?;
    }
    let unfinished = file.with_extension(std::process::id().to_string());
    fs::write(&unfinished, serde_json::to_vec(known)?)
        .and_then(|()| fs::rename(&unfinished, file))
        .inspect_err(|_| {
            // The first error is the one that counts.
            let _ = fs::remove_file(&unfinished);
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Knowledge {
        ask(&binary::find(Path::new("qemu-system-x86_64")).unwrap()).unwrap()
    }

    fn judged(known: &Knowledge, text: &str) -> (Vec<Fault>, Vec<String>) {
        known.judge(&VmConfig::parse(text, Path::new("web.toml")).unwrap())
    }

    #[test]
    fn what_this_qemu_has_is_known_by_all_its_names() {
        let known = known();
        for text in [
            "",
            "machine = 'pc'",
            "machine = 'pc-q35-7.2'",
            "machine = 'microvm'",
            "machine = 'none'",
            "machine = 'isapc'\nvga = 'none'\nnet = {}",
            "cpu = 'qemu64'",
            "cpu = 'EPYC-v3'",
            "cpu = 'qemu64-x86_64-cpu'",
            "cpu = 'host'",
            "net.lan.model = 'e1000'",
            "net.lan.model = 'e1000-82540em'",
            "net.lan.model = 'virtio-net'",
            "device.pad.driver = 'usb-tablet'",
            "vga = 'virtio'",
            "vga = 'qxl'",
            "machine = 'pc'\nvga = 'cirrus'\naudio = 'none'",
            "audio = 'none'\nwatchdog = true",
            "watchdog.model = 'ib700'",
            "machine = 'microvm'\nvga = 'virtio-gpu'",
        ] {
            let (faults, warnings) = judged(&known, text);
            assert!(faults.is_empty(), "{text}: {faults:?}");
            // Versions become deprecated with time.
            let is_version = text.contains("7.2");
            assert!(is_version || warnings.is_empty(), "{text}: {warnings:?}");
        }
    }

    #[test]
    fn what_this_qemu_lacks_is_a_fault_with_the_nearest_word() {
        let known = known();
        for (text, key, near) in [
            ("machine = 'q53'", "machine", "`q35`"),
            ("cpu = 'EPIC'", "cpu.model", "`EPYC`"),
            ("net.lan.model = 'e100'", "net.lan.model", "`e1000`"),
            (
                "device.pad.driver = 'usb-tabet'",
                "device.pad.driver",
                "`usb-tablet`",
            ),
            ("accel = 'tcg'\ncpu = 'host'", "cpu.model", "`max`"),
        ] {
            let (faults, _) = judged(&known, text);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!(faults[0].key, key);
            assert!(faults[0].message.contains(near), "{}", faults[0].message);
        }
        let mut old = self::known();
        old.devices
            .retain(|it| !it.starts_with("qxl") && !it.starts_with("virtio-sound"));
        for (text, key) in [
            ("vga = 'qxl'", "vga"),
            ("audio = { device = 'virtio' }", "audio.device"),
        ] {
            let (faults, _) = judged(&old, text);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!(faults[0].key, key);
        }
        let (faults, _) = judged(&known, "device.x.driver = 'ICH9-LPC'");
        assert_eq!(faults.len(), 1, "QEMU makes it, and nobody else");
    }

    #[test]
    fn a_pci_device_is_no_device_for_a_microvm() {
        let known = known();
        for driver in ["nec-usb-xhci", "usb-tablet"] {
            let text = format!("machine = 'microvm'\ndevice.x.driver = '{driver}'");
            let (faults, _) = judged(&known, &text);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!(faults[0].key, "device.x.driver");
            assert!(faults[0].message.contains("has no PCI"), "{faults:?}");
        }
        for text in [
            "machine = 'q35'\ndevice.x.driver = 'nec-usb-xhci'",
            "machine = 'microvm'\ndevice.x.driver = 'virtio-keyboard-device'",
            "machine = 'microvm'\nqemu.args = ['-machine', 'pcie=on']\ndevice.x.driver = 'e1000'",
            "machine = 'microvm'\nqemu.args = ['-machine', 'pcie=on']\ndevice.x.driver = 'usb-tablet'",
        ] {
            assert_eq!(judged(&known, text).0, [], "{text}");
        }
    }

    #[test]
    fn what_is_in_a_module_is_a_fault_without_it() {
        let with = Knowledge {
            displays: ["none", "gtk", "sdl"].map(str::to_owned).to_vec(),
            audio: ["none", "pa", "spice"].map(str::to_owned).to_vec(),
            has_spice: true,
            ..known()
        };
        let without = Knowledge {
            displays: vec!["none".to_owned()],
            audio: vec!["none".to_owned()],
            has_spice: false,
            ..with.clone()
        };
        for (text, key, package) in [
            ("display = 'gtk'", "display.type", "`qemu-system-gui`"),
            (
                "display = { type = 'sdl' }",
                "display.type",
                "`qemu-ui-sdl`",
            ),
            ("display = 'spice'", "display.type", "`qemu-ui-spice-core`"),
            ("audio = 'pa'", "audio.backend", "`qemu-audio-pa`"),
            (
                "audio = 'spice'\ndisplay = 'spice'",
                "audio.backend",
                "-modules-spice`",
            ),
        ] {
            assert_eq!(judged(&with, text).0, [], "{text}");
            let faults = judged(&without, text).0;
            let its = faults.iter().find(|fault| fault.key == key).unwrap();
            assert!(its.message.contains(package), "{}", its.message);
        }
        for text in ["display = 'vnc'", "audio = 'none'", ""] {
            assert_eq!(judged(&without, text).0, [], "{text}");
        }
        // One that does not tell is not judged.
        let silent = Knowledge {
            displays: Vec::new(),
            audio: Vec::new(),
            ..with
        };
        assert_eq!(judged(&silent, "display = 'gtk'\naudio = 'pa'").0, []);
    }

    #[test]
    fn displays_audio_drivers_and_spice_are_asked_for() {
        let known = known();
        for (known, word) in [(&known.displays, "none"), (&known.audio, "wav")] {
            assert!(known.iter().any(|it| it == word), "{known:?}");
            assert!(known.iter().all(|it| !it.contains(' ')), "{known:?}");
        }
        assert!(known.has_spice, "tests need its module");
    }

    #[test]
    fn what_is_deprecated_is_a_warning() {
        let mut known = known();
        for word in &mut known.machines {
            word.is_deprecated |= word.name == "pc";
        }
        let (faults, warnings) = judged(&known, "machine = 'pc'");
        assert!(faults.is_empty());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("machine type `pc` deprecated"));
    }

    #[test]
    fn it_is_kept_for_programs_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let program = binary::find(Path::new("qemu-system-x86_64")).unwrap();
        let file = kept_in(&dir.path().join("maqet"), &program).unwrap();
        assert_eq!(recall(&file), None);
        let known = known();
        keep(&file, &known).unwrap();
        assert_eq!(recall(&file), Some(known));
        fs::write(&file, "{").unwrap();
        assert_eq!(recall(&file), None);
        let script = dir.path().join("qemu");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        assert_eq!(kept_in(dir.path(), &script), None);
    }

    #[test]
    fn what_is_no_qemu_tells_nothing() {
        assert!(ask(Path::new("/bin/true")).is_err());
        assert!(ask(Path::new("/no/such")).is_err());
    }
}
