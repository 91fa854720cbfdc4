//! QEMU virtual machines as transient systemd units, with no daemon.
//!
//! maqet stores what a VM *is*. What it is *doing*, it asks: systemd whether it
//! runs, QEMU what the guest is up to, the journal what was said.
//!
//! | module | what it owns |
//! |---|---|
//! | [`ops`] | what maqet can do, one file for each verb: the API for programs |
//! | [`qmp`] | the client of QEMU's monitor and of the guest agent |
//! | [`config`] | definitions: `maqet.toml(5)` |
//! | [`qemu`] | definition to command line; which QEMU, whether KVM works |
//! | [`systemd`] | the transient unit, its jobs and its journal, over D-Bus |
//! | [`store`] | `maqet.db`: definitions, and which disks maqet made |
//! | [`image`] | disk images, while no QEMU has them open |
//! | [`address`] | where the devices of a machine are on its buses |
//! | [`saved`] | the saved state of a VM that is to go on where it was |
//! | [`console`] | the bounded log of a guest's serial port, and its copy in the journal |
//! | [`keyboard`] | keys by name, and the keys that give a text |
//! | [`holder`] | which process has a port or a file of the host |
//! | [`lock`] | the lock that QEMU holds on its VM's disks |
//! | [`paths`] | where all of that lies |
//! | [`cli`] | the `maqet` command |
//!
//! # On disk
//!
//! `$XDG_DATA_HOME/maqet/maqet.db`, `…/vms/NAME/` ([`paths::VmDir`]: disks made
//! for the VM, console log, lock, last definition), `…/saved/` ([`paths::SavedState`]), `$XDG_RUNTIME_DIR/maqet/NAME/`
//! ([`paths::RuntimeDir`]: sockets of a running VM), `$XDG_CONFIG_HOME/maqet/config.toml`.

pub mod address;
pub mod cli;
pub mod config;
pub mod console;
pub mod holder;
pub mod image;
mod internal;
pub mod keyboard;
pub mod lock;
mod nearest;
pub mod ops;
pub mod paths;
pub mod process;
pub mod qemu;
pub mod qmp;
pub mod saved;
pub mod store;
pub mod systemd;
pub mod vm;
