//! The interactive shell.
//!
//! It holds the monitor only while a command runs: events come from the log that
//! QEMU writes, and others are served while it sits at its prompt.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, ExternalPrinter, Helper};

use super::describe;
use crate::cli::error;
use crate::cli::events::{FREQUENT, words};
use crate::cli::output::Output;
use crate::ops::qmp::{Command, Session};
use crate::qmp::schema::Schema;
use crate::qmp::{Event, Follower, Heard};
use crate::vm::VmName;

const HELP: &str = "\
COMMAND [KEY=VALUE…]  execute a command, as `maqet qmp` does
{\"execute\": …}        the same in JSON
help COMMAND          show its arguments and its answer
exit, or ctrl-D       leave

Tab completes commands, arguments and their values; ctrl-R searches the history.
";

/// Reads commands from the terminal until its user has had enough, or QEMU ends.
pub(super) fn run(
    out: &Output,
    session: &mut Session<'_>,
    name: &VmName,
    history: &Path,
) -> anyhow::Result<()> {
    let mut editor = Editor::<Completion, FileHistory>::with_config(
        Config::builder()
            .completion_type(CompletionType::List)
            .history_ignore_space(true)
            .max_history_size(10_000)?
            .build(),
    )?;
    editor.set_helper(Some(Completion(session.schema()?.clone())));
    let events = session.events()?;
    session.release();
    // There may be none yet.
    let _ = editor.load_history(history);
    let is_over = Arc::new(AtomicBool::new(false));
    // A ctrl-C while a command runs must not end the shell, nor must what wakes it.
    // SAFETY: no handler is installed, a signal is only ignored.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    // A terminal that can move no cursor has no events above its prompt.
    if let Ok(printer) = editor.create_external_printer() {
        let is_over = is_over.clone();
        thread::spawn(move || follow(events, printer, &is_over));
    }
    out.note(format_args!("QMP of `{name}`; `help` helps, ctrl-D leaves"));
    let prompt = format!("{name}> ");
    while !is_over.load(Ordering::SeqCst) {
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // It is kept at once: the terminal may be closed any moment.
        let kept = editor.add_history_entry(&line);
        if let Err(error) = kept.and_then(|_| editor.append_history(history)) {
            out.note(format_args!("the history cannot be kept: {error}"));
        }
        if line.trim() == "exit" {
            return Ok(());
        }
        if line.trim() == "quit" && !confirm(&mut editor)? {
            continue;
        }
        if let Err(error) = execute(out, session, &line) {
            error::print(&error);
        }
        session.release();
    }
    out.note(format_args!("VM `{name}` has ended"));
    Ok(())
}

fn execute(out: &Output, session: &mut Session<'_>, line: &str) -> anyhow::Result<()> {
    let words = shlex::split(line).unwrap_or_default();
    match words.split_first() {
        Some((first, [])) if first == "help" => io::stdout().write_all(HELP.as_bytes())?,
        Some((first, command)) if first == "help" => {
            describe::describe(out, session, command)?;
        }
        _ => {
            if let Some(command) = Command::of_line(line)? {
                super::print(out, &session.execute(&command)?)?;
            }
        }
    }
    Ok(())
}

/// Whether somebody who types `quit` wants to quit QEMU, and not the shell.
fn confirm(editor: &mut Editor<Completion, FileHistory>) -> anyhow::Result<bool> {
    match editor.readline("this cuts the VM's power (`exit` leaves the shell): go on? [y/N] ") {
        Ok(answer) => Ok(matches!(answer.trim(), "y" | "Y" | "yes")),
        Err(ReadlineError::Interrupted | ReadlineError::Eof) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Prints events until the run ends, and then wakes the prompt.
fn follow(mut events: Follower, mut printer: impl ExternalPrinter, is_over: &AtomicBool) {
    // What cannot be read on is as good as over, which the next command tells.
    while let Ok(Heard::Event(event)) = events.next_event(None) {
        if !FREQUENT.contains(&event.name.as_str()) && printer.print(line(&event)).is_err() {
            return;
        }
    }
    is_over.store(true, Ordering::SeqCst);
    loop {
        // Only the terminal and a signal wake it; one that comes between two
        // prompts is ignored, so there are more until the process ends.
        let _ = kill_process(getpid(), Signal::INT);
        thread::sleep(Duration::from_millis(50));
    }
}

/// When it happened, and what.
fn line(event: &Event) -> String {
    let time = event.timestamp.time();
    let time = time.and_then(|time| jiff::Timestamp::try_from(time).ok());
    let time = time.map_or_else(String::new, |time| {
        let local = time.to_zoned_datetime(jiff::tz::TimeZone::system());
        local.strftime("%H:%M:%S ").to_string()
    });
    format!("{time}{}\n", words(event))
}

/// What the editor asks about the line. Only completion has answers.
struct Completion(Schema);

impl Helper for Completion {}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Hinter for Completion {
    type Hint = String;
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let line = &line[..position];
        let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let (before, word) = line.split_at(start);
        let mut before = shlex::split(before).unwrap_or_default();
        if before.first().is_some_and(|first| first == "help") {
            before.remove(0);
        }
        let pairs = self.0.completions(&before, word).into_iter().map(|found| {
            // What goes on within the word has no space after it.
            let space = if found.ends_with(['=', '.']) { "" } else { " " };
            Pair {
                replacement: format!("{found}{space}"),
                display: found,
            }
        });
        Ok((start, pairs.collect()))
    }
}
