//! The board: processors, memory, and what its firmware does.

use super::{Accel, Argv, Host, cid, notify_address};
use crate::config::{Board, HugePages, Rtc, VmConfig};
use crate::qemu::optarg::OptArg;

/// Board, processors and memory.
pub(super) fn machine(argv: &mut Argv, config: &VmConfig, host: &Host) {
    let accel = match host.accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg",
    };
    let backend = memory(config);
    argv.opt(
        "-machine",
        OptArg::new("type", &config.machine).with_if(backend.is_some(), "memory-backend", MEMORY),
    );
    argv.opt("-accel", OptArg::new("accel", accel));
    cpus(argv, config, host);
    argv.opt("-m", OptArg::new("size", mebibytes(config)));
    if let Some(backend) = backend {
        argv.opt("-object", backend);
    }
}

/// The id of the memory, where it is not QEMU's own choice.
const MEMORY: &str = "memory";

fn mebibytes(config: &VmConfig) -> String {
    format!("{}M", config.memory.size.bytes() >> 20)
}

/// What the memory is made of, if a definition says.
fn memory(config: &VmConfig) -> Option<OptArg> {
    let memory = &config.memory;
    let huge = memory.hugepages != HugePages::No;
    if !huge && !memory.shared && !memory.prealloc {
        return None;
    }
    // Of a memfd: huge pages without a file system of them that someone has to mount.
    let kind = match huge || memory.shared {
        true => "memory-backend-memfd",
        false => "memory-backend-ram",
    };
    let arg = OptArg::new("qom-type", kind)
        .with("id", MEMORY)
        .with("size", mebibytes(config))
        .with_bool("share", memory.shared)
        .with_bool("prealloc", memory.prealloc)
        .with_if(huge, "hugetlb", "on");
    Some(match memory.hugepages {
        HugePages::Of(size) => arg.with("hugetlbsize", size.bytes().to_string()),
        HugePages::No | HugePages::Default => arg,
    })
}

fn cpus(argv: &mut Argv, config: &VmConfig, host: &Host) {
    let cpu = &config.cpu;
    let best = match host.accel {
        Accel::Kvm => "host",
        Accel::Tcg => "max",
    };
    let is_said = cpu.model.is_some() || !cpu.features.is_empty();
    if is_said || config.board() != Board::None {
        let mut arg = cpu.model.as_deref().unwrap_or(best).to_owned();
        for feature in &cpu.features {
            // The form that every target has, and that is taken in this order.
            arg.push_str(&format!(",{}={}", feature.name, feature.value));
        }
        argv.verbatim("-cpu", arg);
    }
    let levels = cpu.levels().into_iter();
    let arg = levels
        .filter_map(|(level, number)| Some((level, number?)))
        .fold(
            OptArg::new("cpus", config.cpus.to_string()),
            |arg, (level, number)| arg.with(level, number.to_string()),
        );
    argv.opt("-smp", arg);
}

/// What is booted: a kernel, or what the firmware finds.
pub(super) fn boot(argv: &mut Argv, config: &VmConfig) {
    for (option, path) in [
        ("-kernel", &config.kernel),
        ("-initrd", &config.initrd),
        ("-dtb", &config.dtb),
    ] {
        if let Some(path) = path {
            argv.verbatim(option, path);
        }
    }
    if let Some(append) = &config.append {
        argv.verbatim("-append", append);
    }
    if config.boot.menu {
        argv.opt("-boot", OptArg::new("menu", "on"));
    }
}

/// What the firmware's tables say: of the system, and to programs in the guest.
pub(super) fn smbios(argv: &mut Argv, config: &VmConfig, host: &Host) {
    let mut system = config.smbios.system().peekable();
    if system.peek().is_some() {
        let arg = system.fold(OptArg::new("type", "1"), |arg, (key, text)| {
            arg.with(key, text)
        });
        argv.opt("-smbios", arg);
    }
    let mut texts = config.smbios.oem.clone();
    if let Some(cid) = cid(config, host)
        && config.board().is_pc()
    {
        let address = notify_address(cid);
        texts.push(format!("io.systemd.credential:vmm.notify_socket={address}"));
    }
    if !texts.is_empty() {
        let arg = texts.iter().fold(OptArg::new("type", "11"), |arg, text| {
            arg.with("value", text)
        });
        argv.opt("-smbios", arg);
    }
}

/// What the clock shows.
pub(super) fn clock(argv: &mut Argv, config: &VmConfig) {
    if config.rtc == Rtc::Localtime {
        argv.opt("-rtc", OptArg::new("base", "localtime"));
    }
}
