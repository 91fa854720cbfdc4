use std::io::{self, IsTerminal};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::ops::job::Action;
use crate::ops::{self, Error, Host};
use crate::qmp::{Job, JobEnd, JobStatus};
use crate::vm::VmName;

use super::output::Output;

/// Control a job of a running VM, or wait for it
///
/// `maqet jobs` lists them. What a job that was waited for came to is printed; one
/// that failed or was canceled is exit status 5. It is dismissed then.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Wait until a job has ended
    ///
    /// On a terminal its progress is shown. Interrupting this leaves the job alone;
    /// it can be waited for again.
    Wait(One),
    /// Cancel a job, and wait until it is over
    Cancel(OneToEnd),
    /// Complete a job that is ready, such as a mirror, and wait until it is over
    Complete(OneToEnd),
    /// Make a pending job's work final, and wait until it is over
    Finalize(OneToEnd),
    /// Pause a job
    Pause(One),
    /// Let a paused job go on
    Resume(One),
    /// Forget a job that has ended
    Dismiss(One),
}

#[derive(clap::Args)]
struct One {
    /// Name of the VM
    name: VmName,
    /// Id of the job
    id: String,
}

#[derive(clap::Args)]
struct OneToEnd {
    #[command(flatten)]
    one: One,
    /// Do not wait until it is over
    #[arg(long)]
    no_wait: bool,
}

#[derive(Serialize)]
struct Told<'a> {
    vm: &'a VmName,
    id: &'a str,
    action: &'static str,
}

#[derive(Serialize)]
struct Printed<'a> {
    vm: &'a VmName,
    id: &'a str,
    #[serde(flatten)]
    end: &'a JobEnd,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let (one, action, word, waits) = match &args.command {
        Command::Wait(one) => (one, None, "waited for", true),
        Command::Cancel(it) => (&it.one, Some(Action::Cancel), "told to cancel", !it.no_wait),
        Command::Complete(it) => (
            &it.one,
            Some(Action::Complete),
            "told to complete",
            !it.no_wait,
        ),
        Command::Finalize(it) => (
            &it.one,
            Some(Action::Finalize),
            "told to finalize",
            !it.no_wait,
        ),
        Command::Pause(one) => (one, Some(Action::Pause), "paused", false),
        Command::Resume(one) => (one, Some(Action::Resume), "resumed", false),
        Command::Dismiss(one) => (one, Some(Action::Dismiss), "dismissed", false),
    };
    let One { name, id } = one;
    match action {
        Some(action) if !waits => {
            ops::job::act(host, name, id, action)?;
            let told = Told {
                vm: name,
                id,
                action: word,
            };
            out.done(&told, format_args!("job `{id}` {word}"))?;
            Ok(ExitCode::SUCCESS)
        }
        action => {
            let begin = || action.map_or(Ok(()), |action| ops::job::act(host, name, id, action));
            let end = wait(out, host, name, id, begin)?;
            if action == Some(Action::Cancel) && end == JobEnd::Canceled {
                return print(out, name, id, &end);
            }
            result(out, name, id, &end)
        }
    }
}

/// Waits for a job, with its progress on a terminal.
pub(super) fn wait(
    out: &Output,
    host: &Host,
    name: &VmName,
    id: &str,
    begin: impl FnOnce() -> Result<(), Error>,
) -> Result<JobEnd, Error> {
    let mut bar = Bar::new(out);
    let end = ops::job::wait(host, name, id, begin, bar.shows());
    bar.end();
    end
}

/// Tells what became of a job; anything but its completion is a failure.
pub(super) fn result(
    out: &Output,
    vm: &VmName,
    id: &str,
    end: &JobEnd,
) -> anyhow::Result<ExitCode> {
    if *end == JobEnd::Completed || out.json {
        print(out, vm, id, end)?;
    }
    let id = id.to_owned();
    match end {
        JobEnd::Completed => Ok(ExitCode::SUCCESS),
        JobEnd::Canceled => Err(Error::JobCanceled(id).into()),
        JobEnd::Failed(why) => Err(Error::JobFailed {
            id,
            why: why.clone(),
        }
        .into()),
    }
}

fn print(out: &Output, vm: &VmName, id: &str, end: &JobEnd) -> anyhow::Result<ExitCode> {
    out.answer(&Printed { vm, id, end }, |w| match end {
        JobEnd::Completed => writeln!(w, "job `{id}` completed"),
        JobEnd::Canceled => writeln!(w, "job `{id}` canceled"),
        JobEnd::Failed(why) => writeln!(w, "job `{id}` failed: {why}"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Whoever is shown a job as it goes on.
type Show = dyn FnMut(&Job);

/// The progress of a job, on a terminal.
pub(super) struct Bar {
    show: Option<Box<Show>>,
    bar: ProgressBar,
}

impl Bar {
    /// One that is seen only if there is someone who does.
    pub fn new(out: &Output) -> Self {
        let bar = ProgressBar::hidden();
        let show = (io::stderr().is_terminal() && out.talks()).then(|| {
            let bar = bar.clone();
            Box::new(move |job: &Job| show(&bar, job)) as Box<Show>
        });
        Self { show, bar }
    }

    /// What is to be told of the job as it goes on, if anyone sees it.
    pub fn shows(&mut self) -> Option<&mut dyn FnMut(&Job)> {
        match &mut self.show {
            Some(show) => Some(show),
            None => None,
        }
    }

    /// Takes it off the terminal.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

fn show(bar: &ProgressBar, job: &Job) {
    if bar.is_hidden() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        let style = "{prefix} {wide_bar} {percent} % {binary_bytes_per_sec} {msg}";
        bar.set_style(ProgressStyle::with_template(style).expect("it is a template"));
        bar.set_prefix(format!("{} {}", job.kind, job.id));
    }
    bar.set_length(job.total_progress);
    bar.set_position(job.current_progress);
    bar.set_message(match &job.status {
        JobStatus::Running => String::new(),
        JobStatus::Ready => "ready: `maqet job complete` ends it".to_owned(),
        JobStatus::Pending => "pending: `maqet job finalize` ends it".to_owned(),
        status => status.to_string(),
    });
}
