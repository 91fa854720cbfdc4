//! Where a running VM is reached on the host: its sockets, ports and display.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::config::{DisplayKind, Listen, VmConfig};
use crate::paths::RuntimeDir;
use crate::qemu::argv::port_id;

/// A socket of a running VM.
#[derive(Debug, Serialize)]
pub struct Socket {
    /// What it is for.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is there.
    pub exists: bool,
}

/// What is no unix socket: an address of the loopback, a terminal or a file.
#[derive(Debug, Serialize)]
pub struct Endpoint {
    /// The port's name in the definition, or `vnc` or `spice`.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: EndpointKind,
    /// Where it is; a terminal's path is unknown while QEMU does not answer.
    pub address: Option<String>,
}

/// What is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointKind {
    /// A TCP server.
    Tcp,
    /// A terminal.
    Pty,
    /// A file that is written to.
    File,
}

/// The sockets that a VM with that definition has; without one, those that most have.
pub(super) fn sockets(runtime: &RuntimeDir, config: Option<&VmConfig>) -> Vec<Socket> {
    let has = |feature: fn(&VmConfig) -> bool| config.is_none_or(feature);
    let shows = |kind| {
        config.is_some_and(|vm| vm.display.kind == kind && vm.display.listen == Listen::Unix)
    };
    let ports = config.into_iter().flat_map(|vm| &vm.ports);
    let ports = ports.filter(|(_, port)| port.has_socket());
    let ports = ports.map(|(name, _)| (name.to_string(), runtime.port(name.as_str())));
    [
        ("qmp", runtime.qmp(), true),
        ("user", runtime.user(), true),
        ("ctl", runtime.ctl(), true),
        ("serial", runtime.serial(), has(|vm| vm.serial)),
        ("agent", runtime.agent(), has(|vm| vm.agent)),
        ("vnc", runtime.vnc(), shows(DisplayKind::Vnc)),
        ("spice", runtime.spice(), shows(DisplayKind::Spice)),
    ]
    .into_iter()
    .filter(|(_, _, has)| *has)
    .map(|(name, path, _)| (name.to_owned(), path))
    .chain(ports)
    .map(|(name, path)| Socket {
        exists: path.exists(),
        name,
        path,
    })
    .collect()
}

/// What else there is, with QEMU's answer to `query-chardev` if it gave one.
pub(super) fn endpoints(config: &VmConfig, chardevs: Option<&Value>) -> Vec<Endpoint> {
    let display = match (config.display.kind, config.display.listen) {
        (DisplayKind::Vnc, Listen::Tcp(address)) => Some(("vnc", address)),
        (DisplayKind::Spice, Listen::Tcp(address)) => Some(("spice", address)),
        _ => None,
    };
    let display = display.map(|(name, address)| Endpoint {
        name: name.to_owned(),
        kind: EndpointKind::Tcp,
        address: Some(address.to_string()),
    });
    let ports = config.ports.iter().filter_map(|(name, port)| {
        let (kind, address) = if let Some(address) = port.tcp {
            (EndpointKind::Tcp, Some(address.to_string()))
        } else if let Some(file) = &port.file {
            (EndpointKind::File, Some(file.display().to_string()))
        } else if port.pty {
            let terminal = chardevs.and_then(|it| terminal(it, &port_id(name)));
            (EndpointKind::Pty, terminal)
        } else {
            return None;
        };
        Some(Endpoint {
            name: name.to_string(),
            kind,
            address,
        })
    });
    display.into_iter().chain(ports).collect()
}

/// The path in QEMU's word for a terminal, `pty:/dev/pts/3`.
fn terminal(chardevs: &Value, id: &str) -> Option<String> {
    let mut chardevs = chardevs.as_array()?.iter();
    let chardev = chardevs.find(|it| it["label"] == id)?;
    let path = chardev["filename"].as_str()?.strip_prefix("pty:")?;
    Some(path.to_owned())
}
