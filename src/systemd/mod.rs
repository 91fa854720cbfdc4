//! The service manager, over D-Bus, and the journal.
//!
//! zbus is async; this module is where that ends. Every public function blocks,
//! makes a connection of its own (a fraction of a millisecond) and closes it.

pub mod boot;
mod bus;
mod error;
mod jobs;
pub mod journal;
pub mod logind;
mod status;
mod unit;

pub use bus::Scope;
pub use error::Error;
pub use jobs::{Started, kill, reset_failed, start, stop};
pub(crate) use status::rfc3339;
pub use status::{ActiveState, ListedUnit, UnitStatus, list, list_and_enabled, status};
pub use unit::{TRIM_TIMER, Transient, UnitName, unit_name};
