//! What the unit of a VM runs. Not for people: systemd calls these.

pub mod launch;
mod notify;
pub mod power_down;
pub mod ready;
pub mod ship;
pub mod trim;
