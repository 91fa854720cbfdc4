//! What a user is told when something goes wrong, and the exit status that goes with it.
#![allow(clippy::print_stderr, reason = "errors end here")]

use std::io;
use std::process::ExitCode;

use signal_hook::consts::SIGINT;

use crate::config;
use crate::ops::{Error, device, disk, migrate, snapshot};
use crate::qmp;

use super::hint::hint;
use super::interrupt;

/// 1: it failed.
pub(super) const FAILED: u8 = 1;
/// 2: the command line makes no sense, as clap has it.
const USAGE: u8 = 2;
/// 3 and 4 mean what they mean for systemctl(1): not running, no such unit.
pub(super) const NOT_RUNNING: u8 = 3;
const NO_SUCH_VM: u8 = 4;
/// 5: QEMU understood the command and refused it, or the job that it made of it failed.
const REFUSED: u8 = 5;
/// 6: another process holds the monitor, or QEMU does not answer.
const MONITOR_BUSY: u8 = 6;
/// 7: nothing that was waited for came in time.
const NOT_IN_TIME: u8 = 7;
/// 8: the VM has ended, and what was waited for cannot come any more.
const ENDED: u8 = 8;
/// 9: `diff` was asked for a status, and something differs.
pub(super) const DIFFERS: u8 = 9;
/// 130: it was called off by SIGINT, and that is 2. A shell says so of what a signal has ended.
const BY_SIGINT: u8 = 130;
/// 143: the same by SIGTERM, which is 15.
const BY_SIGTERM: u8 = 143;

/// Prints an error with its causes and what to do about it.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // The reader has had enough; nothing is wrong.
        return ExitCode::SUCCESS;
    }
    print(error);
    exit_code(error).into()
}

/// The text of an error: message, details, causes, hint.
pub(super) fn print(error: &anyhow::Error) {
    // What has no context and is no operation's is stdout's.
    match error.downcast_ref::<io::Error>() {
        Some(_) if error.chain().count() == 1 => {
            eprintln!("error: cannot write the answer: {error}")
        }
        _ => eprintln!("error: {error}"),
    }
    let ops = error.downcast_ref::<Error>();
    if let Some(Error::Died { words, result, .. }) = ops {
        for line in words {
            eprintln!("  {line}");
        }
        if words.is_empty() {
            eprintln!("  (nothing was printed; systemd says `{result}`)");
        }
    }
    if let Some(Error::NotReady { console, .. }) = ops {
        for line in console {
            eprintln!("  {line}");
        }
    }
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        // Some libraries repeat their cause in their own words.
        let cause = cause.to_string();
        if !said.ends_with(&cause) && !cause.ends_with(&said) {
            eprintln!("  caused by: {cause}");
        }
        said = cause;
    }
    if let Some(Error::Died {
        explained: Some(why),
        ..
    }) = ops
    {
        eprintln!("  caused by: {why}");
    }
    if let Some(hint) = hint(error) {
        eprintln!("hint: {hint}");
    }
}

/// The exit status for an error; under EXIT STATUS in maqet(1).
pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
    match interrupt::came().map(i32::from) {
        Some(SIGINT) => return BY_SIGINT,
        Some(_) => return BY_SIGTERM,
        None => {}
    }
    let ops = error.downcast_ref::<Error>();
    if ops.is_some_and(is_typed) {
        return USAGE;
    }
    match ops {
        Some(Error::NotRunning(_) | Error::Stopped(_) | Error::NothingToChange(_)) => NOT_RUNNING,
        Some(
            Error::NoSuchVm { .. }
            | Error::NoMatch(_)
            | Error::NoGroup(_)
            | Error::NoLabel(_)
            | Error::Migrate(migrate::Error::NoSuchVm(_)),
        ) => NO_SUCH_VM,
        Some(
            Error::Qmp(qmp::Error::Refused { .. }) | Error::NoCommand { .. } | Error::Hmp { .. },
        ) => REFUSED,
        Some(Error::JobFailed { .. } | Error::JobCanceled(_)) => REFUSED,
        // What was merged of options before there was an operation.
        None if is_usage(error) => USAGE,
        Some(Error::NotInTime { .. }) => NOT_IN_TIME,
        Some(Error::Ended { .. }) => ENDED,
        Some(
            Error::Qmp(qmp::Error::Busy { .. } | qmp::Error::Timeout { .. }) | Error::Silent { .. },
        ) => MONITOR_BUSY,
        _ => FAILED,
    }
}

/// Whether it is about words of the command line alone.
fn is_typed(error: &Error) -> bool {
    match error {
        Error::Words(_) | Error::Command(_) | Error::Keys(_) | Error::NoLayout(_) => true,
        Error::Template(_) | Error::NoKey { .. } | Error::Nameless(_) => true,
        Error::Property(_) | Error::TooLittleMemory(_) => true,
        Error::Device(error) => matches!(
            error,
            device::Error::What(_)
                | device::Error::Settings { .. }
                | device::Error::Properties { .. }
        ),
        Error::Disk(error) => matches!(error, disk::Error::Settings { .. }),
        Error::Snapshot(error) => matches!(error, snapshot::Error::Name { .. }),
        Error::Config(error) => error.is_usage(),
        Error::Mistakes(errors) => errors.iter().all(is_typed),
        _ => false,
    }
}

fn is_usage(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<config::Error>();
    error.is_some_and(config::Error::is_usage)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
