//! What a disk or a network is called within its VM.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use super::schema::text_schema;
use serde::{Deserialize, Deserializer, Serialize};

/// The name of a disk or a network: `root` in `[disk.root]`.
///
/// 1 to 20 characters, `[A-Za-z][A-Za-z0-9_-]*`: part of QEMU's ids and block
/// node names (31 bytes at most), and a disk's serial number (20 at most).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DeviceName(String);

text_schema!(DeviceName, "^[A-Za-z][A-Za-z0-9_-]{0,19}$", ["root"]);

const MAX_LEN: usize = 20;

/// A text that cannot be the name of a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` cannot name a device: use 1 to {MAX_LEN} of A-Z a-z 0-9 `-` `_`, starting with a letter",
    .0.escape_debug()
)]
pub struct InvalidDeviceName(pub String);

impl DeviceName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = InvalidDeviceName;

    fn from_str(s: &str) -> Result<Self, InvalidDeviceName> {
        let ok = s.len() <= MAX_LEN
            && s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if ok {
            Ok(Self(s.to_owned()))
        } else {
            Err(InvalidDeviceName(s.to_owned()))
        }
    }
}

impl<'de> Deserialize<'de> for DeviceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for DeviceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_parts_of_qemu_ids() {
        let longest = "a".repeat(20);
        for good in ["root", "Data-2", "a_b", longest.as_str()] {
            assert_eq!(good.parse::<DeviceName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(21);
        for bad in [
            "",
            "0",
            "-x",
            "_x",
            "a.b",
            "a,b",
            "a=b",
            "a b",
            "ä",
            "#x",
            long.as_str(),
        ] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad}");
        }
    }
}
