//! `cargo xtask e2e`: builds what is shipped, then runs the crate `e2e` on it.

use std::process::ExitCode;

use anyhow::Result;
use testbed::Group;

/// What to run; `--help` is that of the crate.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<String>,
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let only_tells = args.arguments.iter().any(|argument| ["-h", "--help", "--tools"].contains(&argument.as_str()));
    if !only_tells {
        println!("building what is shipped");
        if !Group::spawn(&mut crate::cargo(&["xtask", "build"]))?.wait().await?.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    let mut command = crate::cargo(&["run", "--quiet", "--package", "e2e", "--"]);
    let status = Group::spawn(command.args(&args.arguments))?.wait().await?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
