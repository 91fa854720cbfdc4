//! How far a disk is, on a terminal; and Ctrl-C, which calls it off.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::Progress;

use super::super::interrupt;
use super::super::output::Output;

/// Does something that takes its time. It is called off by the first Ctrl-C.
pub(in crate::cli) fn watched<T>(
    out: &Output,
    work: impl FnOnce(&mut dyn FnMut(Progress) -> bool) -> T,
) -> io::Result<T> {
    let interrupted = interrupt::watch()?;
    let bar = ProgressBar::hidden();
    let mut step = "";
    let is_seen = io::stderr().is_terminal() && out.talks();
    let done = work(&mut |progress: Progress| {
        if is_seen && progress.step != step {
            step = progress.step;
            bar.set_draw_target(ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {percent} % {eta}");
            bar.set_style(style.expect("it is a template"));
            bar.set_prefix(step);
            bar.set_length(PARTS);
            bar.reset();
        }
        bar.set_position((progress.done * PARTS as f64) as u64);
        !interrupted()
    });
    bar.finish_and_clear();
    Ok(done)
}

/// Of how many parts the whole is.
const PARTS: u64 = 1000;
