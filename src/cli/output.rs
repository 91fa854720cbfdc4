//! Where words go: answers to stdout, everything else to stderr.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "this is the one door for output"
)]

use std::fmt::Display;
use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;

/// How to say things.
#[derive(clap::Args, Debug)]
pub(super) struct Output {
    /// Print one JSON document (for streams: one a line)
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but answers and errors
    #[arg(long, short, global = true)]
    quiet: bool,
}

impl Output {
    /// Prints an answer: as JSON, or as `human` writes it.
    pub fn answer<T: Serialize + ?Sized>(
        &self,
        value: &T,
        human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        // Standard output breaks at each line, with a system call for each.
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        if self.json {
            serde_json::to_writer(&mut stdout, value)?;
            writeln!(stdout)?;
        } else {
            human(&mut stdout)?;
        }
        stdout.flush()
    }

    /// Tells what was done: a line on stderr, and with `--json` the value on stdout.
    pub fn done<T: Serialize + ?Sized>(&self, value: &T, words: impl Display) -> io::Result<()> {
        if self.json {
            return self.answer(value, |_| Ok(()));
        }
        self.note(words);
        Ok(())
    }

    /// Whether anything but answers and errors is said.
    pub fn talks(&self) -> bool {
        !self.quiet && !self.json
    }

    /// Tells where a text is kept that was not used.
    pub fn kept(&self, file: &std::path::Path) {
        eprintln!("the text is kept in {}", file.display());
    }

    /// Asks on the terminal; whether the answer was `yes`, which an empty line is, too.
    pub fn ask(&self, question: &str, yes: char, no: char) -> io::Result<bool> {
        loop {
            eprint!("{question}");
            let mut line = String::new();
            if io::stdin().read_line(&mut line)? == 0 {
                eprintln!();
                return Ok(false);
            }
            match line.trim().to_lowercase().chars().next() {
                None => return Ok(true),
                Some(answer) if answer == yes => return Ok(true),
                Some(answer) if answer == no => return Ok(false),
                Some(_) => {}
            }
        }
    }

    /// Tells of what is amiss, and has kept nothing from being done.
    pub fn warn(&self, words: impl Display) {
        if !self.quiet {
            eprintln!("warning: {words}");
        }
    }

    /// What tells of what is done besides what was asked for.
    pub fn teller(&self) -> fn(&str) {
        match self.quiet {
            true => |_| {},
            false => |words| eprintln!("note: {words}"),
        }
    }

    /// A line of conversation.
    pub fn note(&self, words: impl Display) {
        if self.talks() {
            eprintln!("{words}");
        }
    }
}

/// From now on, ends the process when nobody reads stdout any more, though nothing is written.
pub(super) fn end_with_reader() {
    std::thread::spawn(|| {
        let stdout = io::stdout();
        // Asked for nothing, poll(2) tells of a pipe's closed end all the same.
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut fds, None).is_err() {}
        std::process::exit(0);
    });
}

/// Writes a table: capitals above, two spaces between columns, nothing cut. What is no
/// character to be seen is written as an escape.
pub(super) fn table<const N: usize>(
    w: &mut dyn Write,
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> io::Result<()> {
    let mut lines = vec![header.map(str::to_owned)];
    lines.extend(rows.into_iter().map(|row| row.map(printable)));
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in &lines {
        let mut text = String::new();
        for (width, cell) in widths.iter().zip(line) {
            text.push_str(cell);
            text.push_str(&" ".repeat(width - cell.chars().count() + 2));
        }
        writeln!(w, "{}", text.trim_end())?;
    }
    Ok(())
}

/// On one line, and nothing that a terminal would obey.
fn printable(text: String) -> String {
    let is_plain = |c: char| !c.is_control();
    match text.chars().all(is_plain) {
        true => text,
        false => text
            .chars()
            .map(|c| match is_plain(c) {
                true => c.to_string(),
                false => c.escape_default().to_string(),
            })
            .collect(),
    }
}

/// Bytes for people: `1.5 GiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 10.0 && value.fract() >= 0.05);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A span for people: `5s`, `3m 2s`, `2h 10m`, `9d 4h`.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// What stands for something unknown.
pub(super) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_it_must_be() {
        let mut text = Vec::new();
        let rows = [
            ["web".to_owned(), "running".to_owned()],
            ["a-long-name".to_owned(), String::new()],
        ];
        table(&mut text, ["NAME", "STATE"], rows).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "NAME         STATE\nweb          running\na-long-name\n"
        );
    }

    #[test]
    fn sizes_and_spans_for_people() {
        for (value, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1 << 20, "1 MiB"),
            (3 << 29, "1.5 GiB"),
            (210 << 20, "210 MiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        for (value, text) in [
            (0, "0s"),
            (61, "1m 1s"),
            (7_200, "2h 0m"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(span(value), text);
        }
    }
}
