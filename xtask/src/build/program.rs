//! `manifest-gen` for Linux and macOS.

use std::{
    fs,
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

/// Builds `manifest-gen` for this machine, or for [`ALL`] platforms, into `dist`. Those for other machines have their target in
/// the name. Returns each with its target.
pub(super) async fn ship_all(dist: &Path, all_platforms: bool) -> Result<Vec<(PathBuf, String)>> {
    for entry in fs::read_dir(dist)? {
        let path = entry?.path();
        // Of an earlier build: other platforms, and their archives.
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{NAME}-"))) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    let host = program_target();
    let others = ALL.into_iter().filter(|target| all_platforms && *target != host);
    let mut shipped = Vec::new();
    for target in [&*host].into_iter().chain(others) {
        if all_platforms {
            eprintln!("building {NAME} for {target}");
        }
        add_target(target)?;
        build(target, target == host).await?;
        let built = target_dir().join(target).join("shipped").join(NAME);
        if target.contains("-linux-") {
            check_static(&fs::read(&built)?).with_context(|| format!("{NAME} for {target}"))?;
        }
        let name = if target == host { NAME.to_owned() } else { format!("{NAME}-{target}") };
        shipped.push((ship(&built, dist.join(name))?, target.to_owned()));
    }
    Ok(shipped)
}

async fn build(target: &str, is_host: bool) -> Result<()> {
    let is_linux = target.contains("-linux-");
    let mut command = if is_linux || is_host {
        let mut command = Command::new(env!("CARGO"));
        command.arg("build");
        command
    } else {
        // rustc warns that Apple's SDK is missing. Zig has what the linker needs.
        let tool = CrossTool::install().await;
        tool.with_context(|| format!("{target} needs cargo-zigbuild, or a machine of that kind"))?
            .cargo(&["zigbuild"])?
    };
    let mut flags = remapped_paths()?;
    if is_linux {
        // Rust has its own linker and musl for these targets, so the bytes do not depend on the machine's C compiler.
        flags.push_str("\u{1f}-Clinker=rust-lld");
    }
    command.args(["--quiet", "--locked", "--profile", "shipped", "--package", NAME, "--target", target]);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags).current_dir(workspace_dir());
    let status = command.status().context("cannot start cargo")?;
    ensure!(status.success(), "{NAME} does not build for {target} (see above)");
    Ok(())
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

const NAME: &str = "manifest-gen";

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
