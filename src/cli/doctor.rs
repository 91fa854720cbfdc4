use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::doctor::{Finding, Rebuilt, Severity, doctor, rebuild};

use super::error::FAILED;
use super::output::Output;

/// Find what is weak, broken or missing on this host
///
/// Looks at QEMU, KVM, the user manager, what maqet keeps and whether that is in
/// accord with what runs, and says of each thing that is not as it should be which
/// command mends it. The exit status is 1 if one is worse than a note.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Show also what is as it should be
    #[arg(long)]
    all: bool,
    /// Restore a lost or damaged database from the definitions that VMs last started with
    ///
    /// A damaged database is kept under another name; one that is not is only added
    /// to. Which disks maqet had made is not restored: they count as your own, and
    /// are never deleted.
    #[arg(long, conflicts_with = "all")]
    rebuild: bool,
}

pub(super) fn run(out: &Output, args: Args) -> anyhow::Result<ExitCode> {
    if args.rebuild {
        let rebuilt = rebuild(&Host::from_env()?)?;
        return tell(out, &rebuilt);
    }
    let mut findings = doctor();
    let checks = findings.len();
    let is_bad = findings
        .iter()
        .any(|finding| finding.severity > Severity::Note);
    if !args.all && !out.json {
        findings.retain(|finding| finding.severity > Severity::Ok);
    }
    // The worst first; as they were found otherwise.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    out.answer(&findings, |w| {
        for Finding {
            check,
            severity,
            message,
            mend,
        } in &findings
        {
            writeln!(
                w,
                "{severity:<7}  {check}: {}",
                message.replace('\n', "\n         ")
            )?;
            if let Some(mend) = mend {
                writeln!(w, "         mend: {mend}")?;
            }
        }
        Ok(())
    })?;
    if findings.is_empty() {
        out.note(format_args!("nothing is wrong, in {checks} checks"));
    }
    Ok(if is_bad {
        FAILED.into()
    } else {
        ExitCode::SUCCESS
    })
}

fn tell(out: &Output, rebuilt: &Rebuilt) -> anyhow::Result<ExitCode> {
    if let Some(old) = &rebuilt.kept_aside {
        out.note(format_args!(
            "kept the damaged database as {}",
            old.display()
        ));
    }
    for name in &rebuilt.restored {
        out.note(format_args!(
            "VM `{name}` restored; its disks are taken for your own"
        ));
    }
    for (file, why) in &rebuilt.failed {
        out.note(format_args!("could not restore {}: {why}", file.display()));
    }
    out.done(
        rebuilt,
        format_args!(
            "{} restored, {} not, {} were there",
            rebuilt.restored.len(),
            rebuilt.failed.len(),
            rebuilt.untouched
        ),
    )?;
    Ok(if rebuilt.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        FAILED.into()
    })
}
