//! `cargo xtask bench controller`: a program of the crate `e2e`, which runs the control plane.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use testbed::{Group, cargo};

/// The arguments of the program itself, including `--help`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

/// The program is not optimized: it waits most of the time, and no other command of this crate needs its dependencies.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let mut run = cargo(&["run", "--quiet", "--package", "e2e", "--bin", "controller-scale", "--"]);
    let succeeded = Group::spawn(run.args(&args.arguments))?.wait().await?.success();
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
