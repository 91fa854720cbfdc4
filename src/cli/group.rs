use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use crate::ops::group::Group;
use crate::ops::set::Change;
use crate::ops::{self, Host};
use crate::vm::GroupName;

use super::output::{Output, table};

/// Limits that several VMs share
///
/// The units of VMs whose definitions name the group NAME are in the slice
/// maqet-NAME.slice, and its limits are for all of them together.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    Ls(LsArgs),
    Show(ShowArgs),
    Set(SetArgs),
}

/// List groups
///
/// All that a definition names or that have limits.
#[derive(clap::Args)]
pub(super) struct LsArgs {}

/// Show a group
///
/// Its slice, its VMs, those of them that run, and its limits.
#[derive(clap::Args)]
pub(super) struct ShowArgs {
    /// Name of the group
    name: GroupName,
}

/// Set limits for all VMs of a group together
///
/// Properties of the group's slice, with the names and the syntax of unit files,
/// such as MemoryMax=16G or CPUQuota=400%; an empty value is no limit. Running
/// VMs are limited at once, and all others when they are started. Either all
/// are set or none.
#[derive(clap::Args)]
pub(super) struct SetArgs {
    /// Name of the group; no VM need be in it yet
    name: GroupName,
    /// Properties of the slice: systemd.resource-control(5)
    #[arg(required = true, value_name = "PROPERTY=VALUE")]
    limits: Vec<Change>,
}

pub(super) fn run(out: &Output, host: &Host, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ls(LsArgs {}) => {
            let groups = ops::group::ls(host)?;
            out.answer(&groups, |w| {
                table(
                    w,
                    ["NAME", "VMS", "RUNNING", "LIMITS"],
                    groups.iter().map(row),
                )
            })?;
        }
        Command::Show(args) => {
            let group = ops::group::show(host, &args.name)?;
            out.answer(&group, |w| write(w, &group))?;
        }
        Command::Set(args) => {
            if let Some(warning) = ops::group::set(host, &args.name, &args.limits)? {
                out.warn(warning);
            }
            let names: Vec<&str> = args
                .limits
                .iter()
                .map(|limit| limit.property.as_str())
                .collect();
            let done = json!({ "name": args.name, "changed": names });
            out.done(
                &done,
                format_args!("group `{}`: {} changed", args.name, names.join(", ")),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(group: &Group) -> [String; 4] {
    let limits: Vec<String> = limits(group).collect();
    [
        group.name.to_string(),
        group.vms.len().to_string(),
        group.running.len().to_string(),
        limits.join(" "),
    ]
}

fn limits(group: &Group) -> impl Iterator<Item = String> {
    group
        .limits
        .iter()
        .map(|(property, value)| format!("{property}={value}"))
}

fn write(w: &mut dyn Write, group: &Group) -> io::Result<()> {
    writeln!(w, "{:>9}  {}", "group", group.name)?;
    writeln!(w, "{:>9}  {}", "slice", group.slice)?;
    for limit in limits(group) {
        writeln!(w, "{:>9}  {limit}", "limit")?;
    }
    for vm in &group.vms {
        let runs = if group.running.contains(vm) {
            "running"
        } else {
            "stopped"
        };
        writeln!(w, "{:>9}  {vm}: {runs}", "VM")?;
    }
    Ok(())
}
