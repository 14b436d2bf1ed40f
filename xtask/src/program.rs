//! Commands that are programs of their own, in crates with dependencies that no other command needs.

use std::ffi::OsString;
use std::process::{ExitCode, Stdio};

use anyhow::Result;
use testbed::Group;

/// The program's own arguments; `--help` is among them.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

/// A program, and what it works on.
pub(crate) struct Program {
    /// `cargo run` with these arguments.
    pub(crate) cargo: &'static [&'static str],
    /// `cargo xtask build` with these arguments comes first.
    pub(crate) build: &'static [&'static str],
    /// Arguments with which it needs nothing built.
    pub(crate) only_tells: &'static [&'static str],
}

impl Program {
    /// Builds what it works on, and runs it.
    pub(crate) async fn run(&self, args: &Args) -> Result<ExitCode> {
        let only_tells = args.arguments.iter().any(|one| self.only_tells.iter().any(|tells| one == tells));
        if !only_tells {
            println!("building what is shipped");
            let mut build = crate::cargo(&["xtask", "build"]);
            // It names what it built.
            let status = Group::spawn(build.args(self.build).stdout(Stdio::null()))?.wait().await?;
            if !status.success() {
                return Ok(ExitCode::FAILURE);
            }
        }
        let mut run = crate::cargo(&["run", "--quiet"]);
        let status = Group::spawn(run.args(self.cargo).arg("--").args(&args.arguments))?.wait().await?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    }
}
