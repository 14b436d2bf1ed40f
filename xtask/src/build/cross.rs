//! cargo-zigbuild, which links for other systems, other architectures and old versions of glibc.

use std::{env, path::PathBuf, process::Command};

use anyhow::Result;
use testbed::{target_dir, venv};

/// The virtual environment that contains it and zig.
pub(super) struct CrossTool(PathBuf);

impl CrossTool {
    /// Installs it from `PyPI` under the target directory, unless it is there.
    pub(super) async fn install() -> Result<Self> {
        let tools = target_dir().join("tools");
        let home = tools.join(format!("zigbuild-{CARGO_ZIGBUILD}-{ZIG}"));
        let _lock = venv::lock(&tools.join("zigbuild.lock")).await?;
        if !home.exists() {
            eprintln!(
                "installing cargo-zigbuild {CARGO_ZIGBUILD} and zig {ZIG} (90 MB) from PyPI into {}",
                home.display()
            );
            let packages = [format!("cargo-zigbuild=={CARGO_ZIGBUILD}"), format!("ziglang=={ZIG}")];
            let path = env::var_os("PATH").unwrap_or_default();
            venv::install(&path, &home, &packages.each_ref().map(String::as_str), async |_| Ok(())).await?;
        }
        Ok(Self(home))
    }

    /// A cargo command whose linker is zig.
    pub(super) fn cargo(&self, arguments: &[&str]) -> Result<Command> {
        let bin = self.0.join("bin");
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([bin.clone()].into_iter().chain(env::split_paths(&path)))?;
        let cache = target_dir().join("tools/zig-cache");
        let mut command = Command::new(bin.join("cargo-zigbuild"));
        command.args(arguments).env("PATH", path);
        command.env("CARGO_ZIGBUILD_CACHE_DIR", &cache).env("ZIG_GLOBAL_CACHE_DIR", &cache);
        Ok(command)
    }
}

const CARGO_ZIGBUILD: &str = "0.24.1";
const ZIG: &str = "0.16.0";
