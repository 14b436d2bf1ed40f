//! The WASM module that ships: without the exports of the SDK that the filter does not need.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use walrus::{Module, ModuleConfig};

/// Prunes and checks the module that cargo built, and writes it.
pub(super) fn ship(built: &Path, to: &Path) -> Result<()> {
    let built = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    let module = prune(&built)?;
    check(&module)?;
    fs::write(to, module).with_context(|| format!("cannot write {}", to.display()))
}

/// Removes each export that is not in [`EXPORTS`], and then the code that became unreachable. The SDK exports every callback
/// of the ABI, and Envoy calls each one that it finds, for every request.
fn prune(built: &[u8]) -> Result<Vec<u8>> {
    let mut module = parse(built)?;
    let unneeded: Vec<_> =
        module.exports.iter().filter(|export| !EXPORTS.contains(&&*export.name)).map(walrus::Export::id).collect();
    for export in unneeded {
        module.exports.delete(export);
    }
    walrus::passes::gc::run(&mut module);
    Ok(module.emit_wasm())
}

/// Checks the size of the module, that it exports exactly what the filter needs, and that it imports only functions of the
/// proxy's ABI.
fn check(bytes: &[u8]) -> Result<()> {
    ensure!(bytes.len() <= MAX_BYTES, "the WASM filter has {} bytes, at most {MAX_BYTES} are allowed", bytes.len());
    let module = parse(bytes)?;
    let exports: BTreeSet<_> = module.exports.iter().map(|export| &*export.name).collect();
    let expected = BTreeSet::from(EXPORTS);
    ensure!(exports == expected, "expected the WASM filter to export {expected:?}, found {exports:?}");
    for import in module.imports.iter() {
        let of_the_proxy = import.module == "env" && import.name.starts_with("proxy_");
        ensure!(of_the_proxy, "the WASM filter imports `{}` of `{}`, which no proxy has", import.name, import.module);
    }
    Ok(())
}

/// Parses a module. Names and the list of tools are not written back, because the module from cargo contains neither.
fn parse(bytes: &[u8]) -> Result<Module> {
    let mut config = ModuleConfig::new();
    config.generate_name_section(false).generate_producers_section(false);
    config.parse(bytes).context("the WASM filter is not a valid module")
}

/// A Kubernetes object can contain the module in base64, as 253,336 bytes. A client-side `kubectl apply` copies the object into
/// one of its annotations, and all annotations together have at most 256 KiB (262,144 bytes).
const MAX_BYTES: usize = 190_000;

/// What Envoy needs of a filter that handles request headers; `malloc` is the SDK's name for `proxy_on_memory_allocate`.
const EXPORTS: [&str; 9] = [
    "_initialize",
    "malloc",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_request_headers",
    "proxy_on_vm_start",
];
