//! What is weak, broken or missing on this host, and the one command that mends it.
//!
//! Each check is a function that returns findings, whatever the state of the host: what
//! it cannot find out is a finding, too.

mod machine;
mod manager;
mod rebuild;
mod vms;

use std::fmt;

use serde::Serialize;

pub use rebuild::{Rebuilt, rebuild};
pub(super) use vms::kept_definitions;

use crate::config::VmConfig;
use crate::vm::VmName;

use super::Host;
use super::error::with_causes;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; some VMs may want it otherwise.
    Note,
    /// Something will not work as expected.
    Warning,
    /// Something does not work.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What a check has found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is so; one sentence.
    pub message: String,
    /// The command that mends it, for a shell.
    pub mend: Option<String>,
}

impl Finding {
    fn new(check: &'static str, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            check,
            severity,
            message: message.into(),
            mend: None,
        }
    }

    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, message)
    }

    fn note(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Severity::Note, message)
    }

    fn warning(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Severity::Warning, message)
    }

    fn error(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Severity::Error, message)
    }

    fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }
}

/// Looks at everything.
pub fn doctor() -> Vec<Finding> {
    let mut findings = Vec::new();
    let host = Host::from_env();
    let mut definitions: Vec<(VmName, VmConfig)> = Vec::new();
    match &host {
        Ok(host) => {
            findings.extend(vms::config_file(host));
            findings.extend(vms::database(host));
            let (read, mistakes) = vms::definitions(host);
            definitions = read;
            findings.extend(mistakes);
            findings.extend(vms::kept(host));
            findings.extend(vms::order(&definitions));
            findings.extend(vms::cut_short(host));
            findings.extend(vms::orphans(host));
            findings.extend(machine::space(host));
        }
        Err(error) => {
            findings.push(Finding::error("environment", with_causes(error)).mend("export HOME=~"))
        }
    }
    findings.extend(machine::qemu(&definitions));
    findings.push(machine::kvm());
    findings.push(machine::vsock(&definitions));
    findings.push(machine::firmware());
    findings.extend(machine::helpers());
    if let Ok(host) = &host {
        findings.extend(manager::user_manager(host));
        findings.push(manager::template(host));
    }
    findings.push(manager::linger());
    findings.push(manager::time_to_stop(&definitions));
    if let Ok(host) = &host {
        findings.push(manager::controllers(host));
    }
    findings.push(manager::journal());
    findings
}
