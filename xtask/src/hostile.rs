//! `cargo xtask hostile`: builds the filters, and attacks them with the crate `hostile`, optimized.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use testbed::Group;

/// Arguments of the crate's own program; `--help` is among them.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    args: Vec<OsString>,
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    for cargo in [&["xtask", "build", "--filters"][..], &["run", "--quiet", "--release", "--package", "hostile", "--"]]
    {
        let mut command = crate::cargo(cargo);
        if cargo[0] == "run" {
            command.args(&args.args);
        } else {
            // It names what it built.
            command.stdout(std::process::Stdio::null());
        }
        let status = Group::spawn(&mut command)?.wait().await?;
        if !status.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
