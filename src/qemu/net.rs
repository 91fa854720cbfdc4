//! What a network of a definition becomes in QEMU.
//!
//! The netdev `net-NAME` is the network, the device `nic-NAME` the NIC on it.

use super::part::{Kind, Part, Setting};
use crate::config::{DeviceName, Mac, Net, NetKind};

/// A network and the NIC on it: netdev and device.
pub fn parts(name: &DeviceName, net: &Net, uuid: &str) -> [Part; 2] {
    let id = netdev_id(name);
    let mac = net.mac.unwrap_or_else(|| Mac::derive(uuid, name.as_str()));
    let nic = Part::device(&net.model, nic_id(name))
        .with("netdev", &id)
        .with("mac", mac.to_string());
    [netdev(net, &id), nic]
}

/// The id of a network's NIC.
pub fn nic_id(name: &DeviceName) -> String {
    format!("nic-{name}")
}

/// The id of a network's netdev.
pub fn netdev_id(name: &DeviceName) -> String {
    format!("net-{name}")
}

fn netdev(net: &Net, id: &str) -> Part {
    match net.kind {
        NetKind::User => {
            let part = Part::new(Kind::Netdev, "type", "user").with("id", id);
            let forwards = net.forward.iter().map(|forward| {
                let guest = forward.guest_port;
                let host = format!(
                    "{}:{}:{}",
                    forward.protocol, forward.host_address, forward.host_port
                );
                format!("{host}-:{guest}")
            });
            match net.forward.is_empty() {
                true => part,
                false => part.set("hostfwd", Setting::Each(forwards.collect())),
            }
        }
    }
}
