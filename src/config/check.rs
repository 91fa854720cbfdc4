//! What cannot be, although each value by itself is well-formed.

use super::cpu::check_cpus;
use super::device::{is_own_id, is_property};
use super::path::is_device_node;
use super::{AccelChoice, Board, Interface, Protocol, ReadyLevel, Size, TimeSpan, VmConfig};
use super::{audio, balloon, display, host_port, input, port, rng, smbios, watchdog};
use crate::vm::VmName;

/// The faults of a definition, each with the key that is to blame.
#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<(String, String)>);

impl Faults {
    pub(super) fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push((key.into(), message.into()));
    }

    pub(super) fn add_if(
        &mut self,
        fault: bool,
        key: impl Into<String>,
        message: impl Into<String>,
    ) {
        if fault {
            self.add(key, message);
        }
    }
}

/// All that is wrong with a definition.
pub(super) fn faults(config: &VmConfig) -> Faults {
    let mut faults = Faults::default();
    if let Err(message) = check_machine(&config.machine) {
        faults.add("machine", message);
    }
    if let Err(message) = check_cpus(config.cpus) {
        faults.add("cpus", message);
    }
    config.cpu.check(config.cpus, &mut faults);
    faults.add_if(
        matches!(config.board(), Board::Microvm | Board::None)
            && config.cpu.dies.is_some_and(|dies| dies > 1),
        "cpu.dies",
        format!("machine `{}` has one die in a socket", config.machine),
    );
    config.memory.check(&mut faults);
    config.boot.check(config, &mut faults);
    let no_kernel = config.kernel.is_none();
    faults.add_if(
        no_kernel && config.initrd.is_some(),
        "initrd",
        "`initrd` needs a `kernel`",
    );
    faults.add_if(
        no_kernel && config.append.is_some(),
        "append",
        "`append` needs a `kernel`",
    );
    faults.add_if(
        no_kernel && config.dtb.is_some(),
        "dtb",
        "`dtb` needs a `kernel`",
    );
    balloon::check(config, &mut faults);
    display::check(config, &mut faults);
    port::check(config, &mut faults);
    audio::check(config, &mut faults);
    input::check(config, &mut faults);
    rng::check(config, &mut faults);
    watchdog::check(config, &mut faults);
    smbios::check(config, &mut faults);
    for (key, names) in [("after", &config.after), ("requires", &config.requires)] {
        let itself = names.contains(&config.name);
        faults.add_if(itself, key, "a VM cannot come after itself");
    }
    let alone = config.before().next().is_none();
    faults.add_if(
        alone && config.start_delay > TimeSpan::default(),
        "start-delay",
        "`start-delay` is counted from the start of other VMs: name them in `after` or `requires`",
    );
    check_labels(config, &mut faults);
    check_disks(config, &mut faults);
    check_boot_indexes(config, &mut faults);
    check_nets(config, &mut faults);
    host_port::check(config, &mut faults);
    check_devices(config, &mut faults);
    check_passthrough(config, &mut faults);
    let message = format!("machine `{}` cannot have a vsock device", config.machine);
    let nowhere = config.board() == Board::None;
    faults.add_if(nowhere && config.vsock.is_some(), "vsock", message);
    check_ready(config, &mut faults);
    faults
}

/// What could not be written as `KEY=VALUE` on a command line, or be shown on one line.
fn check_labels(config: &VmConfig, faults: &mut Faults) {
    for (key, value) in &config.labels {
        // The same alphabet as for the name of a VM.
        if key.parse::<VmName>().is_err() {
            let message = format!(
                "`{}` cannot be a label: use 1 to 63 of A-Z a-z 0-9 `-` `_`, starting with a letter or digit",
                key.escape_debug()
            );
            faults.add(format!("labels.{key}"), message);
        }
        faults.add_if(
            value.contains(char::is_control),
            format!("labels.{key}"),
            "the value of a label is one line of text",
        );
    }
}

/// A level that could never be seen.
fn check_ready(config: &VmConfig, faults: &mut Faults) {
    let forwards = config.nets.values().flat_map(|net| &net.forward);
    let message = match config.ready.level {
        ReadyLevel::Agent if !config.agent => "there is no guest agent: `agent` is off".to_owned(),
        ReadyLevel::Console(_) if !config.serial => {
            "there is no serial console: `serial` is off".to_owned()
        }
        ReadyLevel::Notify if config.vsock.is_none() => {
            "there is nothing to notify over: `vsock` is off".to_owned()
        }
        ReadyLevel::Tcp(port)
            if !forwards
                .into_iter()
                .any(|it| it.protocol == Protocol::Tcp && it.guest_port == port) =>
        {
            format!("no forward leads to port {port} of the guest")
        }
        _ => return,
    };
    faults.add("ready.level", message);
}

fn check_disks(config: &VmConfig, faults: &mut Faults) {
    let machine = &config.machine;
    let mut sata = 0;
    for (i, (name, disk)) in config.disks.iter().enumerate() {
        let table = || format!("disk.{name}");
        let key = |last: &str| format!("disk.{name}.{last}");
        match (&disk.file, disk.size, disk.interface) {
            (None, None, _) if disk.is_empty_drive() => {}
            (None, None, _) => faults.add(table(), "a disk needs a `file`, a `size` or both"),
            (Some(file), Some(_), _) if is_device_node(file) => {
                faults.add(key("size"), "a device has the size that it has");
            }
            _ => {}
        }
        let made_and_read = disk.size.is_some() && disk.read_only;
        faults.add_if(
            made_and_read,
            key("size"),
            "a disk that is only read cannot be made",
        );
        let empty = disk.size == Some(Size::from_bytes(0));
        faults.add_if(empty, key("size"), "a disk cannot be empty");

        for (last, message) in disk.faults() {
            faults.add(key(&last), message);
        }
        // virtio-mmio has no ioeventfd without KVM, and a thread needs one (hw/virtio/virtio-mmio.c).
        faults.add_if(
            config.board() == Board::Microvm
                && config.accel != AccelChoice::Kvm
                && disk.iothread(name).is_some(),
            key("iothread"),
            "on `microvm` only KVM has threads for disks: say `accel = \"kvm\"`",
        );
        let fits = config.board().has_interface(disk.interface);
        let message = format!("machine `{machine}` cannot have this interface");
        faults.add_if(!fits, key("interface"), message);
        let read_only_sata = disk.interface == Interface::Sata && disk.read_only;
        let message = "a SATA disk cannot be read-only: use another interface";
        faults.add_if(read_only_sata, key("read-only"), message);
        sata += u32::from(matches!(disk.interface, Interface::Sata | Interface::Cdrom));
        faults.add_if(
            sata == 7,
            table(),
            "a machine has six SATA ports, for disks and CD-ROMs",
        );

        let twin = config.disks.iter().take(i).find(|(_, other)| {
            disk.file.is_some() && disk.file == other.file && !(disk.read_only && other.read_only)
        });
        if let Some((other, _)) = twin {
            faults.add(key("file"), format!("disk `{other}` has the same file"));
        }
    }
}

/// QEMU refuses two of the same.
fn check_boot_indexes(config: &VmConfig, faults: &mut Faults) {
    let disks = config.disks.iter();
    let disks = disks.filter_map(|(name, disk)| Some((format!("disk.{name}"), disk.boot_index?)));
    let nets = config.nets.iter();
    let nets = nets.filter_map(|(name, net)| Some((format!("net.{name}"), net.boot_index?)));
    let indexes: Vec<(String, u16)> = disks.chain(nets).collect();
    for (i, (table, index)) in indexes.iter().enumerate() {
        if let Some((other, _)) = indexes[..i].iter().find(|(_, it)| it == index) {
            let message = format!("`{other}` has the same place");
            faults.add(format!("{table}.boot-index"), message);
        }
        faults.add_if(
            *index == 0 && config.kernel.is_some(),
            format!("{table}.boot-index"),
            "this is the place of the `kernel`: count from 1",
        );
    }
}

fn check_nets(config: &VmConfig, faults: &mut Faults) {
    for (i, (name, net)) in config.nets.iter().enumerate() {
        let key = |last: &str| format!("net.{name}.{last}");
        for (last, message) in net.faults() {
            match last {
                "" => faults.add(format!("net.{name}"), message),
                last => faults.add(key(last), message),
            }
        }
        let message = format!("machine `{}` cannot have a NIC", config.machine);
        faults.add_if(
            config.board() == Board::None,
            format!("net.{name}"),
            message,
        );
        faults.add_if(
            config.board() == Board::Microvm && !net.model.ends_with("-device"),
            key("model"),
            "machine `microvm` has no PCI, and no NIC but `virtio-net-device`",
        );
        let mut others = config.nets.iter().take(i);
        let twin = others.find(|(_, other)| net.mac.is_some() && other.mac == net.mac);
        if let Some((other, _)) = twin {
            faults.add(
                key("mac"),
                format!("network `{other}` has the same address"),
            );
        }
    }
}

/// Devices of the host.
fn check_passthrough(config: &VmConfig, faults: &mut Faults) {
    let machine = &config.machine;
    let has_pci = config.board().has_pci();
    for (name, usb) in &config.usbs {
        let message = format!("machine `{machine}` cannot have a USB device");
        faults.add_if(!has_pci, format!("usb.{name}"), message);
        match usb.fault() {
            Some(("", message)) => faults.add(format!("usb.{name}"), message),
            Some((key, message)) => faults.add(format!("usb.{name}.{key}"), message),
            None => {}
        }
    }
    for (i, (name, pci)) in config.pcis.iter().enumerate() {
        let message = format!("machine `{machine}` cannot have a PCI device");
        faults.add_if(!has_pci, format!("pci.{name}"), message);
        let mut others = config.pcis.iter().take(i);
        if let Some((other, _)) = others.find(|(_, other)| other.address == pci.address) {
            let message = format!("`pci.{other}` is the same device");
            faults.add(format!("pci.{name}.address"), message);
        }
    }
}

fn check_devices(config: &VmConfig, faults: &mut Faults) {
    for (name, device) in &config.devices {
        let table = format!("device.{name}");
        faults.add_if(
            is_own_id(name.as_str()),
            &table,
            format!("maqet itself calls a device `{name}`: use another name"),
        );
        faults.add_if(
            device.driver().is_empty(),
            &table,
            "a device needs a `driver`, such as \"usb-tablet\"",
        );
        for (key, _) in device.properties().filter(|(key, _)| !is_property(key)) {
            let message = match key {
                "id" => format!("the id of the device is its name, `{name}`"),
                _ => format!("`{}` is no property of a device", key.escape_debug()),
            };
            faults.add(format!("{table}.{key}"), message);
        }
    }
}

pub(super) fn check_machine(machine: &str) -> Result<(), &'static str> {
    (!machine.is_empty())
        .then_some(())
        .ok_or("the machine type cannot be empty")
}
