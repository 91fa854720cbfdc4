//! Devices whose state QEMU cannot write down.

use serde_json::{Value, json};

use crate::ops::{Error, Obstacle};
use crate::qmp::Client;

use super::text;

/// What QEMU gives as a reason, of a device by the name that its user knows.
pub(super) fn obstacle(monitor: &mut Client, words: String) -> Result<Obstacle, Error> {
    let id = match way(&words) {
        Some(way) => at(&monitor.execute("query-pci", ())?, way),
        None => None,
    };
    let device = id.map(|id| match id.strip_prefix("disk-") {
        Some(disk) => format!("disk `{disk}`"),
        None => format!("device `{id}`"),
    });
    Ok(Obstacle::NotSaved { device, words })
}

/// The slots and functions on the way to a PCI device, in such words as `non-migratable
/// device: 0000:00:02.0:00.0/nvme` (migration/savevm.c; hw/pci/pci.c, pcibus_get_dev_path).
fn way(words: &str) -> Option<&str> {
    let (_, device) = words.split_once("non-migratable device: ")?;
    let (path, _) = device.split_once('/')?;
    // The domain, and a bus that is always 00.
    path.splitn(3, ':').nth(2)
}

/// The id of the device there, in what `query-pci` answers: behind a bridge, only when the
/// firmware has given that a bus number.
fn at(buses: &Value, way: &str) -> Option<String> {
    let mut devices = &buses.as_array()?.iter().find(|bus| bus["bus"] == 0)?["devices"];
    let mut found = &Value::Null;
    for step in way.split(':') {
        let (slot, function) = step.split_once('.')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let (slot, function) = (json!(number(slot)?), json!(number(function)?));
        let is_it = |it: &&Value| it["slot"] == slot && it["function"] == function;
        found = devices.as_array()?.iter().find(is_it)?;
        devices = &found["pci_bridge"]["devices"];
    }
    Some(text(&found["qdev_id"])).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{at, way};

    #[test]
    fn a_device_is_found_by_the_way_to_it() {
        let behind = json!([{ "slot": 0, "function": 0, "qdev_id": "disk-b" }]);
        let buses = json!([{ "bus": 0, "devices": [
            { "slot": 2, "function": 0, "qdev_id": "port", "pci_bridge": { "devices": behind } },
            { "slot": 26, "function": 1, "qdev_id": "disk-a" },
            { "slot": 3, "function": 0, "qdev_id": "" },
        ]}]);
        let named = |words| at(&buses, way(words)?);
        let found = |words| named(words).unwrap_or_default();
        assert_eq!(found("non-migratable device: 0000:00:1a.1/nvme"), "disk-a");
        assert_eq!(
            found("non-migratable device: 0000:00:02.0:00.0/nvme"),
            "disk-b"
        );
        for other in [
            "non-migratable device: 0000:00:03.0/nvme",
            "non-migratable device: 0000:00:04.0/nvme",
            "non-migratable device: usb-mtp",
            "Migration is disabled",
        ] {
            assert_eq!(named(other), None);
        }
    }
}
