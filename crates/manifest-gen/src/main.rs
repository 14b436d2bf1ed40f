//! The command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    manifest_gen::cli::main()
}
