use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::config::TimeSpan;
use crate::ops::Host;
use crate::ops::screenshot::{Format, Screen, screenshot};
use crate::vm::VmName;

use super::output::Output;

/// Take a picture of a running VM's screen
///
/// Prints the name of the file, which is a PNG, or a PPM if its name ends so. A
/// file that is there is left alone unless --force is given. With --show, the
/// terminal shows the picture: in full where it can (kitty, iTerm2), in coloured
/// blocks elsewhere.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the VM
    name: VmName,
    /// File to write, or a directory; - is standard output [default: NAME-YYYYMMDD-HHMMSS.png here]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, short, requires = "file")]
    force: bool,
    /// Show the picture on the terminal; it is only written if FILE is given
    #[arg(long)]
    show: bool,
    /// Id of the video device whose screen is meant, if there are several
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Which output of that device, from 0
    #[arg(long, value_name = "N", requires = "device")]
    head: Option<u32>,
    /// How long QEMU may take to answer
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: TimeSpan,
}

#[derive(Serialize)]
struct Taken<'a> {
    name: &'a str,
    file: &'a PathBuf,
    format: Format,
    width: u32,
    height: u32,
    bytes: usize,
}

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    if args.show && (out.json || !io::stdout().is_terminal()) {
        super::usage_error("screenshot", "`--show` needs a terminal to show it on");
    }
    let is_only_shown = args.show && args.file.is_none();
    let file = args.file.unwrap_or_else(|| ".".into());
    let is_stdout = file.as_os_str() == "-";
    if is_stdout && (out.json || io::stdout().is_terminal()) {
        let message = "`-` writes a picture to standard output, which is to be a file or a pipe";
        super::usage_error("screenshot", message);
    }
    let format = match file.extension().and_then(|suffix| suffix.to_str()) {
        Some("ppm") => Format::Ppm,
        Some(suffix @ ("jpg" | "jpeg" | "gif" | "webp" | "bmp")) => {
            let message = format!("`.{suffix}` cannot be written: name a .png or a .ppm");
            super::usage_error("screenshot", &message);
        }
        _ => Format::Png,
    };
    let screen = Screen {
        device: args.device,
        head: args.head,
    };
    let picture = screenshot(host, &args.name, &screen, format, args.timeout.duration())?;
    if args.show {
        show(&picture.bytes)?;
    }
    if is_only_shown {
        return Ok(ExitCode::SUCCESS);
    }
    if is_stdout {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&picture.bytes)?;
        stdout.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = if file.is_dir() {
        picture.save_in(&file, &args.name)?
    } else {
        picture.save(&file, args.force)?;
        file
    };
    let taken = Taken {
        name: args.name.as_str(),
        file: &file,
        format,
        width: picture.width,
        height: picture.height,
        bytes: picture.bytes.len(),
    };
    out.answer(&taken, |w| writeln!(w, "{}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Draws a picture on the terminal, as large as fits.
fn show(bytes: &[u8]) -> anyhow::Result<()> {
    let picture = image::load_from_memory(bytes)?;
    // To ask a terminal what it can would be to wait for one that does not answer.
    let says = |name: &str| env::var(name).unwrap_or_default();
    let knows_kitty =
        says("TERM").contains("kitty") || ["ghostty", "WezTerm"].contains(&&*says("TERM_PROGRAM"));
    let config = viuer::Config {
        absolute_offset: false,
        use_kitty: knows_kitty,
        ..viuer::Config::default()
    };
    viuer::print(&picture, &config)?;
    Ok(())
}
