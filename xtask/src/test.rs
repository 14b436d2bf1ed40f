//! `cargo xtask test`: every check, one step after the other.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use testbed::Group;

use crate::build;

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out what needs an Envoy.
    #[arg(long)]
    quick: bool,
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let begin = Instant::now();
    build::add_wasm_target()?;
    for step in STEPS {
        if !run_step(step, None).await? {
            return Ok(ExitCode::FAILURE);
        }
    }
    let mut passed = STEPS.len();
    if args.quick {
        println!("\n--quick left out, as they need an Envoy: {}", ENVOY_STEPS.map(|step| step.name).join(", "));
    } else {
        println!("\n== Envoy");
        let envoy = testbed::locate(|line| println!("{line}")).await?;
        println!("== Envoy: {} at {}", envoy.version, envoy.path.display());
        for step in &ENVOY_STEPS {
            if !run_step(step, Some(("ENVOY_BIN", envoy.path.clone().into_os_string()))).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        passed += ENVOY_STEPS.len();
    }
    println!("\n{passed} steps passed in {:.1} s", begin.elapsed().as_secs_f32());
    Ok(ExitCode::SUCCESS)
}

/// Prints what it does; false when the step failed.
async fn run_step(step: &Step, env: Option<(&str, OsString)>) -> Result<bool> {
    println!("\n== {}: cargo {}", step.name, step.cargo.join(" "));
    let begin = Instant::now();
    let mut group = Group::spawn(testbed::cargo(step.cargo).env("RUSTDOCFLAGS", "-D warnings").envs(env))?;
    let status = group.wait().await?;
    let seconds = begin.elapsed().as_secs_f32();
    if status.success() {
        println!("== {}: passed in {seconds:.1} s", step.name);
    } else {
        println!("== {}: FAILED after {seconds:.1} s ({status})", step.name);
    }
    Ok(status.success())
}

struct Step {
    name: &'static str,
    cargo: &'static [&'static str],
}

const STEPS: &[Step] = &[
    Step { name: "format", cargo: &["fmt", "--all", "--check"] },
    Step { name: "format of the fuzz targets", cargo: &["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"] },
    Step {
        name: "lints",
        cargo: &["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"],
    },
    Step {
        name: "lints of the WASM modules",
        cargo: &[
            "clippy",
            "--package",
            "naive-wasm",
            "--package",
            "wasm-filter",
            "--target",
            build::WASM_TARGET,
            "--",
            "--deny",
            "warnings",
        ],
    },
    Step { name: "docs", cargo: &["doc", "--workspace", "--no-deps"] },
    Step {
        name: "unit, property and doc tests",
        cargo: &["test", "--workspace", "--exclude", "naive-wasm", "--exclude", "wasm-filter"],
    },
    Step { name: "generated files", cargo: &["xtask", "gen", "--check"] },
    Step { name: "build", cargo: &["xtask", "build", "--filters"] },
    Step {
        name: "the WASM filter on a host that misbehaves",
        cargo: &["test", "--package", "hostile", "--features", "module", "--test", "host"],
    },
];

const ENVOY_STEPS: [Step; 5] = [
    Step {
        name: "test bed on Envoy",
        cargo: &["test", "--package", "testbed", "--features", "envoy", "--test", "envoy"],
    },
    Step {
        name: "LuaJIT's request handle against Envoy's",
        cargo: &["test", "--package", "lua-filter", "--features", "envoy", "--test", "envoy"],
    },
    Step {
        name: "explain against Envoy",
        cargo: &["test", "--package", "manifest-gen", "--features", "envoy", "--test", "envoy"],
    },
    Step {
        name: "faults, and secrecy of tokens, on Envoy",
        cargo: &["test", "--package", "hostile", "--features", "envoy", "--test", "envoy"],
    },
    Step { name: "corpus on Envoy", cargo: &["test", "--package", "conformance", "--features", "envoy"] },
];
