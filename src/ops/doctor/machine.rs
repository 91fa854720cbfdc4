//! What QEMU needs of the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::config::VmConfig;
use crate::qemu::{binary, kvm, vhost};
use crate::vm::VmName;

use super::super::Host;
use super::{Finding, with_causes};

/// The QEMUs that definitions name, or the usual one.
pub(super) fn qemu(definitions: &[(VmName, VmConfig)]) -> Vec<Finding> {
    let mut wanted: BTreeSet<(PathBuf, String)> = definitions
        .iter()
        .map(|(_, config)| (config.qemu.binary.clone(), config.machine.clone()))
        .collect();
    if wanted.is_empty() {
        wanted.insert(("qemu-system-x86_64".into(), "q35".to_owned()));
    }
    wanted
        .iter()
        .map(|(program, machine)| one_qemu(program, machine))
        .collect()
}

fn one_qemu(program: &Path, machine: &str) -> Finding {
    const CHECK: &str = "qemu";
    let found = match binary::find(program) {
        Ok(found) => found,
        Err(error) => {
            return Finding::error(CHECK, error.to_string())
                .mend("sudo apt install qemu-system-x86");
        }
    };
    let ask = |argument: &[&str]| {
        let ran = Command::new(&found).args(argument).output().ok()?;
        let words = String::from_utf8_lossy(&ran.stdout).into_owned();
        ran.status.success().then_some(words)
    };
    let version = ask(&["--version"]).and_then(|words| Some(words.lines().next()?.to_owned()));
    let Some(version) = version else {
        return Finding::error(CHECK, format!("{} does not run", found.display()))
            .mend("sudo apt install --reinstall qemu-system-x86");
    };
    let machines = ask(&["-machine", "help"]).unwrap_or_default();
    let has = |line: &str| line.split_whitespace().next() == Some(machine);
    if machines.lines().any(has) {
        Finding::ok(CHECK, format!("{version}: machine `{machine}`"))
    } else {
        let message = format!("{} has no machine `{machine}`", found.display());
        Finding::error(CHECK, message).mend(format!("{} -machine help", found.display()))
    }
}

/// A vCPU is run to tell.
pub(super) fn kvm() -> Finding {
    const CHECK: &str = "kvm";
    let slow = "VMs are emulated, slowly";
    match kvm::probe() {
        Ok(()) => Finding::ok(CHECK, "a vCPU runs"),
        Err(kvm::Unusable::Device(error))
            if error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Finding::warning(CHECK, format!("/dev/kvm is not yours to use: {slow}"))
                .mend("sudo usermod --append --groups kvm \"$USER\"")
        }
        Err(kvm::Unusable::Device(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::note(CHECK, format!("there is no /dev/kvm: {slow}"))
                .mend("sudo modprobe --all kvm_intel kvm_amd")
        }
        Err(error) => Finding::note(CHECK, format!("{error}: {slow}")),
    }
}

/// Needed by VMs that have a vsock device only.
pub(super) fn vsock(definitions: &[(VmName, VmConfig)]) -> Finding {
    const CHECK: &str = "vsock";
    let needed = definitions
        .iter()
        .find(|(_, config)| config.vsock.is_some());
    let error = match vhost::open() {
        Ok(_) => return Finding::ok(CHECK, format!("{} opens", vhost::DEVICE)),
        Err(vhost::Error::Device(error)) => error,
        Err(error) => return Finding::warning(CHECK, with_causes(&error)),
    };
    let message = format!("{} does not open: {error}", vhost::DEVICE);
    let finding = match needed {
        Some((name, _)) => Finding::error(CHECK, format!("{message}, and VM `{name}` needs it")),
        None => Finding::note(CHECK, message),
    };
    match vhost::mend(&error) {
        Some(command) => finding.mend(command),
        None => finding,
    }
}

/// Firmware descriptors, as docs/interop/firmware.json of QEMU has them.
pub(super) fn firmware() -> Finding {
    const CHECK: &str = "firmware";
    let mut usable = 0;
    for dir in ["/etc/qemu/firmware", "/usr/share/qemu/firmware"] {
        for file in fs::read_dir(dir).into_iter().flatten().flatten() {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            let Ok(descriptor) = serde_json::from_str::<Value>(&text) else {
                continue;
            };
            let is = |list: &Value, word: &str| {
                list.as_array()
                    .is_some_and(|items| items.iter().any(|item| item == word))
            };
            let targets = descriptor["targets"].as_array();
            let fits = targets.is_some_and(|targets| {
                targets
                    .iter()
                    .any(|target| target["architecture"] == "x86_64")
            });
            let program = descriptor["mapping"]["executable"]["filename"]
                .as_str()
                .or(descriptor["mapping"]["filename"].as_str());
            let exists = program.is_some_and(|program| Path::new(program).exists());
            usable += usize::from(is(&descriptor["interface-types"], "uefi") && fits && exists);
        }
    }
    match usable {
        0 => Finding::note(CHECK, "no UEFI firmware for x86-64 is installed")
            .mend("sudo apt install ovmf"),
        _ => Finding::ok(CHECK, format!("{usable} UEFI descriptors")),
    }
}

/// Programs beside QEMU: what each is for, its package, and whether maqet itself needs it.
const HELPERS: [(&str, &str, &str, bool); 5] = [
    ("qemu-img", "making disks", "qemu-utils", true),
    ("swtpm", "TPMs", "swtpm", false),
    ("virtiofsd", "sharing directories", "virtiofsd", false),
    ("passt", "networks without privileges", "passt", false),
    (
        "qemu-bridge-helper",
        "networks on bridges",
        "qemu-system-common",
        false,
    ),
];

/// Where programs are that are not for people.
const LIBEXEC: [&str; 4] = [
    "/usr/libexec",
    "/usr/lib/qemu",
    "/usr/libexec/qemu",
    "/usr/local/libexec",
];

pub(super) fn helpers() -> Vec<Finding> {
    HELPERS
        .iter()
        .map(|(program, purpose, package, needed)| {
            let libexec = LIBEXEC.map(|dir| Path::new(dir).join(program));
            let found = binary::find(Path::new(program)).ok().or_else(|| {
                let mut places = libexec.into_iter();
                places.find(|path| path.exists())
            });
            match found {
                Some(path) => Finding::ok("helper", path.display().to_string()),
                None => {
                    let message = format!("`{program}` is not installed, for {purpose}");
                    let finding = match needed {
                        true => Finding::error("helper", message),
                        false => Finding::note("helper", message),
                    };
                    finding.mend(format!("sudo apt install {package}"))
                }
            }
        })
        .collect()
}

/// Less than this is little for disks, in bytes.
const DATA: u64 = 1 << 30;
/// Less than this is little for sockets and logs of events.
const RUNTIME: u64 = 16 << 20;

/// The file systems that disks and sockets are on.
pub(super) fn space(host: &Host) -> Vec<Finding> {
    [(&host.paths.data, DATA), (&host.paths.runtime, RUNTIME)]
        .into_iter()
        .map(|(dir, least)| {
            // Before the first VM is added, the directory is not there.
            let there = dir.ancestors().find(|dir| dir.exists());
            let free =
                there.map(|dir| rustix::fs::statvfs(dir).map(|fs| fs.f_bavail * fs.f_frsize));
            let place = dir.display();
            match free {
                Some(Ok(free)) if free < least => {
                    let left = free >> 20;
                    Finding::warning("space", format!("{place} has only {left} MiB left"))
                        .mend(format!("du -xh --max-depth=2 {place} | sort -h"))
                }
                Some(Ok(free)) => Finding::ok("space", format!("{place}: {} MiB left", free >> 20)),
                Some(Err(error)) => {
                    let message = format!("cannot look at {place}: {}", with_causes(&error));
                    Finding::warning("space", message)
                }
                None => Finding::warning("space", format!("there is no {place}")),
            }
        })
        .collect()
}
