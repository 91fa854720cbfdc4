//! Hardware addresses of NICs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::schema::text_schema;
use super::text;

/// The hardware address of one NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

text_schema!(
    Mac,
    "^(?!00:00:00:00:00:00$)[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$",
    ["52:54:00:12:34:56"]
);

/// A text that is not the address of one NIC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMac {
    /// Not six pairs of hexadecimal digits.
    #[error("`{}` is not a MAC address: write six pairs of hexadecimal digits, as in \"52:54:00:12:34:56\"", .0.escape_debug())]
    Malformed(String),
    /// An address of many NICs, or of none.
    #[error(
        "`{0}` is not the address of one NIC: make its first pair even, as in \"52:54:00:12:34:56\""
    )]
    NotUnicast(Mac),
}

impl Mac {
    /// An address out of its bytes.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The address of NIC `nic` in the VM with this UUID: always the same one.
    ///
    /// In 52:54:00, QEMU's range. Three bytes of hash: two VMs may meet, but
    /// seldom (100 NICs on one link: once in 3,400).
    pub fn derive(uuid: &str, nic: &str) -> Self {
        // FNV-1a, written out because its result must never change.
        let hash = [uuid, "/", nic]
            .iter()
            .flat_map(|part| part.bytes())
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        let folded = hash ^ (hash >> 32);
        let [.., a, b, c] = folded.to_be_bytes();
        Self([0x52, 0x54, 0x00, a, b, c])
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(s: &str) -> Result<Self, InvalidMac> {
        let malformed = || InvalidMac::Malformed(s.to_owned());
        let mut bytes = [0; 6];
        let mut pairs = s.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().ok_or_else(malformed)?;
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(malformed());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| malformed())?;
        }
        if pairs.next().is_some() {
            return Err(malformed());
        }
        if bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(InvalidMac::NotUnicast(Self(bytes)));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "a MAC address such as \"52:54:00:12:34:56\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_six_pairs() {
        assert_eq!(
            "52:54:00:AB:cd:01".parse::<Mac>().unwrap().to_string(),
            "52:54:00:ab:cd:01"
        );
        for bad in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52-54-00-12-34-56",
            "5:54:00:12:34:56",
            "+5:54:00:12:34:56",
            "52:54:00:12:34:5g",
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_derived_address_never_changes() {
        let uuid = "2b6a5e0c-9c1f-4a55-8f1c-0d7f6d1f2a01";
        assert_eq!(Mac::derive(uuid, "lan").to_string(), "52:54:00:ce:92:8d");
        assert_ne!(Mac::derive(uuid, "lan"), Mac::derive(uuid, "net0"));
    }
}
