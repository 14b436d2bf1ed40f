//! `cargo xtask bench`: what the filter costs, beside other ways to do the same.

mod core;
mod envoy;
mod instructions;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Measures what the filter costs, beside other ways to do the same.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
enum Bench {
    /// Times decisions of the core beside other ways to read a token, and compares them with the budgets.
    Core,
    /// Counts the instructions of decisions with valgrind; fails when one grew, or a hostile one costs too much.
    Instructions(instructions::Args),
    /// CPU time, latency and memory of both filters in a real Envoy, beside naive filters and Envoy's own `jwt_authn`.
    Envoy(envoy::Args),
}

fn main() -> ExitCode {
    match testbed::until_signal(run(Bench::parse())) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(bench: Bench) -> Result<ExitCode> {
    match bench {
        Bench::Core => core::run().await,
        Bench::Instructions(args) => instructions::run(&args).await,
        Bench::Envoy(args) => envoy::run(&args).await,
    }
}
