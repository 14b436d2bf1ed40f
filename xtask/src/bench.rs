//! `cargo xtask bench`: how much it costs, and beside what.

mod core;
mod instructions;

use std::process::ExitCode;

use anyhow::Result;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Times decisions of the core beside other ways to read a token, and compares them with the budgets.
    Core,
    /// Counts the instructions of decisions by valgrind; fails when one grew, or a hostile one costs too much.
    Instructions(instructions::Args),
}

pub(crate) async fn run(bench: &Bench) -> Result<ExitCode> {
    match bench {
        Bench::Core => core::run().await,
        Bench::Instructions(args) => instructions::run(args).await,
    }
}
