//! `cargo xtask build`: builds the artifacts that ship, into `target/dist`.

mod cross;
mod module;
mod program;
mod sbom;
mod wasm;

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};
use testbed::{target_dir, workspace_dir};

use program::{CONTROLLER, MANIFEST_GEN};

/// What to build.
#[derive(Clone, Copy, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Args {
    /// Build only the filters, not `manifest-gen`, and the native module only for this machine.
    #[arg(long)]
    filters: bool,
    /// Build only the native module, for each architecture.
    #[arg(long, conflicts_with = "filters")]
    module: bool,
    /// Also build the controller, which takes minutes.
    #[arg(long, conflicts_with_all = ["filters", "module"])]
    controller: bool,
    /// Build the programs also for the other platforms: Linux on `x86_64` and `aarch64`, and `manifest-gen` for macOS too.
    #[arg(long, conflicts_with_all = ["filters", "module"])]
    all_platforms: bool,
}

/// Builds the artifacts that ship and returns their paths: the WASM filter, the native Envoy module, the Lua filter with an
/// example policy, the CLI and the controller, a bill of materials for each artifact that has dependencies, and the checksums. The same sources
/// always give the same bytes.
pub(crate) async fn run(args: Args) -> Result<Vec<PathBuf>> {
    let target = target_dir();
    let dist = target.join("dist");
    fs::create_dir_all(&dist)?;

    let architectures: &[_] = if args.filters { &[module::HOST] } else { &module::ALL };
    let mut shipped = Vec::new();
    for (file, target) in module::ship(&dist, architectures).await? {
        shipped.extend([sbom::write(&file, "module-filter", Some(&target))?, file]);
    }
    if !args.module {
        add_target(WASM_TARGET)?;
        cargo_build(&["--profile", "wasm", "--package", "wasm-filter", "--target", WASM_TARGET])?;
        let wasm = dist.join("routing-claims.wasm");
        wasm::ship(&target.join(WASM_TARGET).join("wasm/wasm_filter.wasm"), &wasm)?;
        let lua =
            ship(&workspace_dir().join("crates/lua-filter/src/routing-claims.lua"), dist.join("routing-claims.lua"))?;
        shipped.extend([sbom::write(&wasm, "wasm-filter", Some(WASM_TARGET))?, wasm, lua]);
    }
    if !args.filters && !args.module {
        for (program, is_wanted) in [(&MANIFEST_GEN, true), (&CONTROLLER, args.controller)] {
            program.remove(&dist)?;
            let built = if is_wanted { program.ship_all(&dist, args.all_platforms).await? } else { Vec::new() };
            for (file, target) in built {
                shipped.extend([sbom::write(&file, program.package, Some(&target))?, file]);
            }
        }
    }
    shipped.sort();
    shipped.push(write_checksums(&shipped, dist.join("SHA256SUMS"))?);
    Ok(shipped)
}

/// The checksums, in the format of `sha256sum --check`.
fn write_checksums(files: &[PathBuf], to: PathBuf) -> Result<PathBuf> {
    let mut lines = String::new();
    for file in files {
        writeln!(lines, "{}  {}", sha256(file)?, file.file_name().unwrap_or_default().display())?;
    }
    fs::write(&to, lines).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(to)
}

/// The SHA-256 in hexadecimal.
fn sha256(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(format!("{:x}", Sha256::digest(bytes)))
}

/// Installs the standard library of a target. rustup installs the targets of `rust-toolchain.toml` together with a new
/// toolchain, but does not add them to an existing one.
pub(crate) fn add_target(target: &str) -> Result<()> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(workspace_dir())
        .output()
        .context("cannot start rustc")?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(());
    }
    eprintln!("adding the target {target} by rustup");
    let status = Command::new("rustup").args(["target", "add", target]).current_dir(workspace_dir()).status();
    ensure!(
        status.is_ok_and(|status| status.success()),
        "the Rust target {target} is missing: install it, with rustup by `rustup target add {target}`"
    );
    Ok(())
}

fn ship(from: &Path, to: PathBuf) -> Result<PathBuf> {
    fs::copy(from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(to)
}

fn cargo_build(arguments: &[&str]) -> Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked"])
        .args(arguments)
        .env("CARGO_ENCODED_RUSTFLAGS", remapped_paths()?)
        .current_dir(workspace_dir())
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "`cargo build {}` failed (see above)", arguments.join(" "));
    Ok(())
}

/// Compiler flags that keep paths of this machine and the address of its registry out of the artifacts.
fn remapped_paths() -> Result<String> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor a home folder is known")?;
    let mut paths = vec![(cargo_home.clone(), "/cargo"), (workspace_dir().to_owned(), "/routing-claims")];
    // The last path that matches counts. Cargo creates the folder when it first needs a registry.
    if let Ok(registries) = fs::read_dir(cargo_home.join("registry/src")) {
        for registry in registries {
            paths.push((registry?.path(), "/cargo/registry"));
        }
    }
    let flags: Vec<_> = paths.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
    Ok(flags.join("\u{1f}"))
}

pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";
