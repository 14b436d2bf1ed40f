//! `cargo xtask bench`: how much it costs, and beside what.

mod core;

use std::process::ExitCode;

use anyhow::Result;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Times decisions of the core beside other ways to read a token, and counts their ratios against the budgets.
    Core,
}

pub(crate) async fn run(bench: &Bench) -> Result<ExitCode> {
    match bench {
        Bench::Core => core::run().await,
    }
}
