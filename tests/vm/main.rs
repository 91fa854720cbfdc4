//! What needs a whole machine: limits that are enforced, vsock, block and PCI devices.
//!
//! Runs as root in the virtual machine of `tests/host/vm`, which is there for these
//! tests alone, and nowhere else.

/// Block devices of the host as disks.
mod device;
/// The machine that this runs on, and its users.
mod host;

/// Limits of VMs and of groups, as the kernel enforces them.
mod limits;
/// File systems that are not to be written.
mod mount;
/// Guests that say over vsock that they are up.
mod notify;
/// Devices of the host that become the guest's.
mod passthrough;
/// What users may write, and no more.
mod quota;
