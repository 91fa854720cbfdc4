//! Further ports of the guest that bytes go through, each with an end on the host.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::Faults;
use super::schema::{port_pattern, text_schema};
use super::{Board, DeviceName, DisplayKind, VmConfig, text};

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Port {
    /// What the guest sees.
    #[serde(rename = "type")]
    pub kind: PortKind,
    /// What the guest calls a `virtio-port`; by default the port's own name.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// A file that what the guest writes is appended to.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub file: Option<PathBuf>,
    /// An address of the loopback to listen on.
    #[serde(default)]
    pub tcp: Option<Loopback>,
    /// Whether the end on the host is a terminal.
    #[serde(default)]
    pub pty: bool,
}

/// What the guest sees of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PortKind {
    /// A serial port.
    Serial,
    /// A console of virtio-serial: Linux' `hvc0` and so on.
    Virtio,
    /// A port of virtio-serial that programs open by its name.
    VirtioPort,
}

/// An address that only programs of the host reach, written `127.0.0.1:PORT` or `[::1]:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loopback(SocketAddr);

/// A text that is not such an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLoopback {
    /// Not an address and a port.
    #[error(
        "`{}` is not an address and a port: write \"127.0.0.1:5901\" or \"[::1]:5901\"",
        .0.escape_debug()
    )]
    Malformed(String),
    /// An address that others reach.
    #[error(
        "`{0}` can be reached from other machines, which anyone there could then use: \
         write \"127.0.0.1\" or \"[::1]\", and come through a tunnel such as `ssh -L`"
    )]
    Open(IpAddr),
}

impl Loopback {
    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The port.
    pub fn port(self) -> u16 {
        self.0.port()
    }
}

impl FromStr for Loopback {
    type Err = InvalidLoopback;

    fn from_str(s: &str) -> Result<Self, InvalidLoopback> {
        match s.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => Err(InvalidLoopback::Malformed(s.to_owned())),
            Ok(address) if !address.ip().is_loopback() => Err(InvalidLoopback::Open(address.ip())),
            Ok(address) => Ok(Self(address)),
            Err(_) => Err(InvalidLoopback::Malformed(s.to_owned())),
        }
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_schema!(
    Loopback,
    concat!(
        r"^(127(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}|\[[0:]+1\]):",
        port_pattern!(),
        "$"
    ),
    ["127.0.0.1:5901", "[::1]:5901"]
);

impl Serialize for Loopback {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Loopback {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "an address such as \"127.0.0.1:5901\"")
    }
}

impl Port {
    /// What the guest calls a `virtio-port` that the definition calls `name`.
    pub fn channel<'a>(&'a self, name: &'a DeviceName) -> &'a str {
        self.name.as_deref().unwrap_or(name.as_str())
    }

    /// Whether what the guest writes is kept in a log of maqet's, besides what reads it.
    ///
    /// QEMU throws away what goes through a `virtio-port` that nobody has open
    /// (hw/char/virtio-serial-bus.c), which is no text either.
    pub fn has_log(&self) -> bool {
        self.file.is_none() && self.kind != PortKind::VirtioPort
    }

    /// Whether its end on the host is a socket in the runtime directory.
    pub fn has_socket(&self) -> bool {
        self.file.is_none() && self.tcp.is_none() && !self.pty
    }
}

/// The sockets of the runtime directory that are not a port's.
const TAKEN: [&str; 8] = [
    "agent", "ctl", "events", "qmp", "serial", "spice", "user", "vnc",
];

/// A PC has four serial ports.
const SERIAL_PORTS: usize = 4;

pub(super) fn check(config: &VmConfig, faults: &mut Faults) {
    let board = config.board();
    let mut serial = usize::from(config.serial);
    let mut channels: Vec<&str> = Vec::new();
    if config.agent {
        channels.push("org.qemu.guest_agent.0");
    }
    if config.display.kind == DisplayKind::Spice {
        channels.push("com.redhat.spice.0");
    }
    for (name, port) in &config.ports {
        let table = format!("port.{name}");
        let ends = [port.file.is_some(), port.tcp.is_some(), port.pty];
        faults.add_if(
            ends.iter().filter(|it| **it).count() > 1,
            &table,
            "a port has one end on the host: `file`, `tcp` or `pty`, or without any its socket",
        );
        let mut disks = config.disks.values();
        faults.add_if(
            port.file.is_some() && disks.any(|disk| disk.file == port.file),
            format!("{table}.file"),
            "the file is a disk's, and nothing is to be printed into it",
        );
        faults.add_if(
            TAKEN.contains(&name.as_str()) && port.has_socket(),
            &table,
            format!("maqet itself has a socket called `{name}.sock`: use another name"),
        );
        faults.add_if(
            port.name.is_some() && port.kind != PortKind::VirtioPort,
            format!("{table}.name"),
            "only a `virtio-port` has a name in the guest",
        );
        let channel = port.channel(name);
        faults.add_if(
            channel.is_empty(),
            format!("{table}.name"),
            "a name has one character at least",
        );
        if port.kind == PortKind::VirtioPort {
            faults.add_if(
                channels.contains(&channel),
                match port.name {
                    Some(_) => format!("{table}.name"),
                    None => table.clone(),
                },
                format!(
                    "the guest has a port called `{}` already",
                    channel.escape_debug()
                ),
            );
            channels.push(channel);
        }
        let machine = &config.machine;
        faults.add_if(
            board == Board::None,
            &table,
            format!("machine `{machine}` cannot have a port"),
        );
        if port.kind == PortKind::Serial {
            serial += 1;
            let most = match board {
                Board::Q35 | Board::Pc => SERIAL_PORTS,
                Board::Microvm => 1,
                Board::Pci | Board::None => usize::MAX,
            };
            faults.add_if(
                serial.checked_sub(1) == Some(most),
                &table,
                format!("machine `{machine}` has no more serial ports: `type = \"virtio\"` is a console, too"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_is_listened_on() {
        for text in ["127.0.0.1:5901", "[::1]:1", "127.1.2.3:65535"] {
            assert_eq!(text.parse::<Loopback>().unwrap().to_string(), text);
        }
        for (text, words) in [
            ("", "is not an address"),
            ("5901", "is not an address"),
            ("localhost:5901", "is not an address"),
            ("127.0.0.1", "is not an address"),
            ("127.0.0.1:0", "is not an address"),
            ("127.0.0.1:70000", "is not an address"),
            ("::1:5901", "is not an address"),
            ("0.0.0.0:5901", "reached from other machines"),
            ("[::]:5901", "reached from other machines"),
            ("192.0.2.1:5901", "reached from other machines"),
        ] {
            let said = text.parse::<Loopback>().unwrap_err().to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
