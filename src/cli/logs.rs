use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use serde_json::json;

use crate::console::{Change, Changes, is_same};
use crate::ops::logs::Run;
use crate::ops::{self, Host};
use crate::systemd::journal::Entry;
use crate::vm::VmName;

use super::output::Output;

/// Show what QEMU, systemd and the guest printed
///
/// By default the journal's lines for this run, or the last one: those of QEMU
/// and those of systemd about the unit. With --console, what the guest printed
/// on its serial port.
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
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(..=0))]
    run: i32,
    /// All runs
    #[arg(long, conflicts_with = "run")]
    all: bool,
    /// The guest's serial console instead of the journal
    #[arg(long, conflicts_with = "all")]
    console: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let run = if args.all {
        Run::All
    } else {
        Run::Back(args.run)
    };
    if args.console {
        console(host, &args, run)?;
    } else {
        for entry in ops::logs::journal(host, &args.name, run, args.lines, args.follow)? {
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

/// Copies the console log to stdout, as the guest wrote it.
fn console(host: &Host, args: &Args, run: Run) -> anyhow::Result<()> {
    let (path, mut file) = ops::logs::console(host, &args.name, run)?;
    let mut stdout = io::stdout().lock();
    if let Some(lines) = args.lines {
        for line in crate::console::last_lines(&path, lines)? {
            writeln!(stdout, "{line}")?;
        }
        file.seek(io::SeekFrom::End(0))?;
    }
    // A run that is over prints no more.
    let follow = args.follow && run == Run::Back(0);
    let mut changes = if follow {
        Some(Changes::of(&path)?)
    } else {
        None
    };
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        stdout.write_all(&buffer[..length])?;
        if length > 0 {
            continue;
        }
        stdout.flush()?;
        match &mut changes {
            Some(changes) => match changes.wait(io::stdout().as_fd())? {
                Change::ReaderGone => return Ok(()),
                Change::Grown if is_same(&file, &path) => {}
                // The next run's.
                Change::Grown => {
                    file = crate::console::open(&path)?;
                    *changes = Changes::of(&path)?;
                }
            },
            None => return Ok(()),
        }
    }
}
