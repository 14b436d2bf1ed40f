//! `cargo xtask bench`: how much it costs, and beside what.

mod core;
mod envoy;
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
    /// CPU time, latency and memory of both filters in a real Envoy, beside naive filters and Envoy's own `jwt_authn`.
    Envoy(envoy::Args),
}

pub(crate) async fn run(bench: &Bench) -> Result<ExitCode> {
    match bench {
        Bench::Core => core::run().await,
        Bench::Instructions(args) => instructions::run(args).await,
        Bench::Envoy(args) => envoy::run(args).await,
    }
}
