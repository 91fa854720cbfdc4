//! Host ports that lead into the guest.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::schema::{port_pattern, text_schema};
use super::text;

/// One forwarded port, written `[tcp:|udp:][HOST-ADDRESS:]HOST-PORT:GUEST-PORT`.
///
/// Without an address it listens on 127.0.0.1 only: reachable from other
/// machines is something to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Forward {
    /// What is forwarded: connections or datagrams.
    pub protocol: Protocol,
    /// Address of the host to listen on.
    pub host_address: Ipv4Addr,
    /// Port of the host to listen on.
    pub host_port: NonZeroU16,
    /// Port of the guest to connect to.
    pub guest_port: NonZeroU16,
}

/// A part of an IPv4 address, 0 to 255.
macro_rules! octet {
    () => {
        "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    };
}

text_schema!(
    Forward,
    concat!(
        r"^(tcp:|udp:)?(\[*",
        octet!(),
        r"(\.",
        octet!(),
        r"){3}\]*:)?",
        port_pattern!(),
        ":",
        port_pattern!(),
        "$"
    ),
    ["2222:22", "udp:5353:53"]
);

/// The protocols that QEMU's user network forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A text that is not a forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidForward {
    /// Not of the form.
    #[error(
        "`{}` is not a forward: write HOST-PORT:GUEST-PORT, as in \"2222:22\", \"0.0.0.0:8080:80\" or \"udp:5353:53\"",
        .0.escape_debug()
    )]
    Malformed(String),
    /// A port that is not 1 to 65535.
    #[error("`{}` is not a port: ports are 1 to 65535", .0.escape_debug())]
    Port(String),
    /// An IPv6 address.
    #[error("`{0}` cannot be forwarded: QEMU's user network forwards IPv4 addresses only")]
    Ipv6(IpAddr),
}

impl FromStr for Forward {
    type Err = InvalidForward;

    fn from_str(s: &str) -> Result<Self, InvalidForward> {
        let malformed = || InvalidForward::Malformed(s.to_owned());
        let (protocol, rest) = match s.split_once(':') {
            Some(("tcp", rest)) => (Protocol::Tcp, rest),
            Some(("udp", rest)) => (Protocol::Udp, rest),
            _ => (Protocol::Tcp, s),
        };
        let (rest, guest_port) = rest.rsplit_once(':').ok_or_else(malformed)?;
        let (address, host_port) = match rest.rsplit_once(':') {
            Some((address, port)) => (Some(address), port),
            None => (None, rest),
        };
        let host_address = match address {
            None => Ipv4Addr::LOCALHOST,
            Some(text) => match text.trim_start_matches('[').trim_end_matches(']').parse() {
                Ok(IpAddr::V4(address)) => address,
                Ok(address) => return Err(InvalidForward::Ipv6(address)),
                Err(_) => return Err(malformed()),
            },
        };
        Ok(Self {
            protocol,
            host_address,
            host_port: port(host_port)?,
            guest_port: port(guest_port)?,
        })
    }
}

fn port(text: &str) -> Result<NonZeroU16, InvalidForward> {
    text.parse()
        .map_err(|_| InvalidForward::Port(text.to_owned()))
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            host_address,
            host_port,
            guest_port,
        } = self;
        write!(f, "{protocol}:{host_address}:{host_port}:{guest_port}")
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl<'de> Deserialize<'de> for Forward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "a forward such as \"2222:22\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_listen_on_the_loopback_unless_told_otherwise() {
        for (text, shown) in [
            ("2222:22", "tcp:127.0.0.1:2222:22"),
            ("tcp:2222:22", "tcp:127.0.0.1:2222:22"),
            ("udp:5353:53", "udp:127.0.0.1:5353:53"),
            ("0.0.0.0:8080:80", "tcp:0.0.0.0:8080:80"),
            ("udp:192.0.2.1:1:65535", "udp:192.0.2.1:1:65535"),
        ] {
            let forward: Forward = text.parse().unwrap();
            assert_eq!(forward.to_string(), shown);
            assert_eq!(shown.parse(), Ok(forward));
        }
    }

    #[test]
    fn what_is_not_a_forward_is_refused() {
        for (text, start) in [
            ("22", "`22` is not a forward"),
            ("", "`` is not a forward"),
            ("x:1:2", "`x:1:2` is not a forward"),
            ("1:2:3", "`1:2:3` is not a forward"),
            ("sctp:1:2", "`sctp:1:2` is not a forward"),
            ("0:22", "`0` is not a port"),
            ("65536:22", "`65536` is not a port"),
            ("2222:-22", "`-22` is not a port"),
            ("2222:22,id=x", "`22,id=x` is not a port"),
            ("[::1]:2222:22", "`::1` cannot be forwarded"),
        ] {
            let message = text.parse::<Forward>().unwrap_err().to_string();
            assert!(message.starts_with(start), "{text}: {message}");
        }
    }
}
