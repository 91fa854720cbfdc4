//! What a running QEMU can be given another value of, how, and what it has.

use std::time::Duration;

use serde_json::json;

use crate::config::{DeviceName, Document, Forward, NetKind, VmConfig};
use crate::qemu::net::netdev_id;
use crate::qmp::Monitor;

use super::Error;

/// How long the monitor is waited for, and QEMU for one answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// One thing that QEMU is to have as a definition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The forwards of a user network.
    Forwards(DeviceName),
}

/// The keys that QEMU takes another value of while it runs with this definition.
pub(super) fn keys(config: &VmConfig) -> Vec<String> {
    user_nets(config)
        .map(|(name, _)| format!("net.{name}.forward"))
        .collect()
}

/// What is to be done for a key to be as in `to`, if that can be done while the VM runs.
pub(super) fn step(key: &str, from: &VmConfig, to: &VmConfig) -> Option<Step> {
    let (table, rest) = key.split_once('.')?;
    let (name, key) = rest.split_once('.')?;
    match (table, key) {
        ("net", "forward") => {
            let has = |config| user_nets(config).find(|(net, _)| net.as_str() == name);
            let (name, _) = has(from).and(has(to))?;
            Some(Step::Forwards(name.clone()))
        }
        _ => None,
    }
}

/// Does it, and looks whether QEMU has done so.
pub(super) fn perform(monitor: &mut Monitor, step: &Step, to: &VmConfig) -> Result<(), Error> {
    match step {
        Step::Forwards(name) => {
            let wanted = to.nets.get(name).map_or(&[][..], |net| &net.forward);
            set_forwards(monitor, name, wanted)
        }
    }
}

/// The definition that a VM goes by, corrected by what QEMU itself says.
///
/// They differ where a change was cut short.
pub(super) fn corrected(
    monitor: &mut Monitor,
    document: &Document,
    config: &VmConfig,
) -> Result<Document, Error> {
    let mut document = document.clone();
    let mut said = None;
    for (name, forwards) in user_nets(config) {
        let said = match &mut said {
            Some(said) => said,
            said => said.insert(hmp(monitor, "info usernet")?),
        };
        let has = parse_forwards(said, &netdev_id(name));
        if !same(&has, forwards) {
            let list: toml_edit::Array = has.iter().map(ToString::to_string).collect();
            document.set(&format!("net.{name}.forward"), list)?;
        }
    }
    Ok(document)
}

/// The networks of QEMU's own, and their forwards.
fn user_nets(config: &VmConfig) -> impl Iterator<Item = (&DeviceName, &[Forward])> {
    let nets = config.nets.iter();
    nets.filter(|(_, net)| net.kind == NetKind::User)
        .map(|(name, net)| (name, &*net.forward))
}

fn set_forwards(monitor: &mut Monitor, name: &DeviceName, wanted: &[Forward]) -> Result<(), Error> {
    let netdev = netdev_id(name);
    let has = parse_forwards(&hmp(monitor, "info usernet")?, &netdev);
    let host = |it: &Forward| format!("{}:{}:{}", it.protocol, it.host_address, it.host_port);
    let mut refused = None;
    let removed = has.iter().filter(|it| !wanted.contains(it));
    let lines = removed.map(|it| format!("hostfwd_remove {netdev} {}", host(it)));
    let added = wanted.iter().filter(|it| !has.contains(it));
    let lines = lines.chain(added.map(|it| {
        let guest = it.guest_port;
        format!("hostfwd_add {netdev} {}-:{guest}", host(it))
    }));
    for line in lines {
        let words = hmp(monitor, &line)?;
        if line.starts_with("hostfwd_add") && !words.trim().is_empty() {
            refused.get_or_insert((line, words));
        }
    }
    // What was printed is for people; this is what counts.
    let has = parse_forwards(&hmp(monitor, "info usernet")?, &netdev);
    if same(&has, wanted) {
        return Ok(());
    }
    let (line, words) = refused.unwrap_or_else(|| {
        let words = "its forwards are not what they should be".to_owned();
        (format!("forwards of {netdev}"), words)
    });
    let words = words.trim_end().replace('\r', "");
    Err(Error::Hmp { line, words })
}

fn hmp(monitor: &mut Monitor, line: &str) -> Result<String, Error> {
    let arguments = json!({ "command-line": line });
    let printed = monitor.execute("human-monitor-command", arguments)?;
    Ok(printed.as_str().unwrap_or_default().to_owned())
}

/// The forwards of one network in what `info usernet` prints.
///
/// libslirp has a line for each socket (`slirp_connection_info`), those of guests too:
/// `TCP[HOST_FORWARD]  12  127.0.0.1  2222  10.0.2.15  22  0  0`.
fn parse_forwards(printed: &str, netdev: &str) -> Vec<Forward> {
    let head = format!("({netdev}):");
    let lines = printed.lines().map(str::trim);
    lines
        .skip_while(|line| !(line.starts_with("Hub ") && line.ends_with(&head)))
        .skip(1)
        .take_while(|line| !line.starts_with("Hub "))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let protocol = words.next()?.strip_suffix("[HOST_FORWARD]")?;
            let [_, host, port, _, guest_port] = [(); 5].map(|()| words.next().unwrap_or_default());
            let host = if host == "*" { "0.0.0.0" } else { host };
            let protocol = protocol.to_lowercase();
            format!("{protocol}:{host}:{port}:{guest_port}")
                .parse()
                .ok()
        })
        .collect()
}

/// Whether two lists have the same forwards, in any order.
fn same(a: &[Forward], b: &[Forward]) -> bool {
    a.len() == b.len() && a.iter().all(|it| b.contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_from_what_qemu_prints() {
        // As printed by QEMU 7.2.
        let printed = "Hub -1 (net-lan):\r
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r
  TCP[HOST_FORWARD]   3       127.0.0.1 42222       10.0.2.15    22     0     0\r
  TCP[ESTABLISHED]   12       127.0.0.1 42222       10.0.2.15    22     0     0\r
  UDP[HOST_FORWARD] 1008              * 45353       10.0.2.15    53     0     0\r
Hub -1 (net-b):\r
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r
  TCP[HOST_FORWARD]   3       192.0.2.1    80       10.0.2.15    80     0     0\r
";
        let shown = |netdev| -> Vec<String> {
            let found = parse_forwards(printed, netdev);
            found.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            shown("net-lan"),
            ["tcp:127.0.0.1:42222:22", "udp:0.0.0.0:45353:53"]
        );
        assert_eq!(shown("net-b"), ["tcp:192.0.2.1:80:80"]);
        assert_eq!(shown("net-c"), [""; 0]);
    }
}
