//! Copying a console log, line by line, to where its history is kept.
//!
//! A boot log is to be there as a whole; a guest that prints without end is not to
//! fill anything. So a run has credit for much at once, which comes back slowly,
//! and what is left out is counted.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::plain;
use super::shipped::Mark;

/// What a run may copy at once: some boots with all their messages.
pub const CREDIT: u64 = 5_000;

/// How much credit comes back in [`REFILL_SECONDS`]: for a guest that prints all the
/// time, less than 100 MB of journal in a day.
const REFILL: u64 = 50;
const REFILL_SECONDS: u64 = 30;

/// A longer line is copied in pieces, in bytes.
const LINE: u64 = 2048;

/// How far the copy of a run that goes on may be behind, in bytes.
const BEHIND: u64 = 256 << 10;
/// And where it goes on when it is further behind.
const RECENT: u64 = 32 << 10;

/// How many lines at the end of a run are copied whatever its credit, and within how
/// many bytes.
const LAST_LINES: usize = 20;
const LAST_BYTES: u64 = 4 << 10;

/// Where lines go.
pub trait Sink {
    /// One line, without what is for terminals.
    fn line(&mut self, line: &str) -> io::Result<()>;
    /// So many bytes were left out here.
    fn left_out(&mut self, bytes: u64) -> io::Result<()>;
}

/// What copying a line of so many bytes takes of credit.
pub fn cost(bytes: usize) -> u64 {
    1 + bytes as u64 / 256
}

impl Mark {
    /// The beginning of a log.
    pub fn begin(run: String, previous_run: Option<String>, now: u64) -> Self {
        Self {
            run,
            previous_run,
            credit: CREDIT,
            at: now,
            ..Default::default()
        }
    }

    /// Gives back the credit of the time that has passed.
    pub fn refill(&mut self, now: u64) {
        let gained = now.saturating_sub(self.at) * REFILL / REFILL_SECONDS;
        if gained > 0 || now < self.at {
            self.credit = CREDIT.min(self.credit + gained);
            self.at = now;
        }
    }
}

/// Copies what is new in a log, as far as the credit goes and `may_spend` lets it.
///
/// A run that has `ended` is copied to its last byte. Of one that goes on, a line that is
/// not complete waits. `mark` is right also after an error.
pub fn copy(
    file: &File,
    mark: &mut Mark,
    ended: bool,
    mut may_spend: impl FnMut(u64) -> bool,
    sink: &mut impl Sink,
) -> io::Result<()> {
    let length = file.metadata()?.len();
    if mark.offset > length {
        // Emptied, where holes cannot be punched.
        mark.offset = 0;
    }
    // At its end, a run that printed much is not to use up what the others may have.
    if ended {
        catch_up(file, mark, length)?;
    }
    let begin = data_from(file, mark.offset, length)?;
    skip_to(mark, begin);
    let mut log = lines(file, begin, length)?;
    let mut line = Vec::new();
    while let Some(complete) = next(&mut log, &mut line)? {
        let cost = cost(line.len());
        if !(complete || ended) || mark.credit < cost || !may_spend(cost) {
            break;
        }
        emit(mark, &line, sink)?;
        mark.credit -= cost;
    }
    match ended {
        true if mark.offset < length => copy_end(file, mark, length, sink),
        true => Ok(()),
        false => catch_up(file, mark, length),
    }
}

/// Leaves out what a copy that is too far behind would not come to.
fn catch_up(file: &File, mark: &mut Mark, length: u64) -> io::Result<()> {
    if length - mark.offset > BEHIND {
        let recent = line_from(file, length - RECENT, length)?;
        skip_to(mark, recent);
    }
    Ok(())
}

/// The last lines of a run for which there is no credit.
fn copy_end(file: &File, mark: &mut Mark, length: u64, sink: &mut impl Sink) -> io::Result<()> {
    let mut begin = mark.offset;
    if length - begin > LAST_BYTES {
        begin = line_from(file, length - LAST_BYTES, length)?;
    }
    let mut last = Vec::new();
    let mut log = lines(file, begin, length)?;
    let mut line = Vec::new();
    while next(&mut log, &mut line)?.is_some() {
        last.push(std::mem::take(&mut line));
    }
    let skipped = last.len().saturating_sub(LAST_LINES);
    let bytes: usize = last[..skipped].iter().map(Vec::len).sum();
    skip_to(mark, begin + bytes as u64);
    for line in &last[skipped..] {
        emit(mark, line, sink)?;
    }
    // If it ended in what was left out.
    if mark.left_out > 0 {
        sink.left_out(mark.left_out)?;
        mark.left_out = 0;
    }
    Ok(())
}

fn skip_to(mark: &mut Mark, offset: u64) {
    mark.left_out += offset - mark.offset;
    mark.offset = offset;
}

fn emit(mark: &mut Mark, line: &[u8], sink: &mut impl Sink) -> io::Result<()> {
    if mark.left_out > 0 {
        sink.left_out(mark.left_out)?;
        mark.left_out = 0;
    }
    let text = plain(&String::from_utf8_lossy(line));
    if !text.trim().is_empty() {
        sink.line(&text)?;
    }
    mark.offset += line.len() as u64;
    Ok(())
}

fn lines(file: &File, begin: u64, length: u64) -> io::Result<io::Take<BufReader<&File>>> {
    let mut file = file;
    file.seek(SeekFrom::Start(begin))?;
    Ok(BufReader::with_capacity(32 << 10, file).take(length - begin))
}

/// The next line, or a piece of a long one, and whether all of it is there.
fn next(log: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let read = log.by_ref().take(LINE).read_until(b'\n', line)?;
    let complete = line.last() == Some(&b'\n') || read as u64 == LINE;
    Ok((read > 0).then_some(complete))
}

/// The first byte from `offset` on that is still there, at a line's beginning.
fn data_from(file: &File, offset: u64, length: u64) -> io::Result<u64> {
    if offset == length {
        return Ok(offset);
    }
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(found) if found == offset => Ok(offset),
        Ok(found) => line_from(file, found, length),
        // Nothing but a hole.
        Err(rustix::io::Errno::NXIO) => Ok(length),
        Err(error) => Err(error.into()),
    }
}

/// The beginning of the line after the one that `offset` is in.
fn line_from(file: &File, offset: u64, length: u64) -> io::Result<u64> {
    let mut line = Vec::new();
    let mut log = lines(file, offset, length)?;
    Ok(offset + log.by_ref().take(RECENT).read_until(b'\n', &mut line)? as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[derive(Default)]
    struct Lines {
        lines: Vec<String>,
        left_out: Vec<u64>,
    }

    impl Sink for Lines {
        fn line(&mut self, line: &str) -> io::Result<()> {
            self.lines.push(line.to_owned());
            Ok(())
        }

        fn left_out(&mut self, bytes: u64) -> io::Result<()> {
            self.left_out.push(bytes);
            Ok(())
        }
    }

    /// A log, what was copied of it, and how far.
    struct Run {
        log: File,
        mark: Mark,
        copied: Lines,
    }

    impl Run {
        fn new() -> Self {
            Self {
                log: tempfile::tempfile().unwrap(),
                mark: Mark::begin("run".to_owned(), None, 0),
                copied: Lines::default(),
            }
        }

        fn print(&mut self, text: &str) {
            self.log.seek(SeekFrom::End(0)).unwrap();
            self.log.write_all(text.as_bytes()).unwrap();
        }

        fn print_lines(&mut self, numbers: std::ops::Range<usize>) {
            let text: String = numbers.map(|n| format!("line {n:010}\n")).collect();
            self.print(&text);
        }

        fn copy(&mut self, ended: bool) {
            copy(&self.log, &mut self.mark, ended, |_| true, &mut self.copied).unwrap();
        }

        /// Each byte was copied (as lines of 16 bytes) or is counted as left out.
        fn assert_nothing_is_lost(&self) {
            let left_out: u64 = self.copied.left_out.iter().sum::<u64>() + self.mark.left_out;
            let lines = self.copied.lines.len() as u64;
            assert_eq!(lines * 16 + left_out, self.mark.offset);
        }
    }

    #[test]
    fn lines_are_copied_once_and_when_they_are_complete() {
        let mut run = Run::new();
        run.print("one\r\ntwo\n\n\u{1b}[1mthr");
        run.copy(false);
        assert_eq!(run.copied.lines, ["one", "two"]);
        run.copy(false);
        run.print("ee\u{1b}[0m\nlogin: ");
        run.copy(false);
        assert_eq!(run.copied.lines, ["one", "two", "three"]);
        run.copy(true);
        assert_eq!(run.copied.lines, ["one", "two", "three", "login: "]);
        assert!(run.copied.left_out.is_empty());
    }

    #[test]
    fn a_boot_log_is_copied_whole() {
        let mut run = Run::new();
        run.print_lines(0..4_000);
        run.copy(false);
        assert_eq!(run.copied.lines.len(), 4_000);
        assert!(run.copied.left_out.is_empty());
    }

    #[test]
    fn what_has_no_credit_waits_and_is_copied_later() {
        let mut run = Run::new();
        run.print_lines(0..10_000);
        for minute in 0..200 {
            run.mark.refill(minute * 60);
            run.copy(false);
        }
        assert_eq!(run.copied.lines.len(), 10_000);
        assert!(run.copied.left_out.is_empty());
    }

    #[test]
    fn a_guest_that_prints_without_end_is_bounded_and_its_last_lines_are_there() {
        let mut run = Run::new();
        let step = 50_000;
        for time in 0..10 {
            run.mark.refill(time as u64 * REFILL_SECONDS);
            run.print_lines(time * step..(time + 1) * step);
            run.copy(false);
            super::super::trim_to(&run.log, 64 << 10).unwrap();
            run.assert_nothing_is_lost();
        }
        run.print_lines(10 * step..11 * step);
        run.mark.credit = 0;
        run.copy(true);
        run.assert_nothing_is_lost();
        let lines = &run.copied.lines;
        assert!(lines.len() as u64 <= CREDIT + 9 * REFILL + LAST_LINES as u64);
        assert_eq!(lines[0], "line 0000000000");
        assert_eq!(lines.last().unwrap(), "line 0000549999");
        // Once each time, not for each line.
        assert!(run.copied.left_out.len() <= 11);
    }

    #[test]
    fn a_long_line_comes_in_pieces_and_costs_more() {
        let mut run = Run::new();
        run.print(&"x".repeat(5_000));
        run.copy(true);
        let lengths: Vec<usize> = run.copied.lines.iter().map(String::len).collect();
        assert_eq!(lengths, [2048, 2048, 904]);
        assert_eq!(run.mark.credit, CREDIT - 9 - 9 - 4);
    }

    #[test]
    fn an_error_leaves_the_mark_at_the_last_line_that_was_copied() {
        struct Full(usize);
        impl Sink for Full {
            fn line(&mut self, _: &str) -> io::Result<()> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::TimedOut)?;
                Ok(())
            }
            fn left_out(&mut self, _: u64) -> io::Result<()> {
                Ok(())
            }
        }
        let mut run = Run::new();
        run.print_lines(0..10);
        copy(&run.log, &mut run.mark, true, |_| true, &mut Full(3)).unwrap_err();
        assert_eq!(run.mark.offset, 3 * 16);
        run.copy(true);
        assert_eq!(run.copied.lines.len(), 7);
        assert_eq!(run.copied.lines[0], "line 0000000003");
    }
}
