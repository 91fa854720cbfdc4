//! Ctrl-C while something is under way that can be called off.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// From now on SIGINT and SIGTERM end nothing by themselves the first time: what this
/// returns tells whether one came. The second ends the process as usual.
pub(super) fn watch() -> io::Result<impl Fn() -> bool> {
    let came = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&came))?;
        flag::register(signal, Arc::clone(&came))?;
    }
    Ok(move || came.load(Ordering::Relaxed))
}
