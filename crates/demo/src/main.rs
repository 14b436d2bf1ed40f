//! `cargo xtask demo`: starts a mesh, sends requests, and prints a table of which version answered.

mod mesh;
mod requests;
mod services;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use routing_claims::Policy;
use serde_json::Value;

use mesh::Mesh;

/// Starts a mesh of real Envoys on this machine, in which a token chooses versions at two hops.
#[derive(Parser)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo", after_help = EXAMPLES)]
struct Args {
    /// Keep the mesh running afterwards, and print curl commands to try.
    #[arg(long)]
    serve: bool,
    /// The filter that the Envoys run.
    #[arg(long, value_enum, default_value_t = Engine::Wasm)]
    engine: Engine,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Engine {
    Wasm,
    Lua,
    Module,
}

impl Engine {
    /// The Envoy filter that runs this engine with that policy. `cargo xtask demo` has built it.
    fn filter(self, policy: &Value) -> Result<Value> {
        match self {
            Self::Wasm => {
                let module = testbed::target_dir().join("dist/routing-claims.wasm");
                Ok(testbed::config::wasm_filter(&module, policy))
            }
            Self::Lua => {
                let policy = Policy::from_json(policy.to_string().as_bytes())?;
                Ok(testbed::config::lua_filter(&lua_filter::source(&policy)))
            }
            Self::Module => Ok(testbed::config::module_filter(&testbed::module_path()?, policy)),
        }
    }
}

fn main() -> ExitCode {
    match testbed::until_signal(run(&Args::parse())) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<ExitCode> {
    let begin = Instant::now();
    let envoy = testbed::locate(|line| println!("  {line}")).await?;
    println!("Envoy {}: {}", envoy.version, envoy.path.display());

    let filter = args.engine.filter(&mesh::policy())?;

    // Declared before the mesh, so that it is dropped after the Envoys, which write to it.
    let mut dir = tempfile::Builder::new().prefix("routing-claims-demo-").tempdir()?;
    let mesh = match Mesh::start(&envoy, &filter, dir.path()).await {
        Ok(mesh) => mesh,
        Err(error) => {
            dir.disable_cleanup(true);
            return Err(error.context(format!("the mesh did not start; see the logs in {}", dir.path().display())));
        }
    };
    println!("ready after {:.1} s\n", begin.elapsed().as_secs_f32());

    let requests = requests::all()?;
    let (mut passed, mut failed) = (0, 0);
    let mut table = requests::table();
    for request in &requests {
        let got = request.send(mesh.gateway()).await;
        if request.add_to(&mut table, &got) {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    println!("{table}\n");
    if failed > 0 {
        dir.disable_cleanup(true);
        println!("Envoy's logs and configurations are kept in {}", dir.path().display());
    }
    println!("{passed} passed, {failed} failed");

    if args.serve {
        println!("\nThe mesh runs until Ctrl-C. Try:\n\n{}", requests::curl_lines(&requests, mesh.gateway()));
        testbed::signalled().await?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                  start a mesh, send requests, and print which version answered
  cargo xtask demo --engine lua     the same with the Lua filter
  cargo xtask demo --engine module  the same with the native module
  cargo xtask demo --serve          keep the mesh running afterwards, for your own requests";
