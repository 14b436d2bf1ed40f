//! Commands that are separate programs, in crates with dependencies that no other command needs.

use std::ffi::OsString;
use std::process::{ExitCode, Stdio};

use anyhow::Result;
use testbed::{Group, cargo};

/// The arguments of the program itself, including `--help`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

/// A program, and the artifacts that it needs.
pub(crate) struct Program {
    /// `cargo run` with these arguments.
    pub(crate) cargo: &'static [&'static str],
    /// `cargo xtask build` with these arguments runs first.
    pub(crate) build: Option<&'static [&'static str]>,
    /// The build is skipped if one of these is among the program's arguments.
    pub(crate) unless: &'static [&'static str],
    /// Arguments of the program that the build gets too.
    pub(crate) shared: &'static [&'static str],
}

impl Program {
    /// Builds what the program needs, and runs it.
    pub(crate) async fn run(&self, args: &Args) -> Result<ExitCode> {
        let skipped = args.arguments.iter().any(|given| self.unless.iter().any(|one| given == one));
        if let Some(build) = self.build.filter(|_| !skipped) {
            println!("building what is shipped");
            // It prints the files that it builds.
            let mut command = cargo(&["xtask", "build"]);
            let shared = args.arguments.iter().filter(|given| self.shared.iter().any(|one| given == one));
            if !Group::spawn(command.args(build).args(shared).stdout(Stdio::null()))?.wait().await?.success() {
                return Ok(ExitCode::FAILURE);
            }
        }
        let mut run = cargo(&["run", "--quiet"]);
        let status = Group::spawn(run.args(self.cargo).arg("--").args(&args.arguments))?.wait().await?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    }
}
