use std::io::Read;
use std::process::ExitCode;

use crate::config::TimeSpan;
use crate::keyboard::Layout;
use crate::ops::{self, Host};
use crate::vm::VmName;

use super::keys::Pressed;
use super::output::Output;

/// Type text on a running VM's keyboard
///
/// The text goes to whatever in the guest has the keyboard, with a key for each
/// character: line breaks press enter. The guest must have the layout given. A
/// character that the layout has not is an error, and nothing is typed then. No
/// character is lost: each waits until the guest has taken the one before, where
/// its keyboard tells that (PS/2).
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// Text to type; - reads it from standard input
    text: String,
    /// Keyboard layout of the guest, such as us, de or fr, or with a variant, us:dvorak
    #[arg(long, value_name = "LAYOUT", default_value = "us")]
    layout: String,
    /// How long QEMU may take to answer, and the guest to take a key
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: TimeSpan,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let text = match args.text.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| anyhow::Error::from(error).context("cannot read the text"))?;
            text
        }
        _ => args.text,
    };
    let layout = Layout::named(&args.layout).map_err(ops::Error::from)?;
    let limit = args.timeout.duration();
    let pressed = ops::r#type::type_text(host, &args.name, &text, &layout, limit)?;
    let name = &args.name;
    let done = Pressed {
        name: name.as_str(),
        pressed,
    };
    let plural = if pressed == 1 { "" } else { "s" };
    let words = format!("{pressed} character{plural} typed on VM `{name}`");
    out.done(&done, words)?;
    Ok(ExitCode::SUCCESS)
}
