use std::path::PathBuf;
use std::process::ExitCode;

use crate::ops::Host;
use crate::ops::migrate::{Old, Rename};

use super::output::Output;
use super::several::Tally;

/// Take VMs over from Python maqet
///
/// Reads its database and adds its VMs, all of them or the ones named, each either
/// whole or not at all. Disks stay where they are and count as your own. A VM that
/// still runs under Python maqet is refused, and so is one whose name is taken.
/// The old database is only read. Python maqet itself is not needed any more.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Names that the VMs have in Python maqet [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Its database, or the directory of it [default: instances.db beside maqet's own]
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
    /// Give a VM another name; for several, give it several times
    #[arg(long, value_name = "OLD=NEW")]
    rename: Vec<Rename>,
    /// Show the definitions that it would add, and add nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let old = Old::read(host, args.from.as_deref(), &args.names)?;
    let mut tally = Tally::default();
    let mut any = false;
    for name in old.names() {
        any = true;
        tally.count(old.migrate(host, name, &args.rename, args.dry_run), |vm| {
            for disk in &vm.made {
                out.note(format_args!("made {}", disk.display()));
            }
            for note in &vm.notes {
                out.note(format_args!("VM `{}`: {note}", vm.name));
            }
            if args.dry_run {
                return out.answer(&vm, |w| writeln!(w, "{}", vm.definition));
            }
            out.done(&vm, format_args!("VM `{}` taken over", vm.name))
        });
    }
    if !any {
        out.note("Python maqet has no VMs");
    }
    tally.finish()
}
