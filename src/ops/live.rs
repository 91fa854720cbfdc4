//! What a running QEMU can be given another value of, how, and what it has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{
    DeviceName, Disk, Document, Forward, HostPort, Interface, IoThread, NetKind, VmConfig,
    path_text,
};
use crate::qemu::disk::{self, Parts};
use crate::qemu::net::{netdev_id, nic_id};
use crate::qmp::Monitor;

use super::device::ls::block_image;
use super::disk::Nodes;
use super::hmp::print;
use super::{Error, port};

/// The key of how much memory the guest is asked to do with.
const BALLOON: &str = "balloon.target";

/// Where QEMU keeps the objects that have an id.
const OBJECTS: &str = "/objects";

/// How long the monitor is waited for, and QEMU for one answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// One thing that QEMU is to have as a definition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The forwards of a user network.
    Forwards(DeviceName),
    /// Whether a NIC's cable is plugged in.
    Link(DeviceName),
    /// The medium in a CD-ROM drive.
    Medium(DeviceName),
    /// The limits of a disk.
    Limits(DeviceName),
    /// How much memory the guest is asked to do with.
    Balloon,
}

/// The keys that QEMU takes another value of while it runs with this definition.
pub(super) fn keys(config: &VmConfig) -> Vec<String> {
    let nets = user_nets(config).map(|(name, _)| format!("net.{name}.forward"));
    let balloon = config.balloon.is_some().then(|| BALLOON.to_owned());
    let disks = config.disks.iter();
    let disks = disks.flat_map(|(name, disk)| {
        let drive = is_drive(disk).then_some(["file", "format"]);
        let limits = can_be_limited(disk).then_some("limits");
        let keys = drive.into_iter().flatten().chain(limits);
        keys.map(move |key| format!("disk.{name}.{key}"))
    });
    let links = config.nets.keys().map(|name| format!("net.{name}.link"));
    nets.chain(links).chain(disks).chain(balloon).collect()
}

/// What is to be done for a key to be as in `to`, if that can be done while the VM runs.
pub(super) fn step(key: &str, from: &VmConfig, to: &VmConfig) -> Option<Step> {
    if key == BALLOON {
        // It cannot have more than it was started with.
        let wanted = to.balloon.as_ref()?.target;
        let has = from.balloon.is_some() && wanted <= Some(from.memory.size);
        return has.then_some(Step::Balloon);
    }
    let (table, rest) = key.split_once('.')?;
    let (name, key) = rest.split_once('.')?;
    match (table, key) {
        ("net", "forward") => {
            let has = |config| user_nets(config).find(|(net, _)| net.as_str() == name);
            let (name, _) = has(from).and(has(to))?;
            Some(Step::Forwards(name.clone()))
        }
        ("net", "link") => {
            let has = |config: &VmConfig| config.nets.keys().any(|net| net.as_str() == name);
            (has(from) && has(to)).then(|| name.parse().ok().map(Step::Link))?
        }
        ("disk", key) => {
            let has = |config: &VmConfig, is: fn(&Disk) -> bool| {
                config
                    .disks
                    .iter()
                    .any(|(disk, it)| disk.as_str() == name && is(it))
            };
            let is_drive = has(from, is_drive) && has(to, is_drive);
            let name = || name.parse().ok();
            match key.split('.').next()? {
                "file" | "format" if is_drive => name().map(Step::Medium),
                "limits" if has(from, can_be_limited) && has(to, |_| true) => {
                    name().map(Step::Limits)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether it is a drive whose medium can be another.
fn is_drive(disk: &Disk) -> bool {
    disk.interface == Interface::Cdrom
}

fn is_limited(disk: &Disk) -> bool {
    !disk.limits.throttles().is_empty()
}

/// Whether it has a node that limits, or can be given one.
///
/// QEMU 7.2 and 10.0 crash when a node that a thread serves gets one above it, and
/// `usb-storage` goes on with the node that it has.
fn can_be_limited(disk: &Disk) -> bool {
    let has_thread = matches!(
        disk.iothread,
        Some(IoThread::Own(true) | IoThread::Named(_))
    );
    is_limited(disk) || !(has_thread || disk.interface == Interface::Usb)
}

/// Does it, and looks whether QEMU has done so.
pub(super) fn perform(monitor: &mut Monitor, step: &Step, to: &VmConfig) -> Result<(), Error> {
    match step {
        Step::Forwards(name) => {
            let wanted = to.nets.get(name).map_or(&[][..], |net| &net.forward);
            set_forwards(monitor, name, wanted)
        }
        Step::Link(name) => {
            let up = to.nets.get(name).is_none_or(|net| net.link);
            let link = json!({ "name": nic_id(name), "up": up });
            monitor.execute("set_link", link)?;
            Ok(())
        }
        Step::Medium(name) => match to.disks.get(name) {
            Some(disk) => change_medium(monitor, name, &disk_parts(name, disk, to)),
            None => Ok(()),
        },
        Step::Limits(name) => match to.disks.get(name) {
            Some(disk) => set_limits(monitor, name, disk, &disk_parts(name, disk, to)),
            None => Ok(()),
        },
        Step::Balloon => {
            let target = to.balloon.as_ref().and_then(|it| it.target);
            // QEMU takes too much for all that there is.
            let bytes = target.map_or(i64::MAX, |target| target.bytes().cast_signed());
            monitor.execute("balloon", json!({ "value": bytes }))?;
            Ok(())
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
            said => said.insert(print(monitor, "info usernet")?),
        };
        let has = parse_forwards(said, &netdev_id(name));
        if !same(&has, forwards) {
            let list: toml_edit::Array = has.iter().map(ToString::to_string).collect();
            document.set(&format!("net.{name}.forward"), list)?;
        }
    }
    let mut drives = config
        .disks
        .iter()
        .filter(|(_, disk)| is_drive(disk))
        .peekable();
    let blocks = match drives.peek() {
        Some(_) => monitor.execute("query-block", ())?,
        None => Value::Null,
    };
    for (name, disk) in drives {
        let has = medium_of(&blocks, &disk::id(name));
        let said = disk.path(name, Path::new(""));
        // What QEMU has no plain name for cannot be compared.
        if has == said || has.as_ref().is_some_and(|file| !file.is_absolute()) {
            continue;
        }
        let key = format!("disk.{name}.file");
        match has.as_deref().and_then(path_text) {
            Some(file) => document.set(&key, file)?,
            None => {
                document.remove(&key);
            }
        }
    }
    let objects = match config.disks.is_empty() {
        true => Vec::new(),
        false => object_names(monitor)?,
    };
    let has_group = |name| objects.contains(&disk::limits_id(&disk::id(name)));
    for (name, disk) in config.disks.iter().filter(|(name, _)| has_group(name)) {
        let has = limits_of(monitor, name)?;
        let said = limits(disk);
        for (key, word) in LIMITS {
            let words = [
                word.to_owned(),
                format!("{word}-max"),
                format!("{word}-max-length"),
            ];
            if words.iter().any(|word| has[word] != said[word]) {
                let numbers = words.map(|word| has[word].as_i64().unwrap_or_default());
                write_limit(&mut document, &format!("disk.{name}.limits.{key}"), numbers)?;
            }
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
    let has = parse_forwards(&print(monitor, "info usernet")?, &netdev);
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
        let words = print(monitor, &line)?;
        if line.starts_with("hostfwd_add") && !words.trim().is_empty() {
            refused.get_or_insert((line, words));
        }
    }
    // What was printed is for people; this is what counts.
    let has = parse_forwards(&print(monitor, "info usernet")?, &netdev);
    if same(&has, wanted) {
        return Ok(());
    }
    let missing = wanted
        .iter()
        .find(|it| !has.contains(it))
        .map(HostPort::from);
    if let (Some(port), Some(_)) = (missing, &refused) {
        return Err(Error::Host {
            what: format!("net.{name}.forward"),
            why: format!("{port} of the host cannot be had: {}", port::holder(port)),
        });
    }
    let (line, words) = refused.unwrap_or_else(|| {
        let words = "its forwards are not what they should be".to_owned();
        (format!("forwards of {netdev}"), words)
    });
    let words = words.trim_end().replace('\r', "");
    Err(Error::Hmp { line, words })
}

/// What a disk that has its file already is to consist of, or one whose file is said.
fn disk_parts(name: &DeviceName, disk: &Disk, config: &VmConfig) -> Parts {
    disk::parts(name, disk, config.board(), Path::new(""), None)
}

/// Takes the medium out of a drive and puts another in, or none, whatever its guest says.
fn change_medium(monitor: &mut Monitor, name: &DeviceName, parts: &Parts) -> Result<(), Error> {
    let id = disk::id(name);
    make_group(monitor, name, parts)?;
    monitor.execute("blockdev-open-tray", json!({ "id": id, "force": true }))?;
    monitor.execute("blockdev-remove-medium", json!({ "id": id }))?;
    let there = node_names(monitor)?;
    for node in disk::node_names(&id) {
        if there.contains(&node) {
            monitor.execute("blockdev-del", json!({ "node-name": node }))?;
        }
    }
    for node in &parts.nodes {
        monitor.execute(node.kind().command(), node.arguments())?;
    }
    if let Some(top) = parts.nodes.last() {
        let arguments = json!({ "id": id, "node-name": top.id() });
        monitor.execute("blockdev-insert-medium", arguments)?;
    }
    monitor.execute("blockdev-close-tray", json!({ "id": id }))?;
    Ok(())
}

/// The file in a drive, in the answer to `query-block`.
fn medium_of(blocks: &Value, id: &str) -> Option<PathBuf> {
    let mut blocks = blocks.as_array().into_iter().flatten();
    let block = blocks.find(|block| {
        let path = block["qdev"].as_str().unwrap_or_default();
        path.trim_start_matches("/machine/peripheral/") == id
    })?;
    Some(block_image(block)["filename"].as_str()?.into())
}

/// What can be limited: the key in a definition, and QEMU's word.
const LIMITS: [(&str, &str); 6] = [
    ("iops", "iops-total"),
    ("iops-read", "iops-read"),
    ("iops-write", "iops-write"),
    ("bps", "bps-total"),
    ("bps-read", "bps-read"),
    ("bps-write", "bps-write"),
];

/// All limits of a disk in QEMU's words (`ThrottleLimits`); 0 for none.
fn limits(disk: &Disk) -> Value {
    let said = disk.limits.throttles();
    let mut all = json!({});
    for (key, word) in LIMITS {
        let limit = said.iter().find(|limit| limit.key == key);
        all[word] = limit.map_or(0, |limit| limit.rate).into();
        all[format!("{word}-max")] = limit.and_then(|it| it.burst).unwrap_or(0).into();
        all[format!("{word}-max-length")] =
            limit.and_then(|it| it.burst_length).unwrap_or(1).into();
    }
    all
}

/// The path of the group of a disk's limits.
fn limits_path(name: &DeviceName) -> String {
    format!("{OBJECTS}/{}", disk::limits_id(&disk::id(name)))
}

fn limits_of(monitor: &mut Monitor, name: &DeviceName) -> Result<Value, Error> {
    let limits = json!({ "path": limits_path(name), "property": "limits" });
    Ok(monitor.execute("qom-get", limits)?)
}

/// Has a disk limited as its definition says, which may be for the first time.
fn set_limits(
    monitor: &mut Monitor,
    name: &DeviceName,
    disk: &Disk,
    parts: &Parts,
) -> Result<(), Error> {
    make_group(monitor, name, parts)?;
    if has_group(monitor, name)? {
        let path = limits_path(name);
        let limits = json!({ "path": path, "property": "limits", "value": limits(disk) });
        monitor.execute("qom-set", limits)?;
    }
    let id = disk::id(name);
    let [limit_node, ..] = disk::node_names(&id);
    let Some(node) = parts.nodes.iter().find(|node| node.id() == limit_node) else {
        return Ok(());
    };
    // A drive may be empty.
    let Some(nodes) = Nodes::find(monitor, &id)?.filter(|nodes| nodes.root != limit_node) else {
        return Ok(());
    };
    let mut arguments = node.arguments();
    arguments["file"] = json!(nodes.root);
    monitor.execute(node.kind().command(), arguments)?;
    let path = format!("/machine/peripheral/{id}");
    let drive = json!({ "path": path, "property": "drive", "value": limit_node });
    if let Err(error) = monitor.execute("qom-set", drive) {
        // The first error is the one that counts.
        let _ = monitor.execute("blockdev-del", json!({ "node-name": limit_node }));
        return Err(error.into());
    }
    Ok(())
}

/// Makes the group of a disk's limits, if it is to have some and has none yet.
fn make_group(monitor: &mut Monitor, name: &DeviceName, parts: &Parts) -> Result<(), Error> {
    if let Some(group) = &parts.limits
        && !has_group(monitor, name)?
    {
        monitor.execute(group.kind().command(), group.arguments())?;
    }
    Ok(())
}

fn has_group(monitor: &mut Monitor, name: &DeviceName) -> Result<bool, Error> {
    let group = disk::limits_id(&disk::id(name));
    Ok(object_names(monitor)?.contains(&group))
}

/// The objects that QEMU has.
fn object_names(monitor: &mut Monitor) -> Result<Vec<String>, Error> {
    let all = monitor.execute("qom-list", json!({ "path": OBJECTS }))?;
    Ok(names(&all, "name"))
}

/// The nodes that QEMU has.
fn node_names(monitor: &mut Monitor) -> Result<Vec<String>, Error> {
    let all = monitor.execute("query-named-block-nodes", json!({ "flat": true }))?;
    Ok(names(&all, "node-name"))
}

fn names(all: &Value, key: &str) -> Vec<String> {
    let all = all.as_array().into_iter().flatten();
    all.filter_map(|it| Some(it[key].as_str()?.to_owned()))
        .collect()
}

/// Writes a limit down as QEMU has it: the rate, that of a burst, and its seconds.
fn write_limit(document: &mut Document, key: &str, numbers: [i64; 3]) -> Result<(), Error> {
    let [rate, burst, length] = numbers;
    let number = |number: i64| -> toml_edit::Value {
        match key.contains(".bps") {
            true => format!("{number}B").into(),
            false => number.into(),
        }
    };
    match (rate, burst) {
        (0, _) => {
            document.remove(key);
        }
        (_, 0) => document.set(key, number(rate))?,
        _ => {
            let mut table = toml_edit::InlineTable::new();
            table.insert("rate", number(rate));
            table.insert("burst", number(burst));
            table.insert("burst-length", format!("{length}s").into());
            document.set(key, table)?;
        }
    }
    Ok(())
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
