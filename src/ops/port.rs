//! The ports of the host that a VM wants, and who has them.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use crate::config::{HostPort, Protocol, VmConfig};
use crate::holder::{self, Holder};
use crate::vm::VmName;

use super::Error;
use super::ls::vm_of;

/// Ports that are as good as taken: of the VMs that start at the same time.
#[derive(Default)]
pub(super) struct Reserved(RefCell<Vec<(VmName, HostPort)>>);

impl Reserved {
    /// Finds a port that a VM wants and cannot have, or reserves all of them for it.
    ///
    /// # Errors
    /// [`Error::PortTaken`] or [`Error::NoHostPort`]. Someone may take it all the same
    /// before QEMU does.
    pub fn check(&self, name: &VmName, config: &VmConfig) -> Result<(), Error> {
        for (key, port) in config.host_ports() {
            let reserved = self.0.borrow();
            let mut others = reserved.iter().filter(|(other, _)| other != name);
            if let Some((other, _)) = others.find(|(_, other)| other.collides_with(&port)) {
                return Err(Error::PortTaken {
                    name: name.clone(),
                    port,
                    key,
                    by: By::Vm(other.clone()),
                });
            }
            check_one(name, key, port)?;
        }
        let wanted = config.host_ports().map(|(_, port)| (name.clone(), port));
        self.0.borrow_mut().extend(wanted);
        Ok(())
    }
}

fn check_one(name: &VmName, key: String, port: HostPort) -> Result<(), Error> {
    let is_udp = port.protocol == Protocol::Udp;
    let address = (port.address, port.port);
    // As QEMU does, with SO_REUSEADDR; given back at once.
    let bound = match is_udp {
        true => UdpSocket::bind(address).map(drop),
        false => TcpListener::bind(address).map(drop),
    };
    let Err(error) = bound else { return Ok(()) };
    if error.kind() != ErrorKind::AddrInUse {
        return Err(Error::NoHostPort {
            name: name.clone(),
            port,
            key,
            source: error,
        });
    }
    match holder(port) {
        // It runs, and this is its own.
        By::Vm(other) if other == *name => Ok(()),
        by => Err(Error::PortTaken {
            name: name.clone(),
            port,
            key,
            by,
        }),
    }
}

/// Who has a port of the host that is taken.
pub(super) fn holder(port: HostPort) -> By {
    let is_udp = port.protocol == Protocol::Udp;
    holder::of_port(is_udp, port.address, port.port).map_or(By::Unknown, By::from)
}

/// Who has what a VM wants.
#[derive(Clone, Debug)]
pub enum By {
    /// A VM.
    Vm(VmName),
    /// Another process.
    Process(Holder),
    /// A process of another user.
    Unknown,
}

impl From<Holder> for By {
    fn from(holder: Holder) -> Self {
        match holder.unit.as_deref().and_then(vm_of) {
            Some(vm) => Self::Vm(vm),
            None => Self::Process(holder),
        }
    }
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vm(name) => write!(f, "VM `{name}` has it"),
            Self::Process(holder) => {
                write!(f, "process {} (`{}`) has it", holder.pid, holder.program)
            }
            Self::Unknown => f.write_str("a process of another user has it"),
        }
    }
}

/// Why QEMU could not have what it wanted, when its words name a port or an image.
pub(super) fn explain(name: &VmName, config: &VmConfig, words: &[String]) -> Option<String> {
    let is_about_port = |line: &String| {
        [
            "host forwarding rule",
            "Address already in use",
            "initialize spice server",
        ]
        .iter()
        .any(|part| line.contains(part))
    };
    if words.iter().any(is_about_port) {
        let error = Reserved::default().check(name, config).err()?;
        return Some(error.to_string());
    }
    // `Is another process using the image [/disk.qcow2]?`
    let image = words.iter().find_map(|line| {
        let (_, rest) = line.split_once("using the image [")?;
        Some(rest.rsplit_once("]?")?.0)
    })?;
    let by = holder::of_file(Path::new(image)).map_or(By::Unknown, By::from);
    Some(format!("{image} is in use: {by}"))
}
