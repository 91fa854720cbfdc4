//! Where the devices of a machine are on its buses.
//!
//! QEMU gives each device that has no address of its own the first that is free, in the
//! order of the command line. Memory that is saved says of each device where it was: it
//! can be loaded by a machine alone that has them at the same places, whatever was removed
//! from the one that was saved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Devices by their ids, and of each the properties that say where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Addresses(BTreeMap<String, Address>);

/// The properties that say where a device is on its bus, as the command line has them:
/// `addr`, `scsi-id`, `port` …
pub type Address = BTreeMap<String, String>;

impl Addresses {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there was such a device.
    pub fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// What says where a device was.
    pub fn of(&self, id: &str) -> Option<&Address> {
        self.0.get(id)
    }

    /// How these differ from where devices are `now`, in words.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut words = Vec::new();
        for (id, was) in &self.0 {
            match now.0.get(id) {
                None => words.push(format!("it had the device `{id}`")),
                Some(is) if is != was => words.push(format!(
                    "device `{id}` was at {} and is at {}",
                    text(was),
                    text(is)
                )),
                Some(_) => {}
            }
        }
        words
    }
}

impl FromIterator<(String, Address)> for Addresses {
    fn from_iter<T: IntoIterator<Item = (String, Address)>>(devices: T) -> Self {
        Self(devices.into_iter().collect())
    }
}

fn text(address: &Address) -> String {
    let pairs: Vec<String> = address
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// A place on a PCI bus, as the command line has it; QEMU counts slots of 8 functions each.
pub fn pci(number: u64) -> String {
    format!("{:02x}.{:x}", number >> 3, number & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        let of = |id: &str, key: &str, value: &str| {
            let address = Address::from([(key.to_owned(), value.to_owned())]);
            (id.to_owned(), address)
        };
        let all = [of("nic", "addr", "1e.3"), of("disk-b", "scsi-id", "1")];
        all.into_iter().collect()
    }

    #[test]
    fn slots_have_eight_functions() {
        for (number, text) in [(0, "00.0"), (8, "01.0"), (243, "1e.3")] {
            assert_eq!(pci(number), text);
        }
    }

    #[test]
    fn what_moved_or_went_is_told_and_what_came_is_not() {
        assert!(addresses().differences(&addresses()).is_empty());
        assert!(Addresses::default().differences(&addresses()).is_empty());
        let moved = Address::from([("addr".to_owned(), "02.0".to_owned())]);
        let now = [("nic".to_owned(), moved)].into_iter().collect();
        assert_eq!(
            addresses().differences(&now),
            [
                "it had the device `disk-b`",
                "device `nic` was at addr=1e.3 and is at addr=02.0"
            ]
        );
    }
}
