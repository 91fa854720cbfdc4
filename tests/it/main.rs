//! maqet as its users run it: the real command, a real systemd user manager, a real QEMU.
//!
//! One file for each verb, and one for each kind of trouble. Run with
//! `tests/host/test`; without a user manager every test here fails and says so.

/// A user's directories, VMs and commands, cleaned up afterwards.
mod sandbox;

/// Commands that are killed at each of their steps.
mod kill;

/// Definitions in, disks made, mistakes refused.
mod add;
/// Whether the guest runs an agent, and which.
mod agent;
/// As the files say, and the second time nothing.
mod apply;
/// What the guest's board does: watchdog, panics, firmware's tables, random numbers.
mod board;
/// Killed, cut off, full, misspelt: what is true afterwards.
mod broken;
/// Overlays and copies of a VM's disks, for another one.
mod clone;
/// What a shell offers for what is typed so far.
mod completion;
/// Many clients of one monitor, some of them stuck.
mod concurrency;
/// What another VM or process has, found before QEMU does.
mod conflict;
/// Plugged, unplugged, kept by a guest, kept in the definition.
mod device;
/// What waits for the next start, what a file would change.
mod diff;
/// What starts at boot no more.
mod disable;
/// Images and chains of them, looked at and changed.
mod disk;
/// Screens that are shown by servers.
mod display;
/// What is broken, found and mended.
mod doctor;
/// A text edited, checked and kept, or nothing changed.
mod edit;
/// What starts at boot.
mod enable;
/// What QEMU told, kept and followed.
mod events;
/// Definitions as one text.
mod export;
/// Slices, and the limits that VMs share.
mod group;
/// QEMU's monitor for people.
mod hmp;
/// Definitions from one text, all or none.
mod import;
/// One job: told what to do, waited for, failed.
mod job;
/// Jobs, listed.
mod jobs;
/// Keys by name, pressed and released.
mod keys;
/// The journal and the console, kept and bounded.
mod logs;
/// States, patterns, JSON.
mod ls;
mod migrate;
mod model;
mod mutated;
/// Networks between VMs, and what the host must have for others.
mod network;
/// The non-maskable interrupt, and what a kernel does with it.
mod nmi;
/// Who starts and stops after whom.
mod order;
/// Virtual CPUs that halt.
mod pause;
/// Ports, and their other ends.
mod port;
/// The power button, pressed once.
mod powerdown;
/// The table of properties, against systemd itself.
mod properties;
/// QMP from any process.
mod qmp;
/// Several at once, and commands that are killed halfway.
mod races;
/// The definitions in README.
mod readme;
/// As far as the definition wants the guest to be.
mod ready;
/// Another name, whole or not at all.
mod rename;
/// The reset button.
mod reset;
/// What brings a VM back, and what does not.
mod restart;
/// Going on, waking up.
mod resume;
/// What is deleted, and what never is.
mod rm;
/// Memory on disk, and the guest that goes on from it.
mod save;
/// All that a real QEMU can be asked.
mod schema;
/// What is on the screen.
mod screenshot;
/// Keys and limits changed, at once where that can be; all or none.
mod set;
/// QMP on a terminal.
mod shell;
/// As it was: all of it, or as it is.
mod snapshot;
/// Up, or not up with QEMU's own words.
mod start;
/// What one VM is doing.
mod status;
/// Powering down, and not powering down.
mod stop;
/// Definitions to begin with, and what they boot.
mod template;
/// Images that are gone, damaged or out of reach.
mod trouble;
/// Text, with no character lost.
mod r#type;
/// Keys taken out of a definition.
mod unset;
/// What comes, what does not, and what no longer can.
mod wait;
mod writer;

#[path = "../pool.rs"]
#[allow(dead_code)]
mod pool;
