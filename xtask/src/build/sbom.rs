//! Bills of materials of the artifacts, as `CycloneDX` 1.6 (ECMA-424).
//!
//! A bill contains no time, serial number or path of the machine, so the same sources give the same bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::workspace_dir;

/// Writes the bill of a file that was built from a package, next to that file.
pub(super) fn write(shipped: &Path, package: &str, target: Option<&str>) -> Result<PathBuf> {
    let name = shipped.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sha256 = super::sha256(shipped)?;
    let tree = tree(package, target)?;
    let bill = bill(&name, &sha256, &read(&tree)?, &checksums()?, &rust_version()?)?;
    let path = shipped.with_file_name(format!("{name}.cdx.json"));
    fs::write(&path, format!("{bill:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// A package that the file is built from.
#[derive(Debug, Default, PartialEq)]
struct Package {
    name: String,
    version: String,
    license: String,
    /// Whether it runs only in the compiler: a macro, or a dependency of macros only.
    build_only: bool,
    needs: BTreeSet<String>,
}

/// Packages by package URL. The first is the root.
fn read(tree: &str) -> Result<(String, BTreeMap<String, Package>)> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    // The path from the root to the current line.
    let mut path: Vec<(String, bool)> = Vec::new();
    for line in tree.lines() {
        let mut fields = line.split('\t');
        let [Some(depth), Some(package), Some(license)] = [fields.next(), fields.next(), fields.next()] else {
            anyhow::bail!("cargo tree prints {line:?}");
        };
        let [name, version] = package.split(' ').take(2).collect::<Vec<_>>()[..] else {
            anyhow::bail!("cargo tree prints {package:?}");
        };
        path.truncate(depth.parse()?);
        let version = version.trim_start_matches('v');
        let id = format!("pkg:cargo/{name}@{version}");
        let parent = path.last();
        let build_only = parent.is_some_and(|(_, build_only)| *build_only) || package.contains("(proc-macro)");
        if let Some((parent, _)) = parent {
            packages.entry(parent.clone()).or_default().needs.insert(id.clone());
        }
        let known = packages.entry(id.clone()).or_insert_with(|| Package { build_only, ..Package::default() });
        known.build_only &= build_only;
        // Old crates write `MIT/Apache-2.0`.
        (known.name, known.version, known.license) = (name.into(), version.into(), license.replace('/', " OR "));
        path.push((id, build_only));
    }
    let (root, _) = path.into_iter().next().context("cargo tree prints nothing")?;
    Ok((root, packages))
}

fn bill(
    file: &str,
    sha256: &str,
    (root, packages): &(String, BTreeMap<String, Package>),
    checksums: &BTreeMap<(String, String), String>,
    rust_version: &str,
) -> Result<Value> {
    let rust = format!("pkg:generic/rust@{rust_version}");
    let mut components = vec![json!({
        "type": "library", "bom-ref": rust, "name": "rust", "version": rust_version, "purl": rust,
        "description": "the standard library",
    })];
    let mut dependencies = vec![json!({"ref": rust, "dependsOn": []})];
    for (id, package) in packages {
        let mut needs = package.needs.clone();
        if id == root {
            needs.insert(rust.clone());
        } else {
            components.push(package.component(id, checksums)?);
        }
        dependencies.push(json!({"ref": id, "dependsOn": needs}));
    }
    let package = packages.get(root).context("the root is a package")?;
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {
            "type": "application",
            "bom-ref": root,
            "name": file,
            "version": package.version,
            "licenses": [{"expression": package.license}],
            "hashes": [{"alg": "SHA-256", "content": sha256}],
        }},
        "components": components,
        "dependencies": dependencies,
    }))
}

impl Package {
    fn component(&self, id: &str, checksums: &BTreeMap<(String, String), String>) -> Result<Value> {
        let Self { name, version, license, build_only, .. } = self;
        ensure!(!license.is_empty(), "{name} {version} names no license");
        let mut component = json!({
            "type": "library", "bom-ref": id, "name": name, "version": version, "purl": id,
            "licenses": [{"expression": license}],
            "scope": if *build_only { "excluded" } else { "required" },
        });
        // The workspace's own crates have none.
        if let Some(checksum) = checksums.get(&(name.clone(), version.clone())) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        Ok(component)
    }
}

/// The lines of `cargo tree` for a package, including repeated packages.
fn tree(package: &str, target: Option<&str>) -> Result<String> {
    let mut arguments = vec!["tree", "--locked", "--package", package, "--edges", "normal", "--no-dedupe"];
    arguments.extend(["--prefix", "depth", "--format", "\t{p}\t{l}"]);
    arguments.extend(target.iter().flat_map(|target| ["--target", target]));
    run(env!("CARGO"), &arguments)
}

/// The SHA-256 of each archive in the registry, by name and version.
fn checksums() -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = fs::read_to_string(workspace_dir().join("Cargo.lock"))?.parse().context("in Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock lists packages")?;
    let text = |package: &toml::Value, key| Some(package.get(key)?.as_str()?.to_owned());
    let checksum = |package| Some(((text(package, "name")?, text(package, "version")?), text(package, "checksum")?));
    Ok(packages.iter().filter_map(checksum).collect())
}

fn rust_version() -> Result<String> {
    let text = run("rustc", &["-vV"])?;
    let release = text.lines().find_map(|line| line.strip_prefix("release: "));
    Ok(release.context("`rustc -vV` names no release")?.to_owned())
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).current_dir(workspace_dir()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let failed = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{program} {}` failed: {failed}", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0\ta v0.1.0 (/home/a)\tMIT
1\tb v1.0.0\tMIT/Apache-2.0
2\tc v2.0.0\tMIT
1\tm v3.0.0 (proc-macro)\tMIT
2\tc v2.0.0\tMIT
2\td v4.0.0\tMIT
";

    #[test]
    fn a_bill_holds_every_package_once_and_no_path() {
        let (root, packages) = read(TREE).unwrap();
        assert_eq!(root, "pkg:cargo/a@0.1.0");
        let build_only: Vec<_> = packages.values().filter(|one| one.build_only).map(|one| &*one.name).collect();
        assert_eq!(build_only, ["d", "m"]);
        let checksums = BTreeMap::from([(("b".to_owned(), "1.0.0".to_owned()), "5e".to_owned())]);
        let bill = bill("a.wasm", "ab", &(root, packages), &checksums, "1.95.0").unwrap();
        let find = |name| bill["components"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(find("b")["hashes"][0]["content"], "5e");
        assert_eq!(find("b")["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!((&find("c")["scope"], &find("d")["scope"]), (&json!("required"), &json!("excluded")));
        assert_eq!(bill["components"].as_array().unwrap().len(), 5);
        let needs = json!({"ref": "pkg:cargo/m@3.0.0", "dependsOn": ["pkg:cargo/c@2.0.0", "pkg:cargo/d@4.0.0"]});
        assert!(bill["dependencies"].as_array().unwrap().contains(&needs));
        assert!(!bill.to_string().contains("/home"));
    }
}
