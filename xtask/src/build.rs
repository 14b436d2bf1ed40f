//! `cargo xtask build`: what is shipped, in `target/dist`.

mod sbom;

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};
use testbed::{target_dir, workspace_dir};
use wasmparser::{ExternalKind, Parser, Payload};

/// Builds what is shipped, or of it only the filters, and gives the paths: the WASM filter, the Lua filter with an example
/// policy, and the command line; a bill of materials of each that has dependencies; and the checksums of all of them. Each is
/// the same bytes from the same sources.
pub(crate) fn run(filters_only: bool) -> Result<Vec<PathBuf>> {
    let target = target_dir();
    let dist = target.join("dist");
    fs::create_dir_all(&dist)?;

    add_wasm_target()?;
    cargo_build(&["--profile", "wasm", "--package", "wasm-filter", "--target", WASM_TARGET])?;
    let wasm = ship(&target.join(WASM_TARGET).join("wasm/wasm_filter.wasm"), dist.join("routing-claims.wasm"))?;
    check(&fs::read(&wasm)?)?;
    let lua = ship(&workspace_dir().join("crates/lua-filter/src/routing-claims.lua"), dist.join("routing-claims.lua"))?;
    let mut shipped = vec![sbom::write(&wasm, "wasm-filter", Some(WASM_TARGET))?, wasm, lua];
    if !filters_only {
        cargo_build(&["--profile", "shipped", "--package", "manifest-gen"])?;
        let program = ship(&target.join("shipped/manifest-gen"), dist.join("manifest-gen"))?;
        shipped.extend([sbom::write(&program, "manifest-gen", None)?, program]);
    }
    shipped.sort();
    shipped.push(write_checksums(&shipped, dist.join("SHA256SUMS"))?);
    Ok(shipped)
}

/// For `sha256sum --check`.
fn write_checksums(files: &[PathBuf], to: PathBuf) -> Result<PathBuf> {
    let mut lines = String::new();
    for file in files {
        writeln!(lines, "{}  {}", sha256(file)?, file.file_name().unwrap_or_default().display())?;
    }
    fs::write(&to, lines).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(to)
}

/// In hexadecimal.
fn sha256(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(format!("{:x}", Sha256::digest(bytes)))
}

/// Has the standard library for WebAssembly at hand: rustup brings the targets of `rust-toolchain.toml` with a toolchain that it
/// installs, and adds none to one that was there before.
pub(crate) fn add_wasm_target() -> Result<()> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM_TARGET])
        .current_dir(workspace_dir())
        .output()
        .context("cannot start rustc")?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(());
    }
    eprintln!("adding the target {WASM_TARGET} by rustup");
    let status = Command::new("rustup").args(["target", "add", WASM_TARGET]).current_dir(workspace_dir()).status();
    ensure!(
        status.is_ok_and(|status| status.success()),
        "the Rust target {WASM_TARGET} is missing: install it, with rustup by `rustup target add {WASM_TARGET}`"
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

/// Compiler flags under which no path of this machine gets into what is built.
fn remapped_paths() -> Result<String> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor a home folder is known")?;
    let flags = [(cargo_home.as_path(), "/cargo"), (workspace_dir(), "/routing-claims")]
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    Ok(flags.join("\u{1f}"))
}

/// Checks what must hold of the module: its size, and that it exports what the filter needs and nothing else, since Envoy
/// calls every callback that it finds, for each request.
fn check(module: &[u8]) -> Result<()> {
    ensure!(
        module.len() <= MAX_WASM_BYTES,
        "the WASM filter has {} bytes, at most {MAX_WASM_BYTES} are allowed",
        module.len()
    );
    let mut functions = BTreeSet::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ExportSection(exports) = payload? {
            for export in exports {
                let export = export?;
                if export.kind == ExternalKind::Func {
                    functions.insert(export.name);
                }
            }
        }
    }
    let wanted = BTreeSet::from(CALLBACKS);
    ensure!(functions == wanted, "the WASM filter exports {functions:?}, wanted are {wanted:?}");
    Ok(())
}

pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// A Kubernetes object may hold the module in base64, twice over where `kubectl apply` keeps a copy of 256 KiB at most.
const MAX_WASM_BYTES: usize = 100_000;

const CALLBACKS: [&str; 7] = [
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_memory_allocate",
    "proxy_on_request_headers",
    "proxy_on_vm_start",
];
