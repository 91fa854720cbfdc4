//! A user network and the NIC on it, which are two options of QEMU and one table here.

use toml::de::{DeArray, DeValue};

use super::option::Opt;
use super::{Converter, text};
use crate::config::{DeviceName, Mac};

/// What a pair of `-netdev user` and `-device` says, if our keys can say all of it.
struct UserNet {
    id: String,
    model: String,
    mac: Option<String>,
    forwards: Vec<String>,
}

impl<'a> Converter<'_, 'a> {
    /// Takes out the pairs that become `[net.ID]`; the others stay.
    pub(super) fn networks(&mut self, mut options: Vec<Opt>) -> Vec<Opt> {
        let netdevs: Vec<usize> = (0..options.len())
            .filter(|&i| options[i].name == "netdev")
            .collect();
        let mut taken = Vec::new();
        for netdev in netdevs {
            let Some((nic, net)) = user_net(&options, netdev) else {
                continue;
            };
            let span = options[netdev].span.clone();
            let key = |last: &str| format!("net.{}.{last}", net.id);
            if !net.forwards.is_empty() {
                let mut list = DeArray::new();
                for forward in &net.forwards {
                    list.push(toml::Spanned::new(span.clone(), text(forward)));
                }
                self.set(&key("forward"), &span, DeValue::Array(list));
            }
            let span = options[nic].span.clone();
            self.set(&key("model"), &span, text(&net.model));
            if let Some(mac) = &net.mac {
                self.set(&key("mac"), &span, text(mac));
            }
            taken.extend([netdev, nic]);
        }
        let mut i = 0;
        options.retain(|_| {
            i += 1;
            !taken.contains(&(i - 1))
        });
        options
    }
}

fn user_net(options: &[Opt], netdev: usize) -> Option<(usize, UserNet)> {
    let value = options[netdev].value.as_deref()?;
    let mut id = None;
    let mut forwards = Vec::new();
    let mut parts = value.split(',');
    parts
        .next()
        .filter(|kind| matches!(*kind, "user" | "type=user"))?;
    for part in parts {
        match part.split_once('=')? {
            ("id", name) => id = Some(name),
            ("hostfwd", rule) => forwards.push(forward(rule)?),
            _ => return None,
        }
    }
    let id = id.filter(|id| id.parse::<DeviceName>().is_ok())?;
    let mut nics = options.iter().enumerate().filter(|(_, option)| {
        let parts = option.value.iter().flat_map(|value| value.split(','));
        option.name == "device"
            && parts
                .into_iter()
                .any(|part| part.strip_prefix("netdev=") == Some(id))
    });
    let (nic, option) = nics.next()?;
    let mut model = None;
    let mut mac = None;
    for part in option.value.as_deref()?.split(',') {
        match part.split_once('=') {
            None | Some(("driver", _)) if model.is_none() => {
                model = Some(part.strip_prefix("driver=").unwrap_or(part).to_owned());
            }
            Some(("netdev", _)) => {}
            Some(("mac", address)) if address.parse::<Mac>().is_ok() => {
                mac = Some(address.to_owned())
            }
            _ => return None,
        }
    }
    let net = UserNet {
        id: id.to_owned(),
        model: model?,
        mac,
        forwards,
    };
    Some((nic, net))
}

/// `[PROTO]:[ADDRESS]:PORT-:PORT`. Without an address QEMU listens on all of them.
fn forward(rule: &str) -> Option<String> {
    let (host, guest) = rule.split_once('-')?;
    let guest = guest.strip_prefix(':')?;
    let mut host = host.split(':');
    let (protocol, address, port) = (host.next()?, host.next()?, host.next()?);
    let protocol = match protocol {
        "" | "tcp" => "",
        "udp" => "udp:",
        _ => return None,
    };
    let address = if address.is_empty() {
        "0.0.0.0"
    } else {
        address
    };
    let forward = format!("{protocol}{address}:{port}:{guest}");
    let fits = host.next().is_none() && forward.parse::<crate::config::Forward>().is_ok();
    fits.then_some(forward)
}
