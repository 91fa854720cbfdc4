//! What a network of a definition becomes in QEMU.
//!
//! The netdev `net-NAME` is the network, the device `nic-NAME` the NIC on it.

use std::fmt::Display;
use std::path::Path;

use super::part::{Kind, Part, Setting};
use crate::config::{DeviceName, Mac, Net, NetKind};

/// A network and the NIC on it: netdev and device.
///
/// `vhost_net` is whether the host's kernel can serve the NIC behind a tap device.
pub fn parts(name: &DeviceName, net: &Net, uuid: &str, vhost_net: bool) -> [Part; 2] {
    let id = netdev_id(name);
    let mac = net.mac.unwrap_or_else(|| Mac::derive(uuid, name.as_str()));
    let mut nic = Part::device(&net.model, nic_id(name))
        .with("netdev", &id)
        .with("mac", mac.to_string());
    for (key, number) in [("bootindex", net.boot_index), ("host_mtu", net.mtu)] {
        if let Some(number) = number {
            nic = nic.set(key, Setting::Int(number.into()));
        }
    }
    let vhost = vhost_net && net.model.starts_with("virtio-net");
    [netdev(net, &id, vhost), nic]
}

/// The id of a network's NIC.
pub fn nic_id(name: impl Display) -> String {
    format!("nic-{name}")
}

/// The network that the value of a `-netdev` is of, if it is a user network of maqet's.
pub fn user_network(netdev: &str) -> Option<&str> {
    let id = netdev.strip_prefix("type=user,id=net-")?;
    Some(id.split_once(',').map_or(id, |(id, _)| id))
}

/// The id of a network's netdev.
pub fn netdev_id(name: &DeviceName) -> String {
    format!("net-{name}")
}

fn netdev(net: &Net, id: &str, vhost: bool) -> Part {
    let of_type = |kind: &str| Part::new(Kind::Netdev, "type", kind).with("id", id);
    let unix = |part: Part, side: &str, path: &Option<std::path::PathBuf>| match path {
        Some(path) => socket(part, side, path),
        None => part,
    };
    match net.kind {
        NetKind::User => user(net, of_type("user")),
        NetKind::Bridge => {
            let bridge = net.bridge.as_ref().map_or("br0", |bridge| bridge.as_str());
            of_type("bridge").with("br", bridge)
        }
        NetKind::Tap => {
            let ifname = net.ifname.as_ref().map_or("", |ifname| ifname.as_str());
            let part = of_type("tap")
                .with("ifname", ifname)
                .with("script", "no")
                .with("downscript", "no");
            match vhost {
                true => part.set("vhost", Setting::Bool(true)),
                false => part,
            }
        }
        NetKind::Stream => {
            let part = of_type("stream").set("server", Setting::Bool(net.listen.is_some()));
            unix(unix(part, "addr", &net.listen), "addr", &net.connect)
        }
        NetKind::Dgram => unix(
            unix(of_type("dgram"), "local", &net.local),
            "remote",
            &net.remote,
        ),
        NetKind::Multicast => {
            let part = of_type("dgram");
            let Some(group) = net.group.map(|group| group.address()) else {
                return part;
            };
            part.with("remote.type", "inet")
                .with("remote.host", group.ip().to_string())
                .with("remote.port", group.port().to_string())
                // Which interface it goes out of; the port is not used.
                .with("local.type", "inet")
                .with("local.host", "127.0.0.1")
                .with("local.port", "0")
        }
    }
}

fn socket(part: Part, side: &str, path: &Path) -> Part {
    part.with(&format!("{side}.type"), "unix")
        .with(&format!("{side}.path"), path)
}

fn user(net: &Net, mut part: Part) -> Part {
    for (key, value) in [("ipv4", net.ipv4), ("ipv6", net.ipv6)] {
        if let Some(value) = value {
            part = part.set(key, Setting::Bool(value));
        }
    }
    if net.restrict {
        part = part.set("restrict", Setting::Bool(true));
    }
    let text = |value: Option<&dyn ToString>| value.map(|value| value.to_string());
    let name =
        |name: &Option<crate::config::DomainName>| name.as_ref().map(|it| it.as_str().to_owned());
    for (key, value) in [
        ("net", text(net.network.as_ref().map(|it| it as _))),
        ("host", text(net.host.as_ref().map(|it| it as _))),
        ("dns", text(net.dns.as_ref().map(|it| it as _))),
        ("dhcpstart", text(net.dhcp_start.as_ref().map(|it| it as _))),
        ("hostname", name(&net.hostname)),
        ("domainname", name(&net.domain)),
    ] {
        if let Some(value) = value {
            part = part.with(key, value);
        }
    }
    let search = net.dns_search.iter().map(|it| it.as_str().to_owned());
    let forwards = net.forward.iter().map(|forward| {
        let guest = forward.guest_port;
        let host = format!(
            "{}:{}:{}",
            forward.protocol, forward.host_address, forward.host_port
        );
        format!("{host}-:{guest}")
    });
    for (key, values) in [
        ("dnssearch", search.collect::<Vec<_>>()),
        ("hostfwd", forwards.collect()),
    ] {
        if !values.is_empty() {
            part = part.set(key, Setting::Each(values));
        }
    }
    part
}
