//! The event log: what QEMU told its first monitor, one JSON message a line.
//!
//! QEMU writes it itself and at once, so its last lines say what the guest is
//! doing without a question to QEMU. What they do not say for sure is `None`,
//! and then QEMU has to be asked.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::Errno;
use serde::Deserialize;

use super::message::{Event, RunState};

/// How much of the end is read: some dozens of events.
const TAIL: u64 = 4096;

/// Begins a log, with the state in which QEMU will find itself when it says nothing else.
///
/// `None` when that cannot be told beforehand, as with an incoming migration.
///
/// It is a new file, so that whoever follows the last run's can tell them apart.
pub fn begin(path: &Path, state: Option<&RunState>) -> io::Result<()> {
    let line = match state {
        Some(state) => format!("{{\"begins\": \"{state}\"}}\n"),
        None => String::new(),
    };
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, line)?;
    std::fs::rename(unfinished, path)
}

/// Waits until there is a log at `path`: until the VM is started.
///
/// # Errors
/// Those of inotify(7).
pub fn wait_for(path: &Path) -> io::Result<()> {
    let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF;
    while !path.exists() {
        let inotify = init(CreateFlags::CLOEXEC)?;
        // The directory is made with the run.
        let nearest = path.ancestors().skip(1).find(|dir| dir.exists());
        let nearest = nearest.unwrap_or(Path::new("/"));
        match add_watch(&inotify, nearest, flags | WatchFlags::ONLYDIR) {
            Err(Errno::NOENT) => continue,
            watch => watch?,
        };
        let below = path.ancestors().find(|it| it.parent() == Some(nearest));
        // What came before the watch does not wake.
        if !below.is_some_and(Path::exists) {
            match rustix::io::read(&inotify, &mut [0; 4096]) {
                Err(Errno::INTR) => {}
                read => drop(read?),
            }
        }
    }
    Ok(())
}

/// The run state that the log at `path` ends with, if it can be told.
pub fn run_state(path: &Path) -> Option<RunState> {
    let mut file = File::open(path).ok()?;
    let mut text = Vec::new();
    let length = file.seek(SeekFrom::End(0)).ok()?;
    let start = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start)).ok()?;
    file.by_ref().take(2 * TAIL).read_to_end(&mut text).ok()?;
    match last_state(&text) {
        Last::Is(state) => state,
        Last::Unsaid if start == 0 => None,
        // A guest that is quiet about itself and busy with its clock.
        Last::Unsaid => {
            text.clear();
            file.seek(SeekFrom::Start(0)).ok()?;
            file.read_to_end(&mut text).ok()?;
            match last_state(&text) {
                Last::Is(state) => state,
                Last::Unsaid => None,
            }
        }
    }
}

/// When the guest was last reset in this run; a guest that reboots is.
pub fn last_reset(path: &Path) -> Option<SystemTime> {
    let text = std::fs::read(path).ok()?;
    let events = text.rsplit(|byte| *byte == b'\n');
    let mut events = events.filter_map(|line| serde_json::from_slice::<Event>(line).ok());
    events.find(|event| event.name == "RESET")?.timestamp.time()
}

/// What the last line that tells of the run state says.
enum Last {
    /// This, or something that only QEMU can name.
    Is(Option<RunState>),
    /// There is no such line.
    Unsaid,
}

#[derive(Deserialize)]
struct Line {
    event: Option<String>,
    begins: Option<RunState>,
}

fn last_state(text: &[u8]) -> Last {
    for line in text.rsplit(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            // Cut at the beginning, or not finished yet.
            continue;
        };
        match (line.event.as_deref(), line.begins) {
            (Some("RESUME" | "WAKEUP"), _) => return Last::Is(Some(RunState::Running)),
            // Why it stopped has many names.
            (Some("STOP" | "SUSPEND" | "SUSPEND_DISK" | "SHUTDOWN" | "GUEST_PANICKED"), _) => {
                return Last::Is(None);
            }
            (None, Some(state)) => return Last::Is(Some(state)),
            _ => {}
        }
    }
    Last::Unsaid
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "#;

    fn state_after(events: &[&str], begins: Option<RunState>) -> Option<RunState> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.log");
        begin(&path, begins.as_ref()).unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        for event in events {
            text.push_str(&format!("{EVENT}\"{event}\"}}\r\n"));
        }
        std::fs::write(&path, text).unwrap();
        run_state(&path)
    }

    #[test]
    fn the_last_event_about_the_guest_counts() {
        let running = Some(RunState::Running);
        let prelaunch = Some(RunState::Prelaunch);
        for (events, begins, expected) in [
            (&[][..], running.clone(), running.clone()),
            (&[], prelaunch.clone(), prelaunch.clone()),
            (&[], None, None),
            (&["RESUME"], prelaunch.clone(), running.clone()),
            (&["RTC_CHANGE", "RESET"], prelaunch.clone(), prelaunch),
            (&["STOP"], running.clone(), None),
            (
                &["STOP", "RESUME", "RTC_CHANGE"],
                running.clone(),
                running.clone(),
            ),
            (&["SUSPEND", "WAKEUP"], running.clone(), running.clone()),
            (&["GUEST_PANICKED"], running, None),
        ] {
            assert_eq!(state_after(events, begins), expected, "{events:?}");
        }
    }

    #[test]
    fn a_long_log_is_read_to_its_beginning_when_its_end_does_not_say() {
        let clock = vec!["RTC_CHANGE"; 1000];
        assert_eq!(
            state_after(&clock, Some(RunState::Prelaunch)),
            Some(RunState::Prelaunch)
        );
    }

    #[test]
    fn a_log_is_waited_for_before_its_directory_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let vm = dir.path().join("maqet/web");
        let log = vm.join("events.log");
        let waiting = std::thread::spawn({
            let log = log.clone();
            move || wait_for(&log).unwrap()
        });
        for _ in 0..20 {
            std::fs::create_dir_all(&vm).unwrap();
            std::fs::remove_dir_all(&vm).unwrap();
        }
        assert!(!waiting.is_finished());
        std::fs::create_dir_all(&vm).unwrap();
        begin(&log, None).unwrap();
        waiting.join().unwrap();
        wait_for(&log).unwrap();
    }

    #[test]
    fn what_is_no_log_says_nothing() {
        assert_eq!(run_state(Path::new("/nonexistent")), None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.log");
        std::fs::write(&path, b"\xff\xfe{\"event\": 1}\n{\n").unwrap();
        assert_eq!(run_state(&path), None);
    }
}
