use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use crate::ops::status::{Drive, EndpointKind, Failure, Status};
use crate::ops::{self, Host};
use crate::systemd::ActiveState;
use crate::systemd::boot::boot_unit;
use crate::vm::VmName;

use super::output::{Output, bytes, span};

/// Show what a VM is doing
///
/// Its unit, since when, its process, QEMU's run state, memory and CPU used,
/// sockets and drives; after a failure, the last lines of the journal and of the
/// guest's console. The exit status is 3 when the VM does not run.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let status = ops::status::status(host, &args.name)?;
    if let Some(mistake) = &status.mistake {
        out.warn(mistake);
    }
    out.answer(&status, |w| write(w, &status))?;
    Ok(match status.unit.active_state {
        ActiveState::Inactive | ActiveState::Failed => super::error::NOT_RUNNING.into(),
        _ => ExitCode::SUCCESS,
    })
}

fn write(w: &mut dyn Write, status: &Status) -> io::Result<()> {
    let unit = &status.unit;
    let mut line = |key: &str, value: &dyn std::fmt::Display| writeln!(w, "{key:>9}  {value}");
    line(
        "VM",
        &format_args!("{}: {}", status.name, status.state.as_str()),
    )?;
    let since = match unit.active_state {
        ActiveState::Inactive | ActiveState::Failed => unit.inactive_since,
        _ => unit.active_since,
    };
    let since = since
        .map(|since| format!(" since {}", moment(since)))
        .unwrap_or_default();
    line(
        "unit",
        &format_args!(
            "{}: {} ({}){since}",
            unit.unit, unit.active_state, unit.sub_state
        ),
    )?;
    if !status.labels.is_empty() {
        let labels = status.labels.iter();
        let labels: Vec<String> = labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        line("labels", &labels.join(", "))?;
    }
    if let Some(group) = &status.group {
        line("group", group)?;
    }
    if !status.limits.is_empty() {
        let limits = status.limits.iter();
        let limits: Vec<String> = limits
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        line("limits", &limits.join(" "))?;
    }
    if status.protected {
        line("protected", &"`maqet rm` refuses to remove it")?;
    }
    if status.enabled {
        line(
            "boot",
            &format_args!("{} is enabled", boot_unit(&status.name)),
        )?;
    }
    if unit.active_state == ActiveState::Failed {
        let how = match unit.killed_by_signal {
            true => format!(", signal {}", unit.exec_main_status),
            false => format!(", exit status {}", unit.exec_main_status),
        };
        line("failed", &format_args!("{}{how}", unit.result))?;
    }
    // Of one that was saved, that is how.
    if let Some(ended) = status.ended.as_ref().filter(|_| status.saved.is_none()) {
        let at = ended
            .at
            .map(|at| format!(" at {}", moment(at)))
            .unwrap_or_default();
        line("ended", &format_args!("{}{at}", ended.reason))?;
    }
    if let Some(reason) = &status.not_ready {
        line("not ready", reason)?;
    }
    if let Some(what) = status.cut_short {
        let name = &status.name;
        line(
            "stopped",
            &format_args!("{what} of it was killed; `maqet start {name}` has it go on"),
        )?;
    }
    if let Some(saved) = &status.saved {
        let at = saved.at.map(moment).unwrap_or_default();
        line("saved", &format_args!("{} at {at}", bytes(saved.bytes)))?;
        for disk in &saved.changed_disks {
            line(
                "changed",
                &format_args!("{}: the saved state cannot be used", disk.display()),
            )?;
        }
    }
    if let Some(snapshot) = &status.resumes {
        line(
            "snapshot",
            &format_args!("the next start goes on at `{snapshot}`"),
        )?;
    }
    if unit.restarts > 0 {
        let why = status.failure.as_ref().map(restart_words);
        let why = why.unwrap_or_default();
        line("restarts", &format_args!("{}{why}", unit.restarts))?;
    }
    if let Some(pid) = unit.main_pid {
        line("PID", &pid)?;
    }
    if let Some(accel) = status.accel {
        line("accel", &accel)?;
    }
    if let Some(memory) = status.memory_used {
        line("memory", &bytes(memory))?;
    }
    if let (Some(has), Some(all)) = (status.balloon, status.guest_memory)
        && has != all
    {
        let (has, all) = (bytes(has), bytes(all));
        line("balloon", &format_args!("the guest has {has} of {all}"))?;
    }
    if let Some(cpu) = status.cpu_seconds {
        line("CPU", &format_args!("{cpu:.1}s"))?;
    }
    if let Some(error) = &status.monitor_error {
        line("monitor", error)?;
    }
    for pending in &status.pending {
        line("pending", &super::diff::words(&pending.difference))?;
    }
    if let Some(cid) = status.vsock_cid {
        line("vsock", &format_args!("CID {cid}"))?;
    }
    for drive in &status.drives {
        line("drive", &drive_words(drive))?;
    }
    for socket in &status.sockets {
        let gone = if socket.exists { "" } else { " (gone)" };
        line(
            "socket",
            &format_args!("{:<6} {}{gone}", socket.name, socket.path.display()),
        )?;
    }
    for endpoint in &status.endpoints {
        let kind = match endpoint.kind {
            EndpointKind::Tcp => "tcp",
            EndpointKind::Pty => "pty",
            EndpointKind::File => "file",
        };
        let address = endpoint.address.as_deref().unwrap_or("unknown");
        line(kind, &format_args!("{:<6} {address}", endpoint.name))?;
    }
    let whose = match unit.active_state {
        ActiveState::Failed => "",
        _ => " of the run that failed",
    };
    for (title, lines) in [
        (
            format!("Last lines of the journal{whose}:"),
            &status.last_lines,
        ),
        (
            format!("Last lines of the console{whose}:"),
            &status.last_console_lines,
        ),
    ] {
        if !lines.is_empty() {
            writeln!(w, "\n{title}")?;
            for line in lines {
                writeln!(w, "  {line}")?;
            }
        }
    }
    Ok(())
}

/// Why systemd started the VM again, or does so no more.
fn restart_words(failure: &Failure) -> String {
    if failure.gave_up {
        return ": more starts than StartLimitBurst allows, so systemd gave up".to_owned();
    }
    let at = failure
        .at
        .map(|at| format!(" at {}", moment(at)))
        .unwrap_or_default();
    let how = [&failure.process, &failure.reason];
    let how: Vec<&str> = how.into_iter().flatten().map(String::as_str).collect();
    let how = match how.is_empty() {
        true => String::new(),
        false => format!(" ({})", how.join(", ")),
    };
    format!(", after a failure{at}: {}{how}", failure.result)
}

fn drive_words(drive: &Drive) -> String {
    let mut words = vec![drive.name.clone()];
    words.push(drive.file.clone().unwrap_or_else(|| "(empty)".to_owned()));
    words.extend(drive.format.clone());
    if let Some(size) = drive.virtual_size {
        words.push(bytes(size));
    }
    if let Some(size) = drive.actual_size {
        words.push(format!("({} on disk)", bytes(size)));
    }
    if drive.read_only {
        words.push("read-only".to_owned());
    }
    words.join(" ")
}

/// A moment in local time, and how long ago that is.
pub(super) fn moment(time: SystemTime) -> String {
    let ago = SystemTime::now()
        .duration_since(time)
        .map_or(0, |age| age.as_secs());
    match jiff::Timestamp::try_from(time) {
        Ok(timestamp) => {
            let local = timestamp.to_zoned_datetime(jiff::tz::TimeZone::system());
            format!(
                "{} ({} ago)",
                local.strftime("%Y-%m-%d %H:%M:%S %Z"),
                span(ago)
            )
        }
        Err(_) => format!("{} ago", span(ago)),
    }
}
