//! What maqet can do, one file for each verb.
//!
//! An operation takes a [`Host`] and typed arguments, returns a value and prints
//! nothing. The command line is a thin layer over these; a program that uses the
//! crate can do all that the command can.

pub mod add;
pub mod agent;
pub mod apply;
mod block_job;
pub mod change;
mod check;
mod claims;
pub mod clone;
mod controllers;
pub mod device;
pub mod diff;
pub mod disable;
pub mod disk;
pub mod doctor;
pub mod edit;
mod effect;
pub mod enable;
mod endpoint;
mod error;
pub mod events;
pub mod export;
pub mod group;
pub mod hmp;
mod host;
pub mod import;
mod in_force;
pub mod job;
pub mod jobs;
mod keyboard;
pub mod keys;
mod knowledge;
mod live;
pub mod logs;
pub mod ls;
pub mod migrate;
mod monitor;
pub mod nmi;
mod obstacle;
pub(crate) mod operation;
mod order;
mod past;
pub mod pause;
mod plumbing;
mod policy;
mod port;
pub mod powerdown;
pub mod prepare;
pub mod qmp;
mod reach;
pub mod ready;
pub mod rename;
pub mod reset;
pub mod resume;
pub mod rm;
pub mod save;
pub mod screenshot;
mod select;
pub mod set;
pub mod show;
pub mod snapshot;
pub mod start;
pub mod status;
pub mod stop;
pub mod template;
pub mod r#type;
pub mod unset;
pub mod wait;

/// How often all is read anew because someone else has changed a VM meanwhile.
const TRIES: usize = 10;

pub use effect::Effect;
pub use error::Error;
pub use host::Host;
pub use monitor::connect;
pub use obstacle::{Doing, Obstacle};
pub use port::By;
pub use select::{InvalidLabel, InvalidSelector, Label, Selector, select};
