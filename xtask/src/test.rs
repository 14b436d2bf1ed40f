//! `cargo xtask test`: runs the tests, also on Envoy.
//!
//! The tests of the workspace's default members are one cargo command, so that each of their dependencies is compiled once,
//! with one set of features.

use std::process::ExitCode;

use anyhow::Result;

use crate::step::{Step, run_all};

/// Which tests to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Skip the tests that start an Envoy.
    #[arg(long)]
    quick: bool,
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    if args.quick {
        run_all(&[BUILD, QUICK, XTASK], &[]).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let envoy = testbed::locate(|line| println!("{line}")).await?;
    println!("Envoy {}: {}", envoy.version, envoy.path.display());
    let path = envoy.path.to_string_lossy();
    run_all(&[BUILD, ALL, XTASK], &[("ENVOY_BIN", &path)]).await?;
    Ok(ExitCode::SUCCESS)
}

/// The default members of the workspace, without the features that add tests on Envoy.
const QUICK: Step = Step { name: "tests without Envoy", cargo: &["test", "--features", "hostile/module"] };

const BUILD: Step = Step { name: "the filters under test", cargo: &["xtask", "build", "--filters"] };

const ALL: Step = Step { name: "tests", cargo: &["test", "--all-features"] };

/// On its own, with the dependencies that this program was built with.
const XTASK: Step = Step { name: "tests of xtask", cargo: &["test", "--package", "xtask"] };
