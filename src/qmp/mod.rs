//! The client of QEMU's monitor protocol, QMP, and of the guest agent.
//!
//! It knows sockets and messages, and not what a VM is. It blocks, never
//! longer than it was told to.
//!
//! The trap: events come before, between and after replies, and a command that
//! is [refused](Error::Refused) is not a broken connection. QMP `stop` pauses
//! the guest; `quit` ends QEMU.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/qmp/prelaunch.rs"));
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let vm = Prelaunch::start();
//! # let socket = &vm.socket;
//! use std::time::Duration;
//!
//! use maqet::qmp::{Client, RunState};
//!
//! let mut qmp = Client::connect(socket, Duration::from_secs(5))?;
//! if qmp.status()?.run_state == RunState::Prelaunch {
//!     qmp.execute("quit", ())?;
//! }
//! while let Some(event) = qmp.next_event(Duration::from_secs(60))? {
//!     if event.name == "SHUTDOWN" {
//!         assert_eq!(event.data["reason"], "host-qmp-quit");
//!         break;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | for | use |
//! |---|---|
//! | a monitor that nobody else uses | [`Client`] |
//! | a monitor that others use too | [`Monitor`] |
//! | many commands from many threads | [`Pool`] |
//! | one question to many monitors | [`ask_all`] |
//! | all events of a VM, without a monitor | [`Follower`] |
//! | the guest agent | [`Agent`] |
//!
//! What was begun is a value, and given up by dropping it: [`Sent`] is a
//! command whose reply is still to be received, [`Started`] a job that goes on,
//! [`Pooled`] a connection that goes back to its pool. None of them leaves a
//! connection in disorder.

mod agent;
mod client;
mod error;
mod follower;
pub mod job;
mod link;
pub mod log;
mod message;
mod monitor;
mod pool;
#[cfg(test)]
pub(crate) mod prelaunch;
pub mod schema;
mod started;
#[cfg(test)]
mod tests;

pub use agent::{Agent, AgentCommand, AgentInfo, Base64, Shutdown};
pub use client::{Client, DEFAULT_TIMEOUT, Sent};
pub use error::{Awaited, Error, Holder};
pub use follower::{End, Follower, Heard, Start};
pub use job::{Job, JobEnd, JobStatus, JobTrack};
pub use message::{Event, Greeting, Release, RunState, Status, Timestamp, Version};
pub use monitor::{Monitor, ask_all, lock_path};
pub use pool::{Pool, Pooled};
pub use started::Started;
