//! Ctrl-C while something is under way that can be called off, or must come to its end.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The signal that came; 0 as long as none has. There only while something is watched.
static CAME: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// From now on SIGINT and SIGTERM end nothing by themselves the first time: what this
/// returns tells whether one came. The second ends the process as usual.
pub(super) fn watch() -> io::Result<impl Fn() -> bool> {
    let is_second = Arc::new(AtomicBool::new(false));
    let came = Arc::clone(CAME.get_or_init(Arc::default));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&is_second))?;
        flag::register(signal, Arc::clone(&is_second))?;
        flag::register_usize(signal, Arc::clone(&came), signal as usize)?;
    }
    Ok(move || came.load(Ordering::Relaxed) != 0)
}

/// The signal that has come while something was watched.
pub(super) fn came() -> Option<u8> {
    let signal = CAME.get()?.load(Ordering::Relaxed);
    u8::try_from(signal).ok().filter(|signal| *signal != 0)
}
