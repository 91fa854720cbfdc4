//! When a VM counts as up.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use regex_lite::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::schema::{port_pattern, text_schema};
use super::{TimeSpan, text};

/// When a VM counts as up, and how long that may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Ready {
    /// What must have been reached.
    pub level: ReadyLevel,
    /// How long the guest may take for it.
    pub timeout: TimeSpan,
}

impl Default for Ready {
    fn default() -> Self {
        Self {
            level: ReadyLevel::Monitor,
            timeout: TimeSpan::from_secs(120),
        }
    }
}

/// How far a VM is, written `monitor`, `agent`, `notify`, `tcp:PORT` or
/// `console:/REGEX/`.
#[derive(Clone, Debug)]
pub enum ReadyLevel {
    /// QEMU has taken its arguments; the guest may not have run at all.
    Monitor,
    /// The guest agent answers.
    Agent,
    /// The guest's systemd has said over vsock that it is up.
    Notify,
    /// Something in the guest accepts connections on this TCP port, which must be forwarded.
    Tcp(NonZeroU16),
    /// The guest has printed on its console what the expression matches.
    Console(Regex),
}

text_schema!(
    ReadyLevel,
    concat!(
        "^(monitor|agent|notify|tcp:",
        port_pattern!(),
        r"|console:/[\s\S]*/)$"
    ),
    ["agent", "tcp:22", "console:/login:/"]
);

/// A text that names no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReadyLevel {
    /// None of the words.
    #[error(
        "`{}` is no level: write \"monitor\", \"agent\", \"notify\", \"tcp:22\" or \"console:/login:/\"",
        .0.escape_debug()
    )]
    Unknown(String),
    /// Not a port.
    #[error("`{}` is not a port: ports are 1 to 65535", .0.escape_debug())]
    Port(String),
    /// Not a regular expression.
    #[error("`{}` is not a regular expression: {reason}", .text.escape_debug())]
    Regex {
        /// The expression.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl FromStr for ReadyLevel {
    type Err = InvalidReadyLevel;

    fn from_str(s: &str) -> Result<Self, InvalidReadyLevel> {
        let unknown = || InvalidReadyLevel::Unknown(s.to_owned());
        match s.split_once(':') {
            None if s == "monitor" => Ok(Self::Monitor),
            None if s == "agent" => Ok(Self::Agent),
            None if s == "notify" => Ok(Self::Notify),
            Some(("tcp", port)) => port
                .parse()
                .map(Self::Tcp)
                .map_err(|_| InvalidReadyLevel::Port(port.to_owned())),
            Some(("console", text)) => {
                let text = text
                    .strip_prefix('/')
                    .and_then(|text| text.strip_suffix('/'));
                let text = text.ok_or_else(unknown)?;
                Regex::new(text)
                    .map(Self::Console)
                    .map_err(|error| InvalidReadyLevel::Regex {
                        text: text.to_owned(),
                        reason: error.to_string(),
                    })
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for ReadyLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Monitor => f.write_str("monitor"),
            Self::Agent => f.write_str("agent"),
            Self::Notify => f.write_str("notify"),
            Self::Tcp(port) => write!(f, "tcp:{port}"),
            Self::Console(regex) => write!(f, "console:/{regex}/"),
        }
    }
}

impl PartialEq for ReadyLevel {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Serialize for ReadyLevel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReadyLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "a level such as \"agent\" or \"tcp:22\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written() {
        for text in [
            "monitor",
            "agent",
            "notify",
            "tcp:22",
            "console:/login: $/",
            "console:/a/b/",
        ] {
            assert_eq!(text.parse::<ReadyLevel>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_level_is_said_with_what_is() {
        for (text, words) in [
            ("", "`` is no level"),
            ("ssh", "write \"monitor\""),
            ("tcp", "is no level"),
            ("tcp:0", "`0` is not a port"),
            ("tcp:70000", "`70000` is not a port"),
            ("console:login", "is no level"),
            ("console:/(/", "`(` is not a regular expression"),
            ("agent:1", "is no level"),
        ] {
            let said = text.parse::<ReadyLevel>().unwrap_err().to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
