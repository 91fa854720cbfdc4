//! Ports of the host that a VM listens on.

use std::fmt;
use std::net::IpAddr;

use super::check::Faults;
use super::{DisplayKind, Forward, Listen, Loopback, Protocol, VmConfig};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Connections or datagrams.
    pub protocol: Protocol,
    /// The address that is listened on.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Whether both would listen on the same port of the host.
    pub fn collides_with(&self, other: &Self) -> bool {
        let is_any = self.address.is_unspecified() || other.address.is_unspecified();
        self.protocol == other.protocol
            && self.port == other.port
            // Of IPv6 there is the loopback alone.
            && (self.address == other.address || is_any && self.is_ipv4() == other.is_ipv4())
    }

    fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            address,
            port,
        } = self;
        write!(f, "port {port} ({protocol}, {address})")
    }
}

impl From<&Forward> for HostPort {
    fn from(forward: &Forward) -> Self {
        Self {
            protocol: forward.protocol,
            address: forward.host_address.into(),
            port: forward.host_port.get(),
        }
    }
}

impl From<Loopback> for HostPort {
    fn from(address: Loopback) -> Self {
        Self {
            protocol: Protocol::Tcp,
            address: address.ip(),
            port: address.port(),
        }
    }
}

impl VmConfig {
    /// The ports of the host that it listens on, with the keys that say so.
    pub fn host_ports(&self) -> impl Iterator<Item = (String, HostPort)> {
        let nets = self.nets.iter().flat_map(|(name, net)| {
            let forwards = net.forward.iter().map(HostPort::from).enumerate();
            forwards.map(move |(i, port)| (format!("net.{name}.forward.{i}"), port))
        });
        let ports = self.ports.iter().filter_map(|(name, port)| {
            let port = HostPort::from(port.tcp?);
            Some((format!("port.{name}.tcp"), port))
        });
        let display = match self.display.listen {
            Listen::Tcp(address) if self.display.kind != DisplayKind::None => {
                Some(("display.listen".to_owned(), address.into()))
            }
            _ => None,
        };
        nets.chain(ports).chain(display)
    }
}

/// The key of a list that `key` is an item of; else `key` itself.
pub fn without_index(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((list, index)) if index.parse::<usize>().is_ok() => list,
        _ => key,
    }
}

pub(super) fn check(config: &VmConfig, faults: &mut Faults) {
    let mut earlier: Vec<(String, HostPort)> = Vec::new();
    for (key, port) in config.host_ports() {
        if let Some((other, _)) = earlier.iter().find(|(_, it)| it.collides_with(&port)) {
            let number = port.port;
            let other = without_index(other);
            faults.add(
                &key,
                format!("`{other}` has port {number} of the host already"),
            );
        }
        earlier.push((key, port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_host_port_collides() {
        let forward = |text: &str| HostPort::from(&text.parse::<Forward>().unwrap());
        let listen = |text: &str| HostPort::from(text.parse::<Loopback>().unwrap());
        assert!(forward("80:1").collides_with(&forward("0.0.0.0:80:2")));
        assert!(!forward("80:1").collides_with(&forward("udp:80:1")));
        assert!(!forward("127.0.0.1:80:1").collides_with(&forward("127.0.0.2:80:1")));
        assert!(forward("80:1").collides_with(&listen("127.0.0.1:80")));
        assert!(forward("0.0.0.0:80:1").collides_with(&listen("127.0.0.1:80")));
        assert!(!forward("0.0.0.0:80:1").collides_with(&listen("[::1]:80")));
    }
}
