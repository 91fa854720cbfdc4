//! The kernel's side of a VM's vsock device: `/dev/vhost-vsock`.
//!
//! A CID is one guest's on the whole host, whoever runs it, and the kernel alone knows
//! which are in use. So it is asked for one, and QEMU inherits the answer.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use crate::config::Vsock;

/// Where the kernel hands out CIDs.
pub const DEVICE: &str = "/dev/vhost-vsock";

/// Why a VM can have no vsock device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device does not open.
    #[error("vsock needs {DEVICE}, which does not open")]
    Device(#[source] io::Error),
    /// The CID that the definition asks for is another guest's.
    #[error("CID {cid} cannot be had: another VM has it, or this kernel does not allow it")]
    Taken {
        /// The CID.
        cid: u32,
        /// The kernel's words.
        #[source]
        source: io::Error,
    },
}

/// The command that mends a device that does not open, if there is one.
pub fn mend(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        io::ErrorKind::PermissionDenied => "sudo usermod --append --groups kvm \"$USER\"",
        // A node without its driver gives one of the numbers.
        _ if matches!(
            error.raw_os_error(),
            Some(libc::ENODEV | libc::ENXIO | libc::ENOENT)
        ) =>
        {
            "sudo modprobe vhost_vsock"
        }
        _ => return None,
    })
}

/// The first of the CIDs that are handed out: those below are left for people to choose.
const FIRST: u32 = 1 << 30;

/// How many CIDs are tried, from a VM's usual one on.
const TRIES: u32 = 64;

/// The CID that a VM has, unless another VM happens to have it; as stable as its UUID.
pub fn usual_cid(vsock: &Vsock, uuid: &str) -> u32 {
    vsock.cid.unwrap_or_else(|| {
        // FNV-1a: not against anyone, only to be spread evenly.
        let hash = uuid.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        FIRST + hash % (FIRST - TRIES)
    })
}

/// The host's port that a guest with this CID notifies when it is up.
///
/// One for each CID, and none that needs privileges.
pub fn notify_port(cid: u32) -> u32 {
    cid | FIRST
}

/// Opens the device, as QEMU will.
pub fn open() -> Result<File, Error> {
    let options = OpenOptions::new().read(true).write(true).open(DEVICE);
    options.map_err(Error::Device)
}

/// Takes a CID for a VM: it has it as long as the file is open, in whatever process.
pub fn take(vsock: &Vsock, uuid: &str) -> Result<(u32, File), Error> {
    let device = open()?;
    let usual = usual_cid(vsock, uuid);
    let tries = if vsock.cid.is_some() { 1 } else { TRIES };
    let mut taken = None;
    for cid in (usual..).take(tries as usize) {
        match set_guest_cid(&device, cid) {
            Ok(()) => return Ok((cid, device)),
            Err(source) => taken = Some(Error::Taken { cid, source }),
        }
    }
    Err(taken.expect("at least one was tried"))
}

fn set_guest_cid(device: &File, cid: u32) -> io::Result<()> {
    // VHOST_VSOCK_SET_GUEST_CID of linux/vhost.h: _IOW(0xaf, 0x60, __u64).
    const SET_GUEST_CID: libc::Ioctl = 0x4008_af60;
    let cid = u64::from(cid);
    // SAFETY: this ioctl reads eight bytes, which live until it returns.
    match unsafe { libc::ioctl(device.as_raw_fd(), SET_GUEST_CID, &raw const cid) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_keeps_its_cid_and_its_port_is_its_own() {
        let none = Vsock::default();
        let cid = usual_cid(&none, "2b6a5e0c-9c1f-4a55-8f1c-0d7f6d1f2a01");
        assert_eq!(
            cid,
            usual_cid(&none, "2b6a5e0c-9c1f-4a55-8f1c-0d7f6d1f2a01")
        );
        assert_ne!(
            cid,
            usual_cid(&none, "2b6a5e0c-9c1f-4a55-8f1c-0d7f6d1f2a02")
        );
        assert!((FIRST..2 * FIRST).contains(&cid));
        assert_eq!(notify_port(cid), cid);

        let chosen = Vsock { cid: Some(3) };
        assert_eq!(usual_cid(&chosen, "any"), 3);
        assert!(notify_port(3) > 1023);
    }
}
