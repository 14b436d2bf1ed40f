//! `cargo xtask check`: checks format, lints, docs and generated files.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    build,
    step::{Step, run_all},
};

pub(crate) async fn run() -> Result<ExitCode> {
    build::add_target(build::WASM_TARGET)?;
    run_all(&STEPS, &[("RUSTDOCFLAGS", "-D warnings")]).await?;
    Ok(ExitCode::SUCCESS)
}

const STEPS: [Step; 6] = [
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
    Step { name: "docs", cargo: &["doc", "--workspace", "--no-deps", "--all-features"] },
    Step { name: "generated files", cargo: &["xtask", "gen", "--check"] },
];
