//! The ports of the host that a VM wants, and who has them.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::Path;

use crate::config::{Forward, Protocol, VmConfig};
use crate::holder::{self, Holder};
use crate::vm::VmName;

use super::Error;
use super::ls::vm_of;

/// Ports that are as good as taken: of the VMs that start at the same time.
#[derive(Default)]
pub(super) struct Reserved(RefCell<Vec<(VmName, Forward)>>);

impl Reserved {
    /// Finds a port that a VM wants and cannot have, or reserves all of them for it.
    ///
    /// # Errors
    /// [`Error::PortTaken`] or [`Error::NoPort`]. Someone may take it all the same before
    /// QEMU does.
    pub fn check(&self, name: &VmName, config: &VmConfig) -> Result<(), Error> {
        let wanted: Vec<Forward> = config
            .nets
            .values()
            .flat_map(|net| net.forward.clone())
            .collect();
        for forward in &wanted {
            let reserved = self.0.borrow();
            let twin = reserved
                .iter()
                .find(|(_, other)| other.collides_with(forward));
            if let Some((other, _)) = twin {
                return Err(Error::PortTaken {
                    name: name.clone(),
                    forward: *forward,
                    by: By::Vm(other.clone()),
                });
            }
            check_one(name, forward)?;
        }
        let wanted = wanted.into_iter().map(|forward| (name.clone(), forward));
        self.0.borrow_mut().extend(wanted);
        Ok(())
    }
}

fn check_one(name: &VmName, forward: &Forward) -> Result<(), Error> {
    let address = IpAddr::from(forward.host_address);
    let port = forward.host_port.get();
    let is_udp = forward.protocol == Protocol::Udp;
    // As QEMU does, with SO_REUSEADDR; given back at once.
    let bound = match is_udp {
        true => UdpSocket::bind((address, port)).map(drop),
        false => TcpListener::bind((address, port)).map(drop),
    };
    let Err(error) = bound else { return Ok(()) };
    if error.kind() != ErrorKind::AddrInUse {
        return Err(Error::NoHostPort {
            name: name.clone(),
            forward: *forward,
            source: error,
        });
    }
    let by = holder::of_port(is_udp, address, port).map_or(By::Unknown, By::from);
    match by {
        // It runs, and this is its own.
        By::Vm(other) if other == *name => Ok(()),
        by => Err(Error::PortTaken {
            name: name.clone(),
            forward: *forward,
            by,
        }),
    }
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
    if words
        .iter()
        .any(|line| line.contains("host forwarding rule"))
    {
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
