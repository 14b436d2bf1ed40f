//! `cargo xtask build`.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// Gives the built filter's path.
pub(crate) fn run() -> Result<PathBuf> {
    let module = testbed::target_dir().join("dist/routing-claims.wasm");
    if !module.is_file() {
        bail!("{} is not there", module.display());
    }
    Ok(module)
}
