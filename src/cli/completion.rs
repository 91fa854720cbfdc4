use std::any::TypeId;
use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use crate::ops::{Host, Selector, select};
use crate::vm::VmName;

/// Print a completion script for a shell
///
/// With it, the shell completes commands, options, files and the names of VMs.
/// `make install` puts those for bash, zsh and fish where the shells look.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Shell that the script is for
    shell: Shell,
}

/// The variable that has this program complete words; its value is the shell.
const VARIABLE: &str = "MAQET_COMPLETE";

/// A file that zsh has found by its name is read by the first completion, and is to do it.
const AUTOLOADED: &str = r#"
if [[ $funcstack[1] == _maqet ]]; then
    _clap_dynamic_completer_maqet "$@"
fi
"#;

/// Arguments that name a VM which is yet to be, by their commands.
const NEW: [(&str, &str); 3] = [
    ("maqet add", "name"),
    ("maqet clone", "new"),
    ("maqet rename", "new"),
];

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell.to_string());
    shell
        .expect("the library has scripts for all of its shells")
        .write_registration(VARIABLE, "maqet", "maqet", "maqet", &mut script)?;
    if args.shell == Shell::Zsh {
        script.extend(AUTOLOADED.as_bytes());
    }
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Ends the process with how a word goes on, if it was started by such a script.
pub(super) fn answer() {
    if env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(|| with_names(super::built()))
            .var(VARIABLE)
            .complete();
    }
}

/// Has the arguments that name a VM offer those there are.
fn with_names(command: clap::Command) -> clap::Command {
    let verb = command.get_bin_name().unwrap_or_default().to_owned();
    command
        .mut_args(|arg| {
            let parsed = arg.get_value_parser().type_id();
            let names_one = parsed == TypeId::of::<VmName>() || parsed == TypeId::of::<Selector>();
            if names_one && !NEW.contains(&(&verb, arg.get_id().as_str())) {
                arg.add(ArgValueCandidates::new(vms))
            } else {
                arg
            }
        })
        .mut_subcommands(with_names)
}

/// The VMs there are, as far as that can be told.
fn vms() -> Vec<CompletionCandidate> {
    let names = Host::from_env().and_then(|host| select(&host, &[Selector::All]));
    let names = names.into_iter().flatten();
    names
        .map(|name| CompletionCandidate::new(name.to_string()))
        .collect()
}
