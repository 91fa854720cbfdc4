//! maqet as its users run it: the real command, a real systemd user manager, a real QEMU.
//!
//! One file for each verb, and one for each kind of trouble. Run with
//! `tests/host/test`; without a user manager every test here fails and says so.

/// A user's directories, VMs and commands, cleaned up afterwards.
mod sandbox;

/// Up, or not up with QEMU's own words.
mod start;
