//! Where the workspace is, and cargo in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

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

/// The directory of the workspace's `Cargo.toml`.
#[must_use]
pub fn workspace_dir() -> &'static Path {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).unwrap_or(crate_dir)
}
