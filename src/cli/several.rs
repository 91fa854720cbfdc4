//! Commands on several VMs: each has a line of its own, and all together one exit status.

use std::io;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::config::TimeSpan;
use crate::ops::{self, Effect, Error, Host, Label, Selector};
use crate::vm::{GroupName, VmName};

use super::error;
use super::output::Output;

/// VMs by name or pattern, or all of them.
#[derive(clap::Args)]
pub(super) struct Several {
    /// Names of VMs, or patterns such as 'ci-*'
    #[arg(required_unless_present_any = ["all", "group", "label"], value_name = "NAME")]
    names: Vec<Selector>,
    /// All VMs
    #[arg(long, conflicts_with_all = ["names", "group"])]
    pub all: bool,
    #[command(flatten)]
    traits: Traits,
}

/// VMs by what their definitions say of them.
#[derive(clap::Args)]
pub(super) struct Traits {
    /// The VMs of a group; for several groups, give it several times
    #[arg(long, value_name = "GROUP")]
    group: Vec<GroupName>,
    /// Of the VMs named, or of all, those with this label; given several times, with all of them
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<Label>,
}

impl Traits {
    /// The VMs of `names` and of the groups, or all if neither is given, that have the labels.
    pub fn selectors(&self, names: &[Selector]) -> Vec<Selector> {
        let groups = self.group.iter().cloned().map(Selector::Group);
        let mut selectors: Vec<_> = names.iter().cloned().chain(groups).collect();
        if !self.label.is_empty() {
            if selectors.is_empty() {
                selectors.push(Selector::All);
            }
            for selector in &mut selectors {
                *selector = Selector::Labelled(Box::new(selector.clone()), self.label.clone());
            }
        }
        selectors
    }
}

impl Several {
    /// What was named; everything for `--all`.
    pub fn selectors(&self) -> Vec<Selector> {
        if self.all {
            self.traits.selectors(&[Selector::All])
        } else {
            self.traits.selectors(&self.names)
        }
    }
}

/// VMs that run, to be acted on over their monitors.
#[derive(clap::Args)]
pub(super) struct Running {
    #[command(flatten)]
    several: Several,
    /// How long QEMU may take to answer
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: TimeSpan,
}

#[derive(Serialize)]
struct Done<'a> {
    name: &'a str,
    #[serde(flatten)]
    effect: &'a Effect,
}

impl Running {
    /// Acts on each; `words` follow its name in what is said of it.
    pub fn each(
        &self,
        out: &Output,
        host: &Host,
        act: fn(&Host, &VmName, Duration) -> Result<Effect, Error>,
        words: fn(&Effect) -> String,
    ) -> anyhow::Result<ExitCode> {
        let names = ops::stop::running(host, &self.several.selectors())?;
        let limit = self.timeout.duration();
        each(
            &names,
            |name| act(host, name, limit),
            |name, effect| {
                let done = Done {
                    name: name.as_str(),
                    effect: &effect,
                };
                out.done(&done, format_args!("VM `{name}` {}", words(&effect)))
            },
        )
    }
}

/// Acts on all at once, and tells of each as soon as it is done.
pub(super) fn each<T: Send>(
    names: &[VmName],
    act: impl Fn(&VmName) -> Result<T, Error> + Sync,
    mut say: impl FnMut(&VmName, T) -> io::Result<()>,
) -> anyhow::Result<ExitCode> {
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        for name in names {
            let (tell, act) = (tell.clone(), &act);
            scope.spawn(move || {
                // The receiver listens until every sender is gone.
                let _ = tell.send((name, act(name)));
            });
        }
        drop(tell);
        for (name, outcome) in told {
            tally.count(outcome, |value| say(name, value));
        }
    });
    tally.finish()
}

/// How it went for each.
#[derive(Default)]
pub(super) struct Tally {
    failure: Option<u8>,
    output: Option<io::Error>,
}

impl Tally {
    /// Tells of one VM at once: `said` when it went well, its error otherwise.
    pub fn count<T, E: Into<anyhow::Error>>(
        &mut self,
        outcome: Result<T, E>,
        said: impl FnOnce(T) -> io::Result<()>,
    ) {
        match outcome {
            Ok(value) => {
                if let Err(error) = said(value) {
                    self.output.get_or_insert(error);
                }
            }
            Err(error) => {
                let error = error.into();
                error::print(&error);
                let code = error::exit_code(&error);
                // One status says what happened only if all failed alike.
                self.failure = Some(match self.failure {
                    Some(other) if other != code => error::FAILED,
                    _ => code,
                });
            }
        }
    }

    /// The exit status for all.
    pub fn finish(self) -> anyhow::Result<ExitCode> {
        match (self.output, self.failure) {
            (Some(error), _) => Err(error.into()),
            (None, Some(code)) => Ok(code.into()),
            (None, None) => Ok(ExitCode::SUCCESS),
        }
    }
}
