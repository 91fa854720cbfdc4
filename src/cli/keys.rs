use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use crate::config::TimeSpan;
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;

/// Press keys of a running VM
///
/// Keys that are pressed together are joined by -, as in ctrl-alt-f2; several
/// such chords are pressed one after the other. A key has QEMU's name (--list
/// shows all), a common other one (enter, del, win), or what is printed on it on
/// a US keyboard. Returns when the guest has taken the keys, where its keyboard
/// tells that (PS/2).
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Keys, such as ret or ctrl-alt-del
    #[arg(required_unless_present = "list", value_name = "KEYS")]
    keys: Vec<String>,
    /// Keep the keys down for this long, such as 500ms or 2s
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    hold: Option<Duration>,
    /// List the names that QEMU has for keys
    #[arg(long, conflicts_with = "keys")]
    list: bool,
    /// How long QEMU may take to answer, and the guest to take a key
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: TimeSpan,
}

/// What was typed or pressed.
#[derive(Serialize)]
pub(super) struct Pressed<'a> {
    pub name: &'a str,
    pub pressed: usize,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let limit = args.timeout.duration();
    if args.list {
        let names = ops::keys::names(host, &args.name, limit)?;
        out.answer(&names, |w| {
            names.iter().try_for_each(|name| writeln!(w, "{name}"))
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let pressed = ops::keys::keys(host, &args.name, &args.keys, args.hold, limit)?;
    let name = &args.name;
    let done = Pressed {
        name: name.as_str(),
        pressed,
    };
    let words = format!("VM `{name}` got {}", args.keys.join(" "));
    out.done(&done, words)?;
    Ok(ExitCode::SUCCESS)
}

/// A time span that may also be in milliseconds.
fn milliseconds(text: &str) -> Result<Duration, String> {
    if let Some(number) = text.strip_suffix("ms")
        && let Ok(number) = number.parse()
    {
        return Ok(Duration::from_millis(number));
    }
    let span: Result<TimeSpan, _> = text.parse();
    span.map(TimeSpan::duration)
        .map_err(|error| error.to_string())
}
