//! What a VM is called.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// The name of a VM: also a directory name and part of a unit name.
///
/// 1 to 63 characters, `[A-Za-z0-9][A-Za-z0-9_-]*`: needs no escaping in a
/// path, a unit name or a D-Bus argument, and leaves `.` free for the names of
/// helper units.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VmName(String);

/// Longest name, in characters: a host name label (RFC 1035), and short enough
/// for a socket path under `/run/user`.
const MAX_LEN: usize = 63;

/// A text that cannot be the name of a VM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` cannot name a VM: use 1 to {MAX_LEN} of A-Z a-z 0-9 `-` `_`, starting with a letter or digit",
    .0.escape_debug()
)]
pub struct InvalidVmName(pub String);

impl VmName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VmName {
    type Err = InvalidVmName;

    fn from_str(s: &str) -> Result<Self, InvalidVmName> {
        let ok = s.len() <= MAX_LEN
            && s.starts_with(|c: char| c.is_ascii_alphanumeric())
            && s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if ok {
            Ok(Self(s.to_owned()))
        } else {
            Err(InvalidVmName(s.to_owned()))
        }
    }
}

impl<'de> Deserialize<'de> for VmName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for VmName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for VmName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The name of a group of VMs: part of the name of the slice that its units are in.
///
/// As a VM's name, but without `-`: in the name of a slice that is a level
/// (systemd.slice(5)), and the group `a-b` would be part of the group `a`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct GroupName(String);

/// A text that cannot be the name of a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` cannot name a group: use 1 to {MAX_LEN} of A-Z a-z 0-9 `_`, starting with a letter or digit{}",
    .0.escape_debug(),
    if .0.contains('-') { " (a `-` would nest its slice in another)" } else { "" }
)]
pub struct InvalidGroupName(pub String);

impl GroupName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = InvalidGroupName;

    fn from_str(s: &str) -> Result<Self, InvalidGroupName> {
        match s.parse::<VmName>() {
            Ok(VmName(name)) if !name.contains('-') => Ok(Self(name)),
            _ => Err(InvalidGroupName(s.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for GroupName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_no_escaping_anywhere() {
        let longest = "a".repeat(63);
        for good in ["web", "Web-2", "0", "ci_7", longest.as_str()] {
            assert_eq!(good.parse::<VmName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            "-x",
            "_x",
            "../x",
            "a/b",
            "a.b",
            "a b",
            "ä",
            "a\n",
            "a%n",
            "a$b",
            "a,b",
            "a@b",
            long.as_str(),
        ] {
            assert_eq!(
                bad.parse::<VmName>(),
                Err(InvalidVmName(bad.to_owned())),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_group_s_name_has_no_dash() {
        assert_eq!("ci_7".parse::<GroupName>().unwrap().as_str(), "ci_7");
        for (bad, nests) in [("a-b", true), ("", false), ("_x", false), ("a.b", false)] {
            let message = bad.parse::<GroupName>().unwrap_err().to_string();
            assert_eq!(message.contains("would nest"), nests, "{message}");
        }
    }

    #[test]
    fn a_bad_name_is_shown_on_one_line() {
        let message = "a\nb".parse::<VmName>().unwrap_err().to_string();
        assert!(message.starts_with("`a\\nb` cannot name a VM"), "{message}");
    }
}
