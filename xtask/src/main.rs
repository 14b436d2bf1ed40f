//! The project's commands: `cargo xtask --help`.

mod bench;
mod build;
mod demo;
mod e2e;
mod r#gen;
mod test;

use std::process::{ExitCode, Stdio};

use anyhow::Result;
use clap::{Parser, Subcommand};
use testbed::until_signal;

/// The project's commands; they need Rust, and Python 3 to get an Envoy.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows a token choosing which version answers, at two hops of a real Envoy mesh on this machine.
    Demo(demo::Args),
    /// Runs every check: format, lints, docs, tests, generated files, and the corpus on a real Envoy.
    Test(test::Args),
    /// Proves it on a real Istio control plane, without a cluster; needs Go.
    E2e(e2e::Args),
    /// Builds what is shipped, into `target/dist`.
    Build {
        /// Only the filters, not `manifest-gen`.
        #[arg(long)]
        filters: bool,
    },
    /// Measures what it costs, beside other ways to do it.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Writes the files that are generated from the code.
    Gen {
        /// Change nothing; fail when a file is not what would be written.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Demo(args) => until_signal(demo::run(args)),
        Command::Test(args) => until_signal(test::run(args)),
        Command::E2e(args) => until_signal(e2e::run(args)),
        Command::Build { filters } => {
            for path in build::run(*filters)? {
                println!("{}", path.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(bench) => until_signal(bench::run(bench)),
        Command::Gen { check } => r#gen::run(*check).map(|()| ExitCode::SUCCESS),
    }
}

/// Cargo, in the workspace.
fn cargo(args: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(testbed::workspace_dir()).stdin(Stdio::null());
    command
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo              a mesh, a set of requests, a table of who answered
  cargo xtask demo --engine lua the same with the Lua filter
  cargo xtask demo --serve      the first, then keep the mesh up for your own requests
  cargo xtask test              everything that must hold
  cargo xtask test --quick      the part of it that needs no Envoy
  cargo xtask e2e               every scenario on istiod, kube-apiserver and etcd
  cargo xtask e2e --tools       only build those, once
  cargo xtask build             the filters and manifest-gen, in target/dist
  cargo xtask bench core        decisions of the core, timed beside other ways to read a token
  cargo xtask bench instructions  has a decision become dearer than what is recorded?
  cargo xtask bench envoy       CPU time per request in a real Envoy, beside its own jwt_authn
  cargo xtask gen --check       are the generated files up to date?";
