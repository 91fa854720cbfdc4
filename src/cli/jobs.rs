use std::process::ExitCode;

use crate::ops::{self, Host};
use crate::qmp::Job;
use crate::vm::VmName;

use super::output::{Output, bytes, or_dash, table};

/// List the jobs of a running VM
///
/// Jobs are what QEMU does in the background, such as a backup. One that has
/// ended is listed until it is dismissed, with its error if it failed.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let jobs = ops::jobs::jobs(host, &args.name)?;
    out.answer(&jobs, |w| {
        table(
            w,
            ["ID", "TYPE", "STATUS", "PROGRESS", "SPEED LIMIT", "ERROR"],
            jobs.iter().map(row),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn row(job: &Job) -> [String; 6] {
    let limit = job.speed.filter(|speed| *speed > 0);
    let trouble = job.io_status.clone().filter(|status| status != "ok");
    [
        job.id.clone(),
        job.kind.clone(),
        job.status.to_string(),
        or_dash(
            job.progress()
                .map(|part| format!("{:.0} %", (part * 100.0).floor())),
        ),
        or_dash(limit.map(|speed| format!("{}/s", bytes(speed)))),
        or_dash(job.error.clone().or(trouble)),
    ]
}
