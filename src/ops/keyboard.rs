//! Pressing a VM's keys so that none is lost.
//!
//! QEMU drops what its keyboards cannot hold, and says nothing: that of PS/2 has
//! room for 16 bytes (hw/input/ps2.c), that of USB for 16 events, of which the
//! guest fetches one each 8 to 10 ms (hw/input/hid.c). `send-key` queues 1024
//! events in front of them, only to pour them in by the clock (ui/input.c). So a
//! chord is sent when the guest has taken the one before: the controller of PS/2
//! tells that by bit 0 of its status port, which may be read without side effects.
//! The others tell nothing, and get no more than a guest takes in time.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::keyboard::Chord;
use crate::process::{Process, Undisturbed};
use crate::qmp::{Monitor, RunState};
use crate::vm::VmName;

use super::{Error, hmp};

/// From one press or release to the next. A program that reads a Linux event
/// device has a queue of 64 events, of which a key makes three: it may be away for 40 ms.
const PACE: Duration = Duration::from_millis(2);

/// The same where a virtio keyboard may be the one in use: it holds 32 of them.
const VIRTIO_PACE: Duration = Duration::from_millis(4);

/// The same where it may be a USB keyboard, which is asked every 8 or 10 ms.
const USB_PACE: Duration = Duration::from_millis(12);

/// The most that is waited after a key that a guest was slow to take.
const SLOW: Duration = Duration::from_millis(50);

/// Status of the PS/2 controller: there is something for the guest to read.
const OUTPUT_FULL: u8 = 1;

/// The keyboard of a VM whose guest runs.
pub(super) struct Keyboard<'a> {
    name: &'a VmName,
    monitor: Monitor,
    pace: Duration,
    limit: Duration,
    pressed: usize,
    all: usize,
}

impl<'a> Keyboard<'a> {
    /// For `all` chords. `limit` is for the guest to take each.
    pub fn new(
        name: &'a VmName,
        mut monitor: Monitor,
        all: usize,
        limit: Duration,
    ) -> Result<Self, Error> {
        let state = monitor.status()?.run_state;
        if state != RunState::Running {
            return Err(Error::WrongState {
                name: name.clone(),
                state,
                why: "nobody reads its keyboard",
            });
        }
        let pace = pace(&mut monitor)?;
        let pressed = 0;
        Ok(Self {
            name,
            monitor,
            pace,
            limit,
            pressed,
            all,
        })
    }

    /// Presses all keys of a chord, and releases them again. Both are one command:
    /// no key stays down if this process is killed.
    pub fn press(&mut self, chord: &Chord) -> Result<(), Error> {
        let events: Vec<Value> = down(chord).chain(up(chord)).collect();
        self.send(events)?;
        self.pressed += 1;
        Ok(())
    }

    /// The same with time in between, at most until QEMU ends. A signal that ends this
    /// process has the keys released first.
    pub fn hold(&mut self, chord: &Chord, time: Duration) -> Result<(), Error> {
        let undisturbed = Undisturbed::begin();
        self.send(down(chord).collect())?;
        let qemu = self.monitor.peer().and_then(Process::open);
        undisturbed.wait(time, qemu.as_ref());
        self.send(up(chord).collect())?;
        self.pressed += 1;
        Ok(())
    }

    fn send(&mut self, events: Vec<Value>) -> Result<(), Error> {
        self.wait_until_taken()?;
        let pace = self.pace * u32::try_from(events.len()).unwrap_or(u32::MAX);
        self.monitor
            .execute("input-send-event", json!({ "events": events }))?;
        // Not counted from before that: a host that is slow in this has a slow guest, too.
        thread::sleep(pace);
        Ok(())
    }

    /// Waits until the guest has read all that was pressed so far, where that can be told.
    pub fn wait_until_taken(&mut self) -> Result<(), Error> {
        let begin = Instant::now();
        let deadline = begin + self.limit;
        loop {
            let answer = hmp::print(&mut self.monitor, "i /b 0x64")?;
            match status(&answer) {
                Some(status) if status & OUTPUT_FULL != 0 => {}
                _ => {
                    // A guest that is slow in taking a key is slow in handing it on, too;
                    // so is one whose host is slow in telling.
                    thread::sleep(begin.elapsed().min(SLOW));
                    return Ok(());
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::KeysNotTaken {
                    name: self.name.clone(),
                    // The last one may be in the keyboard still.
                    taken: self.pressed.saturating_sub(1),
                    all: self.all,
                });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The value in `portb[0x0064] = 0x1c`; `None` where nothing answers at that port.
fn status(answer: &str) -> Option<u8> {
    let (_, value) = answer.trim().split_once("= 0x")?;
    let status = u8::from_str_radix(value, 16).ok()?;
    (status != 0xff).then_some(status)
}

/// Keyboards are used in the order in which the guest finds them: the slowest counts.
fn pace(monitor: &mut Monitor) -> Result<Duration, Error> {
    let mut pace = PACE;
    for path in ["/machine/peripheral", "/machine/peripheral-anon"] {
        let devices = monitor.execute("qom-list", json!({ "path": path }))?;
        for device in devices.as_array().into_iter().flatten() {
            match device["type"].as_str().unwrap_or_default() {
                "child<usb-kbd>" => pace = USB_PACE,
                kind if kind.starts_with("child<virtio-keyboard") => pace = pace.max(VIRTIO_PACE),
                _ => {}
            }
        }
    }
    Ok(pace)
}

fn down(chord: &Chord) -> impl Iterator<Item = Value> {
    chord.0.iter().map(|key| event(key, true))
}

fn up(chord: &Chord) -> impl Iterator<Item = Value> {
    chord.0.iter().rev().map(|key| event(key, false))
}

fn event(key: &str, down: bool) -> Value {
    let key = json!({ "type": "qcode", "data": key });
    json!({ "type": "key", "data": { "down": down, "key": key } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_the_controller_is_read_where_there_is_one() {
        assert_eq!(status("portb[0x0064] = 0x1c\r\n"), Some(0x1c));
        assert_eq!(status("portb[0x0064] = 0xff\r\n"), None);
        assert_eq!(status("unknown command: 'i'\r\n"), None);
    }
}
