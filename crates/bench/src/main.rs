//! `cargo xtask bench`: measures what the filter costs, compared with other ways to do the same job, and the controller.

mod controller;
mod core;
mod envoy;
mod instructions;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Measures what the filter costs, compared with other ways to do the same job, and the controller.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
enum Bench {
    /// Times decisions of the core and other ways to read a token, and compares them with the budgets.
    Core,
    /// Counts the instructions of decisions with valgrind. Fails if a count grew, or a hostile request costs too much.
    Instructions(instructions::Args),
    /// Measures CPU time, latency and memory of both filters in a real Envoy, next to naive filters and Envoy's own `jwt_authn`.
    Envoy(envoy::Args),
    /// Measures the controller and what a mesh pays for its routes, with thousands of variants on a real control plane. Needs Go.
    Controller(controller::Args),
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
        Bench::Controller(args) => controller::run(&args).await,
    }
}
