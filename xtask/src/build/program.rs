//! `manifest-gen` for Linux and macOS, and the controller for Linux.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use object::{
    Endianness, elf,
    read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _},
};
use testbed::{program_target, target_dir, workspace_dir};

use super::{add_target, cross::CrossTool, remapped_paths, ship};

/// A program that ships.
pub(super) struct Program {
    name: &'static str,
    pub(super) package: &'static str,
    /// Whether it runs only in a cluster, on Linux.
    only_linux: bool,
    /// Whether a dependency contains C, which zig compiles: its bytes do not depend on the machine's C compiler either.
    has_c: bool,
}

/// The CLI.
pub(super) const MANIFEST_GEN: Program =
    Program { name: "manifest-gen", package: "manifest-gen", only_linux: false, has_c: false };
/// The controller. Its TLS is that of the crate `ring`.
pub(super) const CONTROLLER: Program =
    Program { name: "routing-claims-controller", package: "controller", only_linux: true, has_c: true };

impl Program {
    /// Builds the program for this machine, or for [`ALL`] platforms, into `dist`. Those for other machines have their target in
    /// the name. Returns each with its target.
    pub(super) async fn ship_all(&self, dist: &Path, all_platforms: bool) -> Result<Vec<(PathBuf, String)>> {
        let host = program_target();
        let mut shipped = Vec::new();
        for target in self.targets(all_platforms) {
            if all_platforms {
                eprintln!("building {} for {target}", self.name);
            }
            add_target(&target)?;
            self.build(&target, target == host).await?;
            let built = target_dir().join(&target).join("shipped").join(self.name);
            if is_linux(&target) {
                check_static(&fs::read(&built)?).with_context(|| format!("{} for {target}", self.name))?;
            }
            let name = if target == host { self.name.to_owned() } else { format!("{}-{target}", self.name) };
            shipped.push((ship(&built, dist.join(name))?, target));
        }
        Ok(shipped)
    }

    /// Removes what an earlier build wrote: the program for each platform, its bills of materials, and its archives.
    pub(super) fn remove(&self, dist: &Path) -> Result<()> {
        for entry in fs::read_dir(dist)? {
            let path = entry?.path();
            let is_own = |name: &str| {
                name.strip_prefix(self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
            };
            if path.file_name().is_some_and(|name| is_own(&name.to_string_lossy())) {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn targets(&self, all_platforms: bool) -> Vec<String> {
        let all = ALL.into_iter().filter(|target| !self.only_linux || is_linux(target)).map(str::to_owned);
        if all_platforms {
            all.collect()
        } else if self.only_linux {
            vec![format!("{}-unknown-linux-musl", env::consts::ARCH)]
        } else {
            vec![program_target()]
        }
    }

    async fn build(&self, target: &str, is_host: bool) -> Result<()> {
        let mut command = if !self.has_c && (is_linux(target) || is_host) {
            let mut command = Command::new(env!("CARGO"));
            command.arg("build");
            command
        } else {
            // For macOS, rustc warns that Apple's SDK is missing. Zig has what the linker needs.
            let tool = CrossTool::install().await;
            tool.with_context(|| format!("{} for {target} needs cargo-zigbuild", self.name))?.cargo(&["zigbuild"])?
        };
        let mut flags = remapped_paths()?;
        if is_linux(target) {
            // Rust has its own linker and musl for these targets, so the bytes do not depend on the machine's C compiler.
            flags.push_str("\u{1f}-Clinker=rust-lld");
        }
        command.args(["--quiet", "--locked", "--profile", "shipped", "--package", self.package, "--target", target]);
        command.env("CARGO_ENCODED_RUSTFLAGS", flags).current_dir(workspace_dir());
        let status = command.status().context("cannot start cargo")?;
        ensure!(status.success(), "{} does not build for {target} (see above)", self.name);
        Ok(())
    }
}

fn is_linux(target: &str) -> bool {
    target.contains("-linux-")
}

/// Checks that a program needs no other file to run.
fn check_static(bytes: &[u8]) -> Result<()> {
    let file = ElfFile64::<Endianness>::parse(bytes).context("not an ELF file of 64 bits")?;
    let endian = file.endian();
    let segments = file.elf_header().program_headers(endian, bytes)?;
    let is_dynamic = segments.iter().any(|segment| segment.p_type(endian) == elf::PT_INTERP);
    ensure!(!is_dynamic, "it is linked dynamically");
    Ok(())
}

/// The platforms of a release.
const ALL: [&str; 4] =
    ["aarch64-apple-darwin", "aarch64-unknown-linux-musl", "x86_64-apple-darwin", "x86_64-unknown-linux-musl"];

#[cfg(test)]
mod tests {
    use super::*;

    /// The test itself is linked dynamically, unless it is built for musl.
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn a_dynamic_program_is_refused() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(check_static(&this).unwrap_err().to_string().contains("dynamically"));
    }
}
