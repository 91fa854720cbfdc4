//! What needs a whole machine: limits that are enforced, and vsock.
//!
//! Runs as root in the virtual machine of `tests/host/vm`, which is there for these
//! tests alone, and nowhere else.

/// The machine that this runs on, and its users.
mod host;

/// Limits of VMs and of groups, as the kernel enforces them.
mod limits;
/// Guests that say over vsock that they are up.
mod notify;
