//! Commands from a file or a pipe, one a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cli::output::Output;
use crate::cli::several::Tally;
use crate::ops::qmp::{Command, Session};

/// Executes the commands in `file`, of which `-` is standard input.
pub(super) fn run(
    out: &Output,
    session: &mut Session<'_>,
    file: &Path,
    keep_going: bool,
) -> anyhow::Result<ExitCode> {
    let (name, input) = if file == Path::new("-") {
        let stdin = io::stdin().as_fd().try_clone_to_owned();
        ("standard input".to_owned(), stdin.map(File::from))
    } else {
        (file.display().to_string(), File::open(file))
    };
    let input = input.with_context(|| format!("cannot read {name}"))?;
    let mut input = BufReader::new(input);
    let mut tally = Tally::default();
    // Nothing to do with a VM that is not there is a mistake, too.
    session.open()?;
    for number in 1.. {
        // Nobody is kept from the monitor while a pipe has nothing to say.
        if !input.buffer().contains(&b'\n') && !is_ready(input.get_ref().as_fd()) {
            session.release();
        }
        let mut line = Vec::new();
        let length = input
            .read_until(b'\n', &mut line)
            .with_context(|| format!("cannot read {name}"))?;
        if length == 0 {
            break;
        }
        let answer = String::from_utf8(line)
            .context("this is not UTF-8")
            .and_then(|line| Ok(Command::of_line(&line)?))
            .and_then(|command| {
                Ok(command
                    .map(|command| session.execute(&command))
                    .transpose()?)
            })
            .map_err(|error| {
                let place = format!("{name}:{number}: {error}");
                error.context(place)
            });
        if !keep_going && answer.is_err() {
            answer?;
            break;
        }
        tally.count(answer, |answer| match answer {
            Some(answer) => super::print(out, &answer),
            None => Ok(()),
        });
    }
    tally.finish()
}

/// Whether there is something to read, or an end.
fn is_ready(file: BorrowedFd<'_>) -> bool {
    let now = Timespec::default();
    // What cannot be asked is read, which says why.
    poll(
        &mut [PollFd::from_borrowed_fd(file, PollFlags::IN)],
        Some(&now),
    ) != Ok(0)
}
