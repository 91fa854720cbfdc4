//! The devices of a running VM.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::Document;
use crate::ops::{Error, Host};
use crate::qmp;
use crate::vm::VmName;

use super::Target;
use super::qemu::{ANONYMOUS, PERIPHERAL, Qemu, children};

/// One device.
#[derive(Debug, Serialize)]
pub struct Device {
    /// The id that QEMU knows it by; a path of QEMU's for one that was given none.
    pub id: String,
    /// What a definition calls it: `disk.data`, `net.lan`, or the id.
    pub name: String,
    /// Its driver; `None` for one that is in the definition only.
    pub driver: Option<String>,
    /// The bus that it is on: `hotplug0`, `pcie.0`, `usb.0`.
    pub bus: Option<String>,
    /// Its PCI address as the guest has it: `01:00.0`; `None` until it has set up its buses.
    pub address: Option<String>,
    /// Whether it is plugged.
    pub plugged: bool,
    /// Whether it was plugged after the VM had started.
    pub hotplugged: bool,
    /// Whether the definition has it.
    pub defined: bool,
    /// Whether it can be unplugged while the guest runs.
    pub unpluggable: bool,
    /// The file of a disk, or the netdev of a NIC.
    pub backing: Option<String>,
}

/// Lists the devices that have been given to a VM, not those that are part of its board.
///
/// Those that the definition has and the VM has not are at the end.
pub fn ls(host: &Host, name: &VmName) -> Result<Vec<Device>, Error> {
    let row = host.vm(name)?;
    let config = host.config(&row)?;
    let document = Document::parse(&row.definition, &host.paths.vm(name).definition())?;
    let mut qemu = Qemu::open(host, name)?;

    // QEMU reads a monitor byte by byte, at some microseconds each. So what follows
    // from a bus is asked of the bus, and what only some can have, of those.
    let monitor = &mut qemu.monitor;
    let anonymous = monitor.send("qom-list", json!({ "path": ANONYMOUS }))?;
    let pci = monitor.send("query-pci", ())?;
    let blocks = monitor.send("query-block", ())?;
    let mut found: Vec<Found> = qemu.devices.iter().map(Found::with_id).collect();
    let anonymous = children(&monitor.receive(anonymous)?);
    found.extend(anonymous.iter().map(Found::without_id));

    let paths = found.iter().map(|found| found.path.clone());
    let buses = get_all(monitor, paths, "parent_bus")?;
    let distinct: Vec<&str> = buses
        .iter()
        .filter_map(Value::as_str)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let handlers = get_all(monitor, distinct.iter().copied(), "hotplug-handler")?;
    let hot_buses: BTreeSet<&str> = distinct
        .into_iter()
        .zip(&handlers)
        .filter(|(_, handler)| handler.as_str().is_some_and(|path| !path.is_empty()))
        .map(|(bus, _)| bus)
        .collect();
    let is_hot = |bus: &Value| bus.as_str().is_some_and(|bus| hot_buses.contains(bus));
    let hot: Vec<&str> = found
        .iter()
        .zip(&buses)
        .filter(|(_, bus)| is_hot(bus))
        .map(|(found, _)| found.path.as_str())
        .collect();
    let nics: Vec<&str> = found
        .iter()
        .filter(|found| found.id.starts_with("nic-"))
        .map(|found| found.path.as_str())
        .collect();
    let pluggable = by_path(&hot, get_all(monitor, hot.iter().copied(), "hotpluggable")?);
    let hotplugged = by_path(&hot, get_all(monitor, hot.iter().copied(), "hotplugged")?);
    let netdevs = by_path(&nics, get_all(monitor, nics.iter().copied(), "netdev")?);

    let mut addresses = HashMap::new();
    // A board without PCI has no such command to answer.
    if let Some(buses) = known(monitor.receive(pci))? {
        for bus in buses.as_array().into_iter().flatten() {
            pci_addresses(bus, &mut addresses);
        }
    }
    let blocks = monitor.receive(blocks)?;

    let mut devices = Vec::new();
    for (found, bus) in found.iter().zip(&buses) {
        let path = found.path.as_str();
        let Ok(target) = found.id.parse::<Target>();
        let is = |answers: &HashMap<&str, Value>| answers.get(path) == Some(&Value::Bool(true));
        let netdev = netdevs.get(path).and_then(Value::as_str);
        devices.push(Device {
            driver: Some(found.driver.clone()),
            bus: bus
                .as_str()
                .and_then(|path| path.rsplit('/').next())
                .filter(|bus| !bus.is_empty())
                .map(str::to_owned),
            address: addresses.remove(&found.id),
            plugged: true,
            hotplugged: is(&hotplugged),
            unpluggable: is(&pluggable),
            defined: target.table().is_some_and(|table| document.says(&table))
                || matches!(&target, Target::Net(net) if config.nets.contains_key(net)),
            backing: file_behind(&blocks, path).or(netdev.map(str::to_owned)),
            name: target.to_string(),
            id: found.id.clone(),
        });
    }
    let defined = (config.disks.keys().cloned().map(Target::Disk))
        .chain(config.nets.keys().cloned().map(Target::Net))
        .chain(config.usbs.keys().cloned().map(Target::Usb))
        .chain(config.pcis.keys().cloned().map(Target::Pci))
        .chain(
            config
                .devices
                .keys()
                .map(|name| Target::Device(name.to_string())),
        );
    for target in defined {
        if !qemu.has(&target.id()) {
            devices.push(Device {
                id: target.id(),
                name: target.to_string(),
                driver: None,
                bus: None,
                address: None,
                plugged: false,
                hotplugged: false,
                defined: true,
                unpluggable: false,
                backing: None,
            });
        }
    }
    Ok(devices)
}

/// A device that QEMU has.
struct Found {
    id: String,
    path: String,
    driver: String,
}

impl Found {
    fn with_id((id, driver): (&String, &String)) -> Self {
        Self {
            id: id.clone(),
            path: format!("{PERIPHERAL}/{id}"),
            driver: driver.clone(),
        }
    }

    /// Its path does for an id.
    fn without_id((child, driver): &(String, String)) -> Self {
        let path = format!("{ANONYMOUS}/{child}");
        Self {
            id: path.clone(),
            path,
            driver: driver.clone(),
        }
    }
}

/// One property of many objects, in one round trip; null where there is none.
fn get_all(
    monitor: &mut qmp::Client,
    paths: impl Iterator<Item = impl AsRef<str>>,
    property: &str,
) -> Result<Vec<Value>, Error> {
    let mut asked = Vec::new();
    for path in paths {
        let question = json!({ "path": path.as_ref(), "property": property });
        asked.push(monitor.send("qom-get", question)?);
    }
    asked
        .into_iter()
        .map(|id| Ok(known(monitor.receive(id))?.unwrap_or_default()))
        .collect()
}

fn by_path<'a>(paths: &[&'a str], answers: Vec<Value>) -> HashMap<&'a str, Value> {
    paths.iter().copied().zip(answers).collect()
}

/// The answer; `None` if QEMU refused the question, as the device may be gone by now.
fn known(answer: Result<Value, qmp::Error>) -> Result<Option<Value>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(qmp::Error::Refused { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The addresses on a bus and on those behind its bridges, by device id.
fn pci_addresses(bus: &Value, found: &mut HashMap<String, String>) {
    for device in bus["devices"].as_array().into_iter().flatten() {
        let number = |key: &str| device[key].as_u64();
        if let (Some(id), Some(bus), Some(slot), Some(function)) = (
            device["qdev_id"].as_str(),
            number("bus"),
            number("slot"),
            number("function"),
        ) {
            found.insert(id.to_owned(), format!("{bus:02x}:{slot:02x}.{function}"));
        }
        pci_addresses(&device["pci_bridge"], found);
    }
}

/// The file of the disk that the device at `path` is.
fn file_behind(blocks: &Value, path: &str) -> Option<String> {
    // The block layer may name a device within it: `…/disk-root/virtio-backend`.
    let is_it = |qdev: &str| {
        // Or with the id alone, where the device itself has the drive.
        let its_id = path.strip_prefix(PERIPHERAL);
        let rest = qdev.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            || its_id.is_some_and(|id| id.strip_prefix('/') == Some(qdev))
    };
    let blocks = blocks.as_array().into_iter().flatten();
    let mut its = blocks.filter(|block| block["qdev"].as_str().is_some_and(is_it));
    Some(block_image(its.next()?)["filename"].as_str()?.to_owned())
}

/// The image in an element of the answer to `query-block`, below the node that has its limits.
pub(in crate::ops) fn block_image(block: &Value) -> &Value {
    let inserted = &block["inserted"];
    match inserted["drv"] == "throttle" {
        true => &inserted["image"]["backing-image"],
        false => &inserted["image"],
    }
}
