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

/// The project's commands. They need Rust, and Python 3 to install Envoy.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a mesh of real Envoys on this machine, in which a token chooses versions at two hops.
    Demo(program::Args),
    /// Runs the tests, including every case of the corpus on every engine.
    Test(test::Args),
    /// Checks format, lints, docs and generated files.
    Check,
    /// Runs libFuzzer on the fuzz targets. A crash fails, with the command that reproduces it.
    Fuzz(fuzz::Args),
    /// Runs scenarios on a real Istio control plane, without a cluster. Needs Go.
    E2e(program::Args),
    /// Attacks the filters on a real Envoy with hostile requests, and checks the result of each.
    Hostile(program::Args),
    /// Builds the artifacts that ship, into `target/dist`.
    Build(build::Args),
    /// Packs what ships as OCI images and archives, and pushes the images to a registry.
    Package(program::Args),
    /// Measures what the filter costs, compared with other ways to do the same job, and the controller.
    Bench(program::Args),
    /// Updates the files that are generated from the code.
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
        Command::Build(args) => until_signal(async {
            for path in build::run(*args).await? {
                println!("{}", path.display());
            }
            Ok(ExitCode::SUCCESS)
        }),
        Command::Package(args) => until_signal(PACKAGE.run(args)),
        Command::Bench(args) => until_signal(BENCH.run(args)),
        Command::Gen(args) => until_signal(DOCGEN.run(args)),
    }
}

const DEMO: Program = Program {
    cargo: &["--package", "demo"],
    build: Some(&["--filters"]),
    // The Lua filter is part of the program.
    unless: &["-h", "--help", "lua", "--engine=lua"],
    shared: &[],
};

const E2E: Program =
    Program { cargo: &["--package", "e2e"], build: Some(&[]), unless: &["-h", "--help", "--tools"], shared: &[] };

/// Optimized, so that Envoy is the bottleneck.
const HOSTILE: Program = Program {
    cargo: &["--release", "--package", "hostile"],
    build: Some(&["--filters"]),
    unless: &["-h", "--help"],
    shared: &[],
};

/// Optimized: it signs thousands of tokens.
const BENCH: Program = Program {
    cargo: &["--release", "--package", "bench"],
    build: Some(&["--filters"]),
    unless: &["-h", "--help", "core", "instructions", "controller"],
    shared: &[],
};

const PACKAGE: Program = Program {
    cargo: &["--package", "package", "--features", "cli"],
    build: Some(&["--controller"]),
    unless: &["-h", "--help"],
    shared: &["--all-platforms"],
};

const DOCGEN: Program = Program { cargo: &["--package", "docgen"], build: None, unless: &[], shared: &[] };

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                start a mesh, send requests, and print which version answered
  cargo xtask demo --engine lua   the same with the Lua filter
  cargo xtask demo --serve        keep the mesh running for your own requests
  cargo xtask test                run all tests, also on a real Envoy
  cargo xtask test --quick        run the tests that need no Envoy
  cargo xtask check               check format, lints, docs and generated files
  cargo xtask fuzz --time 1m      fuzz each target for a minute
  cargo xtask e2e                 run every scenario on istiod, kube-apiserver and etcd
  cargo xtask e2e --tools         only build those programs, once
  cargo xtask hostile             send 100,000 hostile requests to each engine
  cargo xtask build               build the filters and manifest-gen into target/dist
  cargo xtask build --controller  build the controller too
  cargo xtask build --module      build only the native Envoy module, for each architecture
  cargo xtask package             pack OCI images and archives into target/dist
  cargo xtask bench core          time decisions of the core and other ways to read a token
  cargo xtask bench instructions  check that no decision costs more than recorded
  cargo xtask bench envoy         measure CPU time per request in a real Envoy
  cargo xtask bench controller    measure the controller with 20,000 variants
  cargo xtask gen --check         check that the generated files are up to date";
