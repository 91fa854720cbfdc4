//! The `maqet` program. Everything is in the library; see `maqet::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    maqet::cli::main()
}
