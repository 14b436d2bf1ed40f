//! `cargo xtask build`: what is shipped, in `target/dist`.

use std::{collections::BTreeSet, env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use testbed::{target_dir, workspace_dir};
use wasmparser::{ExternalKind, Parser, Payload};

/// Where the artifacts stand.
pub(crate) struct Built {
    /// The WASM filter, the same bytes from the same sources.
    pub(crate) wasm: PathBuf,
    /// The Lua filter with an example policy.
    pub(crate) lua: PathBuf,
}

/// Builds everything.
pub(crate) fn run() -> Result<Built> {
    let target = target_dir();
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            "wasm",
            "--package",
            "wasm-filter",
            "--target",
            WASM_TARGET,
        ])
        .env("CARGO_ENCODED_RUSTFLAGS", remapped_paths()?)
        .current_dir(workspace_dir())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the WASM filter does not build (see above)");
    let built = target.join(WASM_TARGET).join("wasm").join("wasm_filter.wasm");
    let bytes = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    check(&bytes)?;
    let dist = target.join("dist");
    fs::create_dir_all(&dist)?;
    let wasm = dist.join("routing-claims.wasm");
    fs::write(&wasm, bytes).with_context(|| format!("writing {}", wasm.display()))?;
    let lua = dist.join("routing-claims.lua");
    fs::write(&lua, lua_filter::EXAMPLE).with_context(|| format!("writing {}", lua.display()))?;
    Ok(Built { wasm, lua })
}

/// Compiler flags under which no path of this machine gets into the module.
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
const MAX_WASM_BYTES: usize = 100 * 1024;

const CALLBACKS: [&str; 7] = [
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_memory_allocate",
    "proxy_on_request_headers",
    "proxy_on_vm_start",
];
