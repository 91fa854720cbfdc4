//! Where the devices of a running machine are.

use serde_json::{Value, json};

use crate::address::{Address, Addresses, pci};
use crate::ops::Error;
use crate::qmp::Client;

use super::text;

/// Properties that say where a device is on its bus, and that a machine whose command line
/// does not say them gives it: of SCSI devices and of virtio ports. What says it of a PCI
/// device and of a USB device is read in its own way.
const PLACES: [&str; 4] = ["channel", "scsi-id", "lun", "nr"];

/// Where the devices are that have ids.
pub(in crate::ops) fn of_machine(monitor: &mut Client) -> Result<Addresses, Error> {
    let mut usb_ports = None;
    let mut found = Vec::new();
    for id in devices(monitor)? {
        let path = path(&id);
        let properties = monitor.execute("qom-list", json!({ "path": path }))?;
        let names = properties.as_array().into_iter().flatten();
        let names: Vec<String> = names.map(|it| text(&it["name"])).collect();
        let has = |name: &str| names.iter().any(|it| it == name);
        let mut address = Address::new();
        let get = |monitor: &mut Client, name: &str| {
            monitor.execute("qom-get", json!({ "path": path, "property": name }))
        };
        for name in PLACES.into_iter().filter(|name| has(name)) {
            address.insert(name.to_owned(), plain(&get(monitor, name)?));
        }
        // All PCI devices have that: `addr` is of others as well.
        if has("addr") && has("multifunction") {
            let value = get(monitor, "addr")?;
            let text = value.as_u64().map_or_else(|| plain(&value), pci);
            address.insert("addr".to_owned(), text);
        }
        if has("port") && has("msos-desc") {
            if usb_ports.is_none() {
                let answer = json!({ "command-line": "info usb" });
                usb_ports = Some(text(&monitor.execute("human-monitor-command", answer)?));
            }
            if let Some(port) = usb_port(usb_ports.as_deref().unwrap_or_default(), &id) {
                address.insert("port".to_owned(), port.to_owned());
            }
        }
        found.push((id, address));
    }
    Ok(found.into_iter().collect())
}

/// The ids of devices.
pub(super) fn devices(monitor: &mut Client) -> Result<Vec<String>, Error> {
    let devices = monitor.execute("qom-list", json!({ "path": "/machine/peripheral" }))?;
    let devices = devices.as_array().into_iter().flatten().filter(|entry| {
        let kind = entry["type"].as_str();
        kind.is_some_and(|kind| kind.starts_with("child<"))
    });
    Ok(devices.map(|entry| text(&entry["name"])).collect())
}

/// Where a device is among QEMU's objects.
pub(super) fn path(id: &str) -> String {
    format!("/machine/peripheral/{id}")
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The port of a USB device in what `info usb` prints (hw/usb/bus.c, hmp_info_usb):
/// `  Device 0.1, Port 2, Speed 480 Mb/s, Product QEMU USB Tablet, ID: tablet`.
fn usb_port<'a>(printed: &'a str, id: &str) -> Option<&'a str> {
    let mut lines = printed.lines();
    // What a device calls itself may be anything; its id comes last.
    let line = lines.find(|line| {
        let last = line.trim_end().rsplit_once(", ID: ");
        last.is_some_and(|(_, last)| last == id)
    })?;
    let (_, rest) = line.split_once(", Port ")?;
    Some(rest.split_once(',')?.0)
}

#[cfg(test)]
mod tests {
    use super::usb_port;

    #[test]
    fn the_port_of_a_usb_device_is_in_its_line() {
        let printed = "  Device 0.1, Port 1, Speed 480 Mb/s, Product QEMU USB Tablet, ID: tab\r\n  \
             Device 0.2, Port 2, Speed 12 Mb/s, Product QEMU USB Hub\r\n  \
             Device 0.3, Port 2.1, Speed 480 Mb/s, Product A, Port 9, ID: tab, ID: stick\r\n";
        assert_eq!(usb_port(printed, "tab"), Some("1"));
        assert_eq!(usb_port(printed, "stick"), Some("2.1"));
        assert_eq!(usb_port(printed, "other"), None);
    }
}
