use std::io::Write;
use std::process::ExitCode;

use crate::config;

use super::output::Output;

/// Print the JSON Schema of a definition, for editors
///
/// With it an editor completes keys, shows what they mean, and marks what is
/// wrong as it is typed: put it into a file, and name that in the first line of
/// a definition, as in `#:schema ./maqet.schema.json` for taplo and Even Better TOML.
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) fn run(out: &Output, _: &Args) -> anyhow::Result<ExitCode> {
    let schema = config::schema();
    out.answer(&schema, |w: &mut dyn Write| {
        serde_json::to_writer_pretty(&mut *w, &schema)?;
        writeln!(w)
    })?;
    Ok(ExitCode::SUCCESS)
}
