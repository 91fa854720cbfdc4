//! Who has a port or a file of this host, by the kernel's lists (proc_pid_net(5), proc_pid_fd(5)).
//!
//! Of other users' processes the kernel does not tell what they have open.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process that has something open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// The name of its program, as the kernel has it: at most 15 bytes.
    pub program: String,
    /// The unit that it belongs to.
    pub unit: Option<String>,
}

/// Who listens on a port of the host, at `address` or at one that takes it in.
pub fn of_port(is_udp: bool, address: IpAddr, port: u16) -> Option<Holder> {
    let tables = match is_udp {
        true => ["/proc/net/udp", "/proc/net/udp6"],
        false => ["/proc/net/tcp", "/proc/net/tcp6"],
    };
    let wanted: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| inodes(&table, is_udp, address, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    find(|fd| {
        let link = fs::read_link(fd);
        link.is_ok_and(|link| {
            wanted
                .iter()
                .any(|wanted| link.as_os_str() == wanted.as_str())
        })
    })
}

/// Who has a file open.
pub fn of_file(file: &Path) -> Option<Holder> {
    let file = fs::metadata(file).ok()?;
    find(|fd| {
        fs::metadata(fd).is_ok_and(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()))
    })
}

/// The sockets in one of the kernel's tables that are bound to the port.
fn inodes(table: &str, is_udp: bool, address: IpAddr, port: u16) -> Vec<u64> {
    // TCP_LISTEN, and for a datagram socket without a peer TCP_CLOSE (net/tcp_states.h).
    let state = if is_udp { "07" } else { "0A" };
    table
        .lines()
        .filter_map(|line| {
            // sl local_address rem_address st queues timer retransmit uid timeout inode
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, bound_port) = fields.get(1)?.split_once(':')?;
            let is_it = *fields.get(3)? == state
                && u16::from_str_radix(bound_port, 16).ok()? == port
                && takes_in(bound_address(local)?, address);
            is_it.then(|| fields.get(9)?.parse().ok())?
        })
        .collect()
}

/// An address as the kernel prints it: words of four bytes, each in the host's order.
fn bound_address(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for at in (0..hex.len()).step_by(8) {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    match <[u8; 4]>::try_from(&*bytes) {
        Ok(four) => Some(Ipv4Addr::from(four).into()),
        Err(_) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
    }
}

/// Whether nobody else can have `wanted` while a socket is bound to `bound`.
fn takes_in(bound: IpAddr, wanted: IpAddr) -> bool {
    bound == wanted
        || wanted.is_unspecified()
        // `::` is for both families, unless its owner has said otherwise.
        || (bound.is_unspecified() && (bound.is_ipv6() || wanted.is_ipv4()))
}

/// The first process with a descriptor that is the one.
fn find(is_it: impl Fn(&Path) -> bool) -> Option<Holder> {
    let mut processes = fs::read_dir("/proc").ok()?.flatten();
    processes.find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        open.any(|fd| is_it(&fd.path())).then(|| holder(pid))
    })
}

fn holder(pid: u32) -> Holder {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    let cgroups = read("cgroup").unwrap_or_default();
    let unit = cgroups
        .lines()
        .filter_map(|line| line.rsplit(['/', ':']).next())
        .find(|name| name.ends_with(".service"));
    Holder {
        pid,
        program: read("comm").unwrap_or_default().trim_end().to_owned(),
        unit: unit.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn is_us(holder: Option<Holder>) -> bool {
        holder.is_some_and(|holder| holder.pid == std::process::id())
    }

    #[test]
    fn a_port_is_its_listener_s_at_every_address_that_takes_it_in() {
        let v4: IpAddr = Ipv4Addr::LOCALHOST.into();
        let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
        let listener = TcpListener::bind((v4, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_us(of_port(false, v4, port)));
        assert!(is_us(of_port(false, any, port)));
        assert_eq!(
            of_port(false, Ipv4Addr::new(127, 0, 0, 2).into(), port),
            None
        );
        assert_eq!(of_port(true, v4, port), None);
        drop(listener);
        assert_eq!(of_port(false, v4, port), None);

        let socket = UdpSocket::bind((any, 0)).unwrap();
        assert!(is_us(of_port(
            true,
            v4,
            socket.local_addr().unwrap().port()
        )));
    }

    #[test]
    fn the_kernel_s_addresses_are_read() {
        // As proc_pid_net(5) prints them on a little-endian host.
        if cfg!(target_endian = "little") {
            for (hex, address) in [
                ("0100007F", "127.0.0.1"),
                ("00000000", "0.0.0.0"),
                ("00000000000000000000000001000000", "::1"),
                ("0000000000000000FFFF00000100007F", "127.0.0.1"),
            ] {
                assert_eq!(bound_address(hex), Some(address.parse().unwrap()));
            }
        }
        for wrong in ["", "1", "0100007", "0100007F01", "gggggggg"] {
            assert_eq!(bound_address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_is_whoever_s_has_it_open() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(is_us(of_file(file.path())));
        let (_, path) = file.keep().unwrap();
        assert_eq!(of_file(&path), None);
        fs::remove_file(path).unwrap();
    }
}
