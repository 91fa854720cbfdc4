//! Commands on several VMs: each has a line of its own, and all together one exit status.

use std::io;
use std::process::ExitCode;

use crate::ops::{Error, Selector};

use super::error;

/// VMs by name or pattern, or all of them.
#[derive(clap::Args)]
pub(super) struct Several {
    /// Names of VMs, or patterns such as 'ci-*'
    #[arg(required_unless_present = "all", value_name = "NAME")]
    names: Vec<Selector>,
    /// All VMs
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
}

impl Several {
    /// What was named; everything for `--all`.
    pub fn selectors(&self) -> Vec<Selector> {
        if self.all {
            vec![Selector::All]
        } else {
            self.names.clone()
        }
    }
}

/// How it went for each.
#[derive(Default)]
pub(super) struct Tally {
    failure: Option<u8>,
    output: Option<io::Error>,
}

impl Tally {
    /// Tells of one VM at once: `said` when it went well, its error otherwise.
    pub fn count<T>(&mut self, outcome: Result<T, Error>, said: impl FnOnce(T) -> io::Result<()>) {
        match outcome {
            Ok(value) => {
                if let Err(error) = said(value) {
                    self.output.get_or_insert(error);
                }
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
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
