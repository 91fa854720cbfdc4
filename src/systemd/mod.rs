//! The service manager, over D-Bus, and the journal.
//!
//! zbus is async; this module is where that ends. Every public function blocks,
//! makes a connection of its own (a fraction of a millisecond) and closes it.

pub mod boot;
mod bus;
pub mod console;
mod error;
mod jobs;
pub mod journal;
pub mod logind;
pub mod manager;
pub mod property;
mod start;
mod status;
mod unit;

pub use bus::Scope;
pub use error::Error;
pub use jobs::{give_up, reset_failed, set_properties, stop};
pub use start::{Started, start};
pub(crate) use status::rfc3339;
pub use status::{
    ActiveState, Dependents, ListedUnit, UnitStatus, dependents, list, list_and_enabled, status,
};
pub use unit::{STOP_MARGIN, TRIM_TIMER, Transient, UnitName, slice_name, unit_name};
