//! `cargo xtask demo`: a mesh, a set of requests, and a table of who answered.

mod mesh;
mod requests;
mod services;

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Result, bail};
use routing_claims::Policy;
use serde_json::Value;
use testbed::Group;

use mesh::Mesh;

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Keep the mesh up afterwards, and print curl lines to try.
    #[arg(long)]
    serve: bool,
    /// Which filter the Envoys run.
    #[arg(long, value_enum, default_value_t = Engine::Wasm)]
    engine: Engine,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Engine {
    Wasm,
    Lua,
}

impl Engine {
    /// The Envoy filter that runs this with that policy, built where it must be.
    async fn filter(self, policy: &Value) -> Result<Value> {
        match self {
            Self::Wasm => Ok(testbed::config::wasm_filter(&build_filters().await?, policy)),
            Self::Lua => {
                let policy = Policy::from_json(policy.to_string().as_bytes())?;
                Ok(testbed::config::lua_filter(&lua_filter::source(&policy)))
            }
        }
    }
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let begin = Instant::now();
    let envoy = testbed::locate(|line| println!("  {line}")).await?;
    println!("Envoy {}: {}", envoy.version, envoy.path.display());

    let filter = args.engine.filter(&mesh::policy()).await?;

    // Declared before the mesh, so that it goes after the Envoys that write there.
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
        println!("The Envoys' logs and configurations are kept in {}", dir.path().display());
    }
    println!("{passed} passed, {failed} failed");

    if args.serve {
        println!("\nThe mesh stays up until Ctrl-C. Try:\n\n{}", requests::curl_lines(&requests, mesh.gateway()));
        testbed::signalled().await?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs `cargo xtask build --filters` as a child, so that a signal stops it too; gives the WASM filter.
pub(crate) async fn build_filters() -> Result<PathBuf> {
    println!("building the filter");
    // It names what it built.
    let mut group = Group::spawn(crate::cargo(&["xtask", "build", "--filters"]).stdout(Stdio::null()))?;
    if !group.wait().await?.success() {
        bail!("`cargo xtask build` failed");
    }
    Ok(testbed::target_dir().join("dist/routing-claims.wasm"))
}
