//! QEMU from the outside: its command line.

pub mod argv;
pub mod binary;
pub mod disk;
pub mod kvm;
pub mod net;
pub mod optarg;
pub mod part;
pub mod passthrough;
pub mod vhost;

/// The id of the chardev that the guest agent is behind.
pub const AGENT_CHARDEV: &str = "agent";
