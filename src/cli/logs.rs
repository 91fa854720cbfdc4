use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use crate::config::DeviceName;
use crate::console::{Change, Changes, is_same};
use crate::ops::logs::{Console, ConsoleLine, Run, Wanted};
use crate::ops::{self, Host};
use crate::systemd::journal::Entry;
use crate::vm::VmName;

use super::events::Moment;
use super::output::Output;

/// Show what QEMU, systemd and the guest printed
///
/// By default the journal's lines for this run, or the last one: those of QEMU
/// and those of systemd about the unit. With --qemu only QEMU's, with --console
/// what the guest printed on its serial port, and with --port what it wrote to a
/// further one, whether or not somebody was connected. The logs of the last two
/// runs are shown as the guest wrote them; what it printed before that, or since
/// some time, comes from the journal, without what is for terminals.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Go on printing as lines come
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<usize>,
    /// Which run: 0 this or the last one, -1 the one before, and so on
    #[arg(long, visible_alias = "boot", value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(..=0))]
    run: Option<i32>,
    /// All runs
    #[arg(long, conflicts_with = "run")]
    all: bool,
    /// Only lines since then, of all runs: a time such as '2026-01-31 12:00', or -1h, or '10m ago'
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<Moment>,
    /// The guest's serial console instead of QEMU and systemd
    #[arg(long)]
    console: bool,
    /// What the guest wrote to a further port, one of `[port.NAME]` in its definition
    #[arg(long, value_name = "NAME", conflicts_with_all = ["console", "all", "since"])]
    port: Option<DeviceName>,
    /// Only what QEMU printed, and maqet for it, not what systemd says
    #[arg(long, conflicts_with_all = ["console", "port"])]
    qemu: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let wanted = Wanted {
        run: match args.run {
            Some(run) => Run::Back(run),
            None if args.all || args.since.is_some() => Run::All,
            None => Run::Back(0),
        },
        since: args.since.map(|since| since.0),
        lines: args.lines,
        follow: args.follow,
    };
    if let Some(port) = &args.port {
        let log = ops::logs::port(host, &args.name, port, args.run.unwrap_or_default())?;
        console(out, host, &args.name, log, wanted)?;
    } else if args.console {
        let log = ops::logs::console(host, &args.name, wanted)?;
        console(out, host, &args.name, log, wanted)?;
    } else {
        if args.follow {
            super::output::end_with_reader();
        }
        for entry in ops::logs::journal(host, &args.name, wanted, args.qemu)? {
            print(out, &entry)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &Output, entry: &Entry) -> io::Result<()> {
    let time = entry
        .time
        .and_then(|time| jiff::Timestamp::try_from(time).ok());
    let value = json!({
        "time": time.map(|time| time.to_string()),
        "identifier": entry.identifier,
        "pid": entry.pid,
        "message": entry.message,
        "invocation_id": entry.invocation_id,
    });
    out.answer(&value, |w| {
        if let Some(time) = time {
            let local = time.to_zoned_datetime(jiff::tz::TimeZone::system());
            write!(w, "{} ", local.strftime("%b %d %H:%M:%S"))?;
        }
        let pid = entry.pid.map(|pid| format!("[{pid}]"));
        let pid = pid.unwrap_or_default();
        writeln!(w, "{}{pid}: {}", entry.identifier, entry.message)
    })
}

/// One line of a console for programs.
#[derive(Serialize)]
struct Line<'a> {
    time: Option<String>,
    run: Option<&'a str>,
    line: &'a str,
}

fn print_line(out: &Output, line: &ConsoleLine) -> io::Result<()> {
    let time = line
        .time
        .and_then(|time| jiff::Timestamp::try_from(time).ok());
    let value = Line {
        time: time.map(|time| time.to_string()),
        run: line.run.as_deref(),
        line: &line.text,
    };
    out.answer(&value, |w| writeln!(w, "{}", line.text))
}

/// Prints lines of the past, and the console log from there as the guest wrote it.
fn console(
    out: &Output,
    host: &Host,
    name: &VmName,
    console: Console,
    wanted: Wanted,
) -> anyhow::Result<()> {
    let Console {
        mut history,
        log,
        run,
    } = console;
    let mut log = log;
    if let (Some(lines), Some((path, file))) = (wanted.lines, &mut log)
        && history.is_empty()
        && wanted.since.is_none()
    {
        let last = crate::console::last_lines(path, lines)?;
        history.extend(last.into_iter().map(|text| ConsoleLine {
            time: None,
            run: run.clone(),
            text,
        }));
        file.seek(io::SeekFrom::End(0))?;
    }
    let skip = history.len() - wanted.lines.unwrap_or(usize::MAX).min(history.len());
    for line in &history[skip..] {
        print_line(out, line)?;
    }
    match log {
        Some((path, file)) => {
            // A run that is over prints no more.
            let follow = wanted.follow && matches!(wanted.run, Run::All | Run::Back(0));
            // Nobody notes of which run a port's log is.
            let is_of_run = run.is_some();
            copy(out, (&path, file, run), follow, || {
                is_of_run.then(|| ops::logs::run_of_console(host, name))?
            })
        }
        None => Ok(()),
    }
}

/// Copies the console log to stdout: as it is, or with `--json` line by line.
///
/// When another run begins a new log, `next` says which.
fn copy(
    out: &Output,
    (path, mut file, mut run): (&Path, File, Option<String>),
    follow: bool,
    next: impl Fn() -> Option<String>,
) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let mut changes = if follow {
        Some(Changes::of(path)?)
    } else {
        None
    };
    let mut buffer = vec![0; 64 << 10];
    loop {
        if out.json {
            for text in crate::console::read_lines(&mut file, !follow)? {
                let run = run.clone();
                print_line(
                    out,
                    &ConsoleLine {
                        time: None,
                        run,
                        text,
                    },
                )?;
            }
        } else {
            let length = file.read(&mut buffer)?;
            stdout.write_all(&buffer[..length])?;
            if length > 0 {
                continue;
            }
            stdout.flush()?;
        }
        match &mut changes {
            Some(changes) => match changes.wait(io::stdout().as_fd())? {
                Change::ReaderGone => return Ok(()),
                Change::Grown if is_same(&file, path) => {}
                // The next run's.
                Change::Grown => {
                    file = crate::console::open(path)?;
                    *changes = Changes::of(path)?;
                    run = next();
                }
            },
            None => return Ok(()),
        }
    }
}
