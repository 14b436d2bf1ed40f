//! Where the workspace is, and cargo in it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;

/// A cargo command in the workspace, with nothing on standard input.
#[must_use]
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(workspace_dir()).stdin(Stdio::null());
    command
}

/// Where cargo writes what it builds: `CARGO_TARGET_DIR`, else `target`, in the workspace.
#[must_use]
pub fn target_dir() -> PathBuf {
    let dir = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    // An absolute one replaces the workspace's path.
    workspace_dir().join(dir)
}

/// The target for which `cargo xtask build` builds `manifest-gen`: this machine's, and on Linux statically linked.
#[must_use]
pub fn program_target() -> String {
    let system = if cfg!(target_os = "macos") { "apple-darwin" } else { "unknown-linux-musl" };
    format!("{}-{system}", env::consts::ARCH)
}

/// The native Envoy module for this machine, which `cargo xtask build --filters` builds. Its name contains a hash of its contents.
///
/// # Errors
///
/// If there is none, or more than one.
pub fn module_path() -> Result<PathBuf> {
    let folder = target_dir().join("dist");
    let prefix = format!("librouting-claims-{}-", env::consts::ARCH);
    let is_module = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&prefix) && name.ends_with(".so")
    };
    let entries = fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut modules: Vec<_> = entries.filter(is_module).collect();
    ensure!(
        modules.len() == 1,
        "expected one {prefix}*.so in {}, found {}; run `cargo xtask build --filters`",
        folder.display(),
        modules.len()
    );
    Ok(modules.remove(0))
}

/// The directory of the workspace's `Cargo.toml`.
#[must_use]
pub fn workspace_dir() -> &'static Path {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).unwrap_or(crate_dir)
}
