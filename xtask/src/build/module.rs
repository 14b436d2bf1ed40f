//! The native Envoy module that ships: a shared library for each architecture.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use object::{
    Endianness, elf,
    read::elf::{Dyn as _, ElfFile64, FileHeader as _, Sym as _},
};
use testbed::target_dir;

use super::{add_target, cross::CrossTool, remapped_paths, sha256};

/// The architectures of Envoy's and Istio's images.
pub(super) const ALL: [&str; 2] = ["x86_64", "aarch64"];

/// This machine's.
pub(super) const HOST: &str = env::consts::ARCH;

/// Builds the module for these architectures, checks it and writes it to `dist`, with a hash of its contents in its name. Envoy
/// finds a loaded library by its path, so two versions of the module must never have the same name.
///
/// Without the cross tool, it builds only for this machine, and says so.
pub(super) async fn ship(dist: &Path, architectures: &[&'static str]) -> Result<Vec<(PathBuf, String)>> {
    for entry in fs::read_dir(dist)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    let tool = CrossTool::install().await;
    if let Err(error) = &tool {
        eprintln!(
            "building the native module only for this machine and its version of glibc, because cargo-zigbuild is missing: {error:#}"
        );
    }
    let mut shipped = Vec::new();
    for architecture in architectures.iter().filter(|architecture| tool.is_ok() || **architecture == HOST) {
        let target = format!("{architecture}-unknown-linux-gnu");
        add_target(&target)?;
        build(tool.as_ref().ok(), &target)?;
        let built = target_dir().join(&target).join("module/libmodule_filter.so");
        let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        check(&bytes, tool.is_ok()).with_context(|| format!("the module for {architecture}"))?;
        let hash = sha256(&built)?;
        let file = dist.join(format!("{PREFIX}{architecture}-{}.so", hash.get(..HASH_DIGITS).unwrap_or(&hash)));
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        shipped.push((file, target));
    }
    Ok(shipped)
}

fn build(tool: Option<&CrossTool>, target: &str) -> Result<()> {
    let mut command = if let Some(tool) = tool {
        tool.cargo(&["rustc", "--target", &format!("{target}.{GLIBC}")])?
    } else {
        let mut command = Command::new(env!("CARGO"));
        command.args(["rustc", "--target", target]);
        command
    };
    // Only the shared library: cargo does not optimize across crates if it builds the library for tests too.
    command.args(["--quiet", "--locked", "--profile", "module", "--package", "module-filter", "--lib"]);
    command.args(["--crate-type", "cdylib"]).env("CARGO_ENCODED_RUSTFLAGS", remapped_paths()?);
    let status = command.current_dir(testbed::workspace_dir()).status().context("cannot start cargo")?;
    ensure!(status.success(), "the native module does not build for {target} (see above)");
    Ok(())
}

/// Checks that the module exports exactly the hooks of [`HOOKS`], and imports only the functions of [`CALLBACKS`] and of the C
/// library. If `portable`, it must run with [`GLIBC`] and without `libgcc_s`, which Envoy's images do not contain.
fn check(bytes: &[u8], portable: bool) -> Result<()> {
    let file = ElfFile64::<Endianness>::parse(bytes).context("not an ELF file of 64 bits")?;
    let endian = file.endian();
    let (symbols, sections) = (file.elf_dynamic_symbol_table(), file.elf_section_table());
    let versions = sections.versions(endian, bytes)?.context("the symbols have no versions")?;
    let (mut exports, mut imports) = (BTreeSet::new(), BTreeSet::new());
    for (index, symbol) in symbols.enumerate() {
        let name = String::from_utf8(symbol.name(endian, symbols.strings())?.to_owned())?;
        if !symbol.is_undefined(endian) {
            exports.insert(name);
            continue;
        }
        let version = versions.version(versions.version_index(endian, index))?;
        match version.map(|version| String::from_utf8_lossy(version.name()).into_owned()) {
            Some(version) => ensure!(
                !portable || is_at_most(&version, GLIBC),
                "it needs `{name}` of {version}, newer than glibc {GLIBC}"
            ),
            // A weak function may be missing.
            None if symbol.st_bind() == elf::STB_WEAK || name.is_empty() => (),
            None => {
                imports.insert(name);
            }
        }
    }
    let named = |names: &[&str], prefix| names.iter().map(|name| format!("{prefix}{name}")).collect::<BTreeSet<_>>();
    let hooks = named(&HOOKS, "envoy_dynamic_module_on_");
    ensure!(exports == hooks, "expected the exports {hooks:?}, found {exports:?}");
    let callbacks = named(&CALLBACKS, "envoy_dynamic_module_callback_");
    ensure!(imports == callbacks, "expected the imports {callbacks:?}, found {imports:?}");
    for library in needed(&file, bytes)? {
        let is_libc = LIBRARIES.iter().any(|name| library.starts_with(name));
        ensure!(!portable || is_libc, "it needs {library}, which Envoy's images do not have");
    }
    Ok(())
}

/// The shared libraries that a library needs.
fn needed(file: &ElfFile64<'_, Endianness>, bytes: &[u8]) -> Result<Vec<String>> {
    let (endian, header) = (file.endian(), file.elf_header());
    let sections = header.sections(endian, bytes)?;
    let (entries, strings) = sections.dynamic(endian, bytes)?.context("no dynamic section")?;
    let strings = sections.strings(endian, bytes, strings)?;
    let needed = entries.iter().filter(|entry| entry.d_tag(endian) == elf::DT_NEEDED);
    needed.map(|entry| Ok(String::from_utf8(entry.string(endian, strings)?.to_owned())?)).collect()
}

/// Whether a version such as `GLIBC_2.3.4` is at most this one.
fn is_at_most(version: &str, limit: &str) -> bool {
    let numbers = |text: &str| text.split('.').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>().ok();
    let version = version.strip_prefix("GLIBC_").and_then(numbers);
    version.is_some_and(|version| Some(version) <= numbers(limit))
}

/// The module's name without `lib` and `.so` is what Envoy's field `name` takes.
const PREFIX: &str = "librouting-claims-";

/// Digits of the hash in the name: 48 bits.
const HASH_DIGITS: usize = 12;

/// The oldest C library that the module runs with: that of RHEL 7, and the oldest that Rust supports. Envoy 1.40 itself needs a
/// newer one.
const GLIBC: &str = "2.17";

/// The C library in its parts, as it was before glibc 2.34.
const LIBRARIES: [&str; 4] = ["libc.so.", "ld-linux-", "libpthread.so.", "libdl.so."];

/// What Envoy needs of a module with an HTTP filter, without `envoy_dynamic_module_on_`.
const HOOKS: [&str; 21] = [
    "http_filter_config_destroy",
    "http_filter_config_new",
    "http_filter_destroy",
    "http_filter_downstream_above_write_buffer_high_watermark",
    "http_filter_downstream_below_write_buffer_low_watermark",
    "http_filter_http_callout_done",
    "http_filter_http_stream_complete",
    "http_filter_http_stream_data",
    "http_filter_http_stream_headers",
    "http_filter_http_stream_reset",
    "http_filter_http_stream_trailers",
    "http_filter_new",
    "http_filter_request_body",
    "http_filter_request_headers",
    "http_filter_request_trailers",
    "http_filter_response_body",
    "http_filter_response_headers",
    "http_filter_response_trailers",
    "http_filter_scheduled",
    "http_filter_stream_complete",
    "program_init",
];

/// What the filter calls, without `envoy_dynamic_module_callback_`.
const CALLBACKS: [&str; 10] = [
    "get_concurrency",
    "http_clear_route_cache",
    "http_filter_config_define_counter",
    "http_filter_get_worker_index",
    "http_filter_increment_counter",
    "http_get_headers",
    "http_get_headers_size",
    "http_send_response",
    "http_set_header",
    "log",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for version in ["GLIBC_2.2.5", "GLIBC_2.3.4", "GLIBC_2.17"] {
            assert!(is_at_most(version, GLIBC), "{version}");
        }
        for version in ["GLIBC_2.18", "GLIBC_2.17.1", "GLIBC_3.0", "GCC_3.0"] {
            assert!(!is_at_most(version, GLIBC), "{version}");
        }
    }
}
