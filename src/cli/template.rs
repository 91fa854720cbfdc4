use std::process::ExitCode;

use crate::ops::template::Template;
use crate::ops::{self, Host};

use super::output::{Output, or_dash, table};

/// Definitions to begin with
///
/// Some are built in, and each NAME.toml in $XDG_CONFIG_HOME/maqet/templates is
/// one. A definition begins with one by `extends = "template:NAME"`, or with
/// `maqet add --template NAME`. A file with the name of a built-in is not used.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    Ls(LsArgs),
    Show(ShowArgs),
}

/// List templates
#[derive(clap::Args)]
pub(super) struct LsArgs {}

/// Show the text of a template
#[derive(clap::Args)]
pub(super) struct ShowArgs {
    /// Name of the template
    name: String,
}

pub(super) fn run(out: &Output, host: &Host, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ls(LsArgs {}) => {
            let all = ops::template::ls(host)?;
            for file in ops::template::hidden(host) {
                let file = file.display();
                out.note(format_args!(
                    "{file} is not used: a template of its name is built in"
                ));
            }
            out.answer(&all, |w| {
                table(w, ["NAME", "FILE", "FOR"], all.iter().map(row))
            })?;
        }
        Command::Show(args) => {
            let template = ops::template::show(host, &args.name)?;
            let answer = serde_json::json!({"name": template.name, "text": template.text});
            out.answer(&answer, |w| w.write_all(template.text.as_bytes()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(template: &Template) -> [String; 3] {
    let file = template
        .file
        .as_ref()
        .map(|file| file.display().to_string());
    [template.name.clone(), or_dash(file), template.about.clone()]
}
