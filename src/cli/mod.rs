//! The command line: arguments in, words and exit statuses out.
//!
//! The only module with clap, stdout and stderr. A command turns its arguments
//! into types, makes one call to `ops`, and hands the value to `Output`.

mod add;
mod agent;
mod apply;
mod clone;
mod completion;
mod device;
mod diff;
mod disable;
mod disk;
mod doctor;
mod edit;
mod enable;
mod error;
mod events;
mod export;
mod group;
mod hint;
mod hmp;
mod import;
mod internal;
mod interrupt;
mod job;
mod jobs;
mod keys;
mod logs;
mod ls;
mod migrate;
mod nmi;
mod old;
mod output;
mod pause;
mod powerdown;
mod qmp;
mod rename;
mod reset;
mod resume;
mod rm;
mod save;
mod schema;
mod screenshot;
mod set;
mod several;
mod show;
mod snapshot;
mod start;
mod status;
mod stop;
mod template;
mod tips;
mod r#type;
mod unset;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::ops::Host;
use output::Output;

/// QEMU virtual machines as transient systemd units
///
/// maqet has no daemon: systemd supervises each VM as the unit
/// maqet-NAME.service, QEMU answers on its own QMP sockets, and every command
/// talks to both directly.
#[derive(Parser)]
#[command(name = "maqet", version, help_expected = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

// Most of what a short command would take is making the arguments of the others.
#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    Add(Box<add::Args>),
    Start(start::Args),
    Stop(stop::Args),
    Enable(enable::Args),
    Disable(disable::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Reset(reset::Args),
    Nmi(nmi::Args),
    Powerdown(powerdown::Args),
    Save(save::Args),
    Keys(keys::Args),
    Type(r#type::Args),
    Screenshot(screenshot::Args),
    Ls(ls::Args),
    Status(status::Args),
    Show(show::Args),
    Apply(apply::Args),
    Edit(edit::Args),
    Set(set::Args),
    Unset(unset::Args),
    Diff(diff::Args),
    #[command(subcommand)]
    Group(group::Command),
    Qmp(qmp::Args),
    #[command(subcommand)]
    Device(device::Command),
    #[command(subcommand)]
    Disk(disk::Command),
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    Agent(agent::Args),
    Hmp(hmp::Args),
    Logs(logs::Args),
    Events(events::Args),
    Wait(wait::Args),
    Jobs(jobs::Args),
    Job(job::Args),
    Clone(clone::Args),
    Rename(rename::Args),
    Export(export::Args),
    Import(import::Args),
    Rm(rm::Args),
    Migrate(migrate::Args),
    Doctor(doctor::Args),
    #[command(subcommand)]
    Template(template::Command),
    Schema(schema::Args),
    Completion(completion::Args),
}

// A parser of its own: each start of a VM runs two of these, and the parser of all
// verbs is a good part of the time that they would take.
/// What units run
#[derive(Parser)]
#[command(name = "internal", bin_name = "maqet internal")]
struct Internal {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: internal::Command,
}

/// The parser, for man pages and completions. What its verbs take is there once it is built.
pub fn command() -> clap::Command {
    Cli::command()
}

fn built() -> clap::Command {
    let mut command = command();
    command.build();
    command
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    completion::answer();
    let done = if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "internal")
    {
        let Internal { output, command } = Internal::parse_from(std::env::args_os().skip(1));
        internal::run(&output, command)
    } else {
        let (words, note) = old::words(std::env::args_os());
        let Cli { output, command } =
            Cli::try_parse_from(&words).unwrap_or_else(|error| explain(error, &words));
        if let Some(note) = note {
            output.note(note);
        }
        run(&output, command)
    };
    match done {
        Ok(code) => code,
        Err(error) => error::report(&error),
    }
}

/// Ends as clap does when there is nothing to run. Help says what each verb is about, and
/// so needs all of them.
fn explain(error: clap::Error, words: &[OsString]) -> ! {
    match error.kind() {
        ErrorKind::DisplayVersion => error,
        _ => {
            let mut command = built();
            let whole = command.try_get_matches_from_mut(words).err();
            let mut error = whole.unwrap_or(error);
            tips::improve(&mut error, verb(&command, words));
            error
        }
    }
    .exit()
}

/// The verb among the words of a command line.
fn verb<'a>(command: &'a clap::Command, words: &[OsString]) -> Option<&'a clap::Command> {
    let mut words = words.iter().skip(1).filter_map(|word| word.to_str());
    let word = words.find(|word| !word.starts_with('-'))?;
    command.find_subcommand(word)
}

/// Ends as clap does when arguments make no sense together.
fn usage_error(verb: &str, message: &str) -> ! {
    let mut command = built();
    let verb = command
        .find_subcommand_mut(verb)
        .expect("every verb is a subcommand");
    verb.error(ErrorKind::ValueValidation, message).exit()
}

fn run(out: &Output, command: Command) -> anyhow::Result<ExitCode> {
    let host = || -> anyhow::Result<Host> {
        let mut host = Host::from_env()?;
        host.tell = out.teller();
        Ok(host)
    };
    match command {
        Command::Add(args) => add::run(out, &host()?, *args),
        Command::Start(args) => start::run(out, &host()?, args),
        Command::Stop(args) => stop::run(out, &host()?, args),
        Command::Enable(args) => enable::run(out, &host()?, args),
        Command::Disable(args) => disable::run(out, &host()?, args),
        Command::Pause(args) => pause::run(out, &host()?, args),
        Command::Resume(args) => resume::run(out, &host()?, args),
        Command::Reset(args) => reset::run(out, &host()?, args),
        Command::Nmi(args) => nmi::run(out, &host()?, args),
        Command::Powerdown(args) => powerdown::run(out, &host()?, args),
        Command::Save(args) => save::run(out, &host()?, args),
        Command::Keys(args) => keys::run(out, &host()?, args),
        Command::Type(args) => r#type::run(out, &host()?, args),
        Command::Screenshot(args) => screenshot::run(out, &host()?, args),
        Command::Ls(args) => ls::run(out, &host()?, args),
        Command::Status(args) => status::run(out, &host()?, args),
        Command::Show(args) => show::run(out, &host()?, args),
        Command::Apply(args) => apply::run(out, &host()?, args),
        Command::Edit(args) => edit::run(out, &host()?, args),
        Command::Set(args) => set::run(out, &host()?, args),
        Command::Diff(args) => diff::run(out, &host()?, args),
        Command::Unset(args) => unset::run(out, &host()?, args),
        Command::Group(command) => group::run(out, &host()?, command),
        Command::Qmp(args) => qmp::run(out, &host()?, args),
        Command::Wait(args) => wait::run(out, &host()?, args),
        Command::Jobs(args) => jobs::run(out, &host()?, args),
        Command::Job(args) => job::run(out, &host()?, args),
        Command::Events(args) => events::run(out, &host()?, args),
        Command::Device(command) => device::run(out, &host()?, command),
        Command::Disk(command) => disk::run(out, &host()?, command),
        Command::Snapshot(command) => snapshot::run(out, &host()?, command),
        Command::Agent(args) => agent::run(out, &host()?, args),
        Command::Hmp(args) => hmp::run(out, &host()?, &args),
        Command::Logs(args) => logs::run(out, &host()?, args),
        Command::Clone(args) => clone::run(out, &host()?, &args),
        Command::Rename(args) => rename::run(out, &host()?, args),
        Command::Export(args) => export::run(out, &host()?, args),
        Command::Import(args) => import::run(out, &host()?, args),
        Command::Rm(args) => rm::run(out, &host()?, args),
        Command::Migrate(args) => migrate::run(out, &host()?, args),
        Command::Doctor(args) => doctor::run(out, args),
        Command::Template(command) => template::run(out, &host()?, command),
        Command::Schema(args) => schema::run(out, &args),
        Command::Completion(args) => completion::run(args),
    }
}
