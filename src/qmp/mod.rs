//! The client of QEMU's monitor protocol, QMP, and of the guest agent.
//!
//! It knows sockets and messages, and not what a VM is. It blocks, never
//! longer than it was told to, and has no threads.
//!
//! The trap: events come before, between and after replies, and a command that
//! is [refused](Error::Refused) is not a broken connection. QMP `stop` pauses
//! the guest; `quit` ends QEMU.
//!
//! ```no_run
//! use std::path::Path;
//! use std::time::Duration;
//!
//! use maqet::qmp::{Client, RunState};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let socket = Path::new("/run/user/1000/maqet/web/qmp.sock");
//!     let mut qmp = Client::connect(socket, Duration::from_secs(5))?;
//!     if qmp.status()?.run_state == RunState::Running {
//!         qmp.execute("system_powerdown", ())?;
//!     }
//!     while let Some(event) = qmp.next_event(Duration::from_secs(60))? {
//!         println!("{}", event.name);
//!         if event.name == "SHUTDOWN" {
//!             break;
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! | for | use |
//! |---|---|
//! | a monitor that nobody else uses | [`Client`] |
//! | a monitor that others use too | [`Monitor`] |
//! | one question to many monitors | [`ask_all`] |
//! | all events of a VM, without a monitor | [`Follower`] |
//! | the guest agent | [`Agent`] |

mod agent;
mod client;
mod error;
mod follower;
pub mod job;
mod link;
pub mod log;
mod message;
mod monitor;
#[cfg(test)]
pub(crate) mod prelaunch;
pub mod schema;
#[cfg(test)]
mod tests;

pub use agent::{Agent, AgentCommand, AgentInfo, Shutdown};
pub use client::{Client, DEFAULT_TIMEOUT, Id};
pub use error::{Awaited, Error, Holder};
pub use follower::{End, Follower, Heard, Start};
pub use job::{Job, JobEnd, JobStatus, JobTrack};
pub use message::{Event, Greeting, Release, RunState, Status, Timestamp, Version};
pub use monitor::{Monitor, ask_all, lock_path};
