use std::env;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::ops::{self, Host};
use crate::vm::VmName;

use super::output::Output;

/// Edit the definition of a VM
///
/// Starts $VISUAL, $EDITOR or vi on a copy, checks what comes of it, and changes the VM:
/// at once what can be changed while it runs, and the rest from its next start on. With
/// mistakes one is asked whether to go on editing; without a terminal, or when someone
/// else has changed the definition meanwhile, the text is kept in a file that is named,
/// and nothing is changed.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Leave a running VM as it is until its next start
    #[arg(long)]
    no_live: bool,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let name = &args.name;
    let original = host.vm(name)?.definition;
    let dir = env::current_dir().context("cannot tell the current directory")?;
    let copy = Copy::make(name, &original)?;
    // An editor that is left with Ctrl-C is not left by us.
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::default())?;
    loop {
        if let Err(error) = edit(&copy.0) {
            if copy.drop_if(&original) {
                return Err(error);
            }
            let code = super::error::report(&error);
            out.kept(&copy.0);
            return Ok(code);
        }
        let text = fs::read_to_string(&copy.0)
            .with_context(|| format!("cannot read {}", copy.0.display()))?;
        // An empty text is how one gives up, as with git and crontab.
        if text == original || text.trim().is_empty() {
            copy.drop_if(&text);
            out.note(format_args!("VM `{name}`: nothing changed"));
            return Ok(ExitCode::SUCCESS);
        }
        // Relative paths are as on the command line.
        let file = dir.join(format!("{name}.toml"));
        let edited = ops::edit::edit(
            host,
            name,
            &original,
            &text,
            (&file, &copy.0),
            !args.no_live,
        );
        match edited {
            Ok(changed) => {
                copy.drop_if(&text);
                super::set::report(out, &changed)?;
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => {
                let again = matches!(
                    error,
                    ops::Error::Config(_) | ops::Error::NoDisk { .. } | ops::Error::Missing { .. }
                );
                let error = anyhow::Error::from(error);
                if !(again && io::stdin().is_terminal() && io::stderr().is_terminal()) {
                    let code = super::error::report(&error);
                    out.kept(&copy.0);
                    return Ok(code);
                }
                super::error::print(&error);
                if !out.ask("edit again, or discard the changes? [E/d] ", 'e', 'd')? {
                    copy.drop_if(&text);
                    out.note(format_args!("VM `{name}`: nothing changed"));
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    }
}

/// A file that nobody else can read.
struct Copy(PathBuf);

impl Copy {
    fn make(name: &VmName, text: &str) -> anyhow::Result<Self> {
        let stem = format!("maqet-{name}-{}", std::process::id());
        for suffix in 0.. {
            let path = env::temp_dir().join(match suffix {
                0 => format!("{stem}.toml"),
                suffix => format!("{stem}-{suffix}.toml"),
            });
            match File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
            {
                Ok(mut file) => {
                    file.write_all(text.as_bytes())
                        .with_context(|| format!("cannot write {}", path.display()))?;
                    return Ok(Self(path));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot make {}", path.display()));
                }
            }
        }
        unreachable!("numbers do not end")
    }

    /// Deletes it if it holds nothing but `text`; whether it does.
    fn drop_if(&self, text: &str) -> bool {
        let is_it = fs::read_to_string(&self.0).is_ok_and(|now| now == text);
        if is_it {
            // What stays behind is a copy in a directory for such things.
            let _ = fs::remove_file(&self.0);
        }
        is_it
    }
}

/// Has the user edit a file.
fn edit(file: &Path) -> anyhow::Result<()> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR"));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // As everyone else runs it: with words of its own, such as `code --wait`.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file)
        .status()
        .with_context(|| format!("cannot run `{editor}`"))?;
    match status.success() {
        true => Ok(()),
        false => bail!("the editor `{editor}` failed ({status}), and nothing was changed"),
    }
}
