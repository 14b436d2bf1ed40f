//! The project's commands: `cargo xtask --help`.

mod build;
mod check;
mod fuzz;
mod program;
mod step;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use program::Program;
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
    Demo(program::Args),
    /// Runs the tests, including every case of the corpus on every engine.
    Test(test::Args),
    /// Checks format, lints, docs and generated files.
    Check,
    /// Runs libFuzzer on the fuzz targets; fails on a crash, and says how to see it again.
    Fuzz(fuzz::Args),
    /// Proves it on a real Istio control plane, without a cluster; needs Go.
    E2e(program::Args),
    /// Attacks the filters on a real Envoy with hostile requests, and checks what comes out of each.
    Hostile(program::Args),
    /// Builds what is shipped, into `target/dist`.
    Build {
        /// Only the filters, not `manifest-gen`.
        #[arg(long)]
        filters: bool,
    },
    /// Measures what the filter costs, beside other ways to do the same.
    Bench(program::Args),
    /// Writes the files that are generated from the code.
    Gen(program::Args),
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
        Command::Demo(args) => until_signal(DEMO.run(args)),
        Command::Test(args) => until_signal(test::run(args)),
        Command::Check => until_signal(check::run()),
        Command::Fuzz(args) => until_signal(fuzz::run(args)),
        Command::E2e(args) => until_signal(E2E.run(args)),
        Command::Hostile(args) => until_signal(HOSTILE.run(args)),
        Command::Build { filters } => {
            for path in build::run(*filters)? {
                println!("{}", path.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(args) => until_signal(BENCH.run(args)),
        Command::Gen(args) => until_signal(DOCGEN.run(args)),
    }
}

const DEMO: Program = Program {
    cargo: &["--package", "demo"],
    build: Some(&["--filters"]),
    // The Lua filter is part of the program.
    unless: &["-h", "--help", "lua", "--engine=lua"],
};

const E2E: Program = Program { cargo: &["--package", "e2e"], build: Some(&[]), unless: &["-h", "--help", "--tools"] };

/// Optimized, so that Envoy is the bottleneck.
const HOSTILE: Program =
    Program { cargo: &["--release", "--package", "hostile"], build: Some(&["--filters"]), unless: &["-h", "--help"] };

/// Optimized: it signs thousands of tokens.
const BENCH: Program = Program {
    cargo: &["--release", "--package", "bench"],
    build: Some(&["--filters"]),
    unless: &["-h", "--help", "core", "instructions"],
};

const DOCGEN: Program = Program { cargo: &["--package", "docgen"], build: None, unless: &[] };

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo              a mesh, a set of requests, a table of who answered
  cargo xtask demo --engine lua the same with the Lua filter
  cargo xtask demo --serve      the first, then keep the mesh up for your own requests
  cargo xtask test              the tests, also on a real Envoy
  cargo xtask test --quick      the tests that need no Envoy
  cargo xtask check             format, lints, docs and generated files
  cargo xtask fuzz --time 1m    search for inputs that break a promise, a minute for each target
  cargo xtask e2e               every scenario on istiod, kube-apiserver and etcd
  cargo xtask e2e --tools       only build those, once
  cargo xtask hostile           100,000 hostile requests for each engine
  cargo xtask build             the filters and manifest-gen, in target/dist
  cargo xtask bench core        decisions of the core, timed beside other ways to read a token
  cargo xtask bench instructions  has a decision become dearer than what is recorded?
  cargo xtask bench envoy       CPU time per request in a real Envoy, beside its own jwt_authn
  cargo xtask gen --check       are the generated files up to date?";
