//! Files in and out.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use routing_plan::resolve::{Expiry, ResolvedPlan};
use sha2::{Digest as _, Sha256};

use super::Result;
use crate::{diagnostic::FileDiagnostic, documents::Documents, kustomize::FILE_NAMES, render, yaml::File};

/// Reads what `-f` names: files, the YAML files of folders, stdin for `-`.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Arc<File>>> {
    let (files, diagnostics) = read_readable(paths);
    if diagnostics.is_empty() { Ok(files) } else { Err(diagnostics) }
}

/// As [`read`], without the files that can't be read.
pub(super) fn read_readable(paths: &[PathBuf]) -> (Vec<Arc<File>>, Vec<FileDiagnostic>) {
    let mut files = Vec::new();
    let mut diagnostics = Vec::new();
    let unreadable =
        |path: &Path, error: &io::Error| FileDiagnostic::new(format!("can't read {}: {error}", path.display()));
    for path in paths {
        let paths = files_of(path).unwrap_or_else(|error| {
            diagnostics.push(unreadable(path, &error));
            Vec::new()
        });
        for path in paths {
            match read_one(&path) {
                Ok(file) => files.push(file),
                Err(error) => diagnostics.push(unreadable(&path, &error)),
            }
        }
    }
    // A file that was named twice, such as by itself and by its folder, counts once.
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files.dedup_by(|a, b| a.name == b.name);
    (files, diagnostics)
}

/// Reads and resolves a plan with its variants and the files that it names.
pub(super) fn resolve(documents: &mut Documents, paths: &[PathBuf], expiry: Expiry) -> Result<ResolvedPlan> {
    resolve_files(documents, &read(paths)?, expiry)
}

/// As [`resolve`], from files that were read.
pub(super) fn resolve_files(documents: &mut Documents, files: &[Arc<File>], expiry: Expiry) -> Result<ResolvedPlan> {
    let input = documents.read_plan(files, &|path| fs::read(path))?;
    documents.resolve(&input, expiry)
}

/// The SHA-256 of a file, in hexadecimal.
pub(super) fn sha256(path: &Path) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(format!("{:x}", Sha256::digest(bytes))),
        Err(error) => Err(vec![FileDiagnostic::new(format!("can't read {}: {error}", path.display()))]),
    }
}

/// Makes a folder contain these files: writes those that differ, and removes files of earlier runs for the plan that are no
/// longer wanted. Returns what it did.
pub(super) fn write(folder: &Path, plan: &str, wanted: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let failed =
        |path: &Path, error: &io::Error| vec![FileDiagnostic::new(format!("can't write {}: {error}", path.display()))];
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let found = existing(folder, plan, wanted)?;
    let foreign: Vec<_> = wanted
        .keys()
        .filter(|name| found.get(*name).is_some_and(|text| !render::is_own(text, plan)))
        .map(|name| {
            let path = folder.join(name);
            FileDiagnostic::new(format!("can't overwrite {}: it does not belong to the plan `{plan}`", path.display()))
                .with_help("remove it, or choose another folder")
        })
        .collect();
    if !foreign.is_empty() {
        return Err(foreign);
    }
    let mut done = Vec::new();
    for (name, text) in wanted {
        if found.get(name) != Some(text) {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| failed(&path, &error))?;
            done.push(format!("wrote {}", path.display()));
        }
    }
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        let path = folder.join(name);
        fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
        done.push(format!("removed {}", path.display()));
    }
    Ok(done)
}

/// How a folder differs from what it should contain, as a unified diff.
pub(super) fn check(folder: &Path, plan: &str, wanted: &BTreeMap<String, String>) -> Result<String> {
    let found = if folder.exists() { existing(folder, plan, wanted)? } else { BTreeMap::new() };
    let mut names: Vec<_> = wanted.keys().chain(found.keys()).collect();
    names.sort();
    names.dedup();
    let diff = |name: &String| {
        let path = folder.join(name).display().to_string();
        render::unified_diff(&path, found.get(name).map(String::as_str), wanted.get(name).map(String::as_str))
    };
    Ok(names.into_iter().map(diff).collect())
}

/// The files of a folder that are wanted, or that belong to the plan.
fn existing(folder: &Path, plan: &str, wanted: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let failed = |error: io::Error| vec![FileDiagnostic::new(format!("can't read {}: {error}", folder.display()))];
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_yaml(&path) || !path.is_file() {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(&path).map_err(failed)?).into_owned();
        if wanted.contains_key(&name) || render::is_own(&text, plan) {
            found.insert(name, text);
        }
    }
    Ok(found)
}

/// The path itself, or the YAML files of a folder.
fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut paths: Vec<_> = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| is_yaml(path) && path.is_file());
    Ok(paths)
}

fn read_one(path: &Path) -> io::Result<Arc<File>> {
    let (name, bytes) = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        ("stdin".into(), bytes)
    } else {
        (path.display().to_string(), fs::read(path)?)
    };
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("the file is not valid UTF-8"))?;
    Ok(Arc::new(File { name, text }))
}

fn is_yaml(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    let is_kustomization = path.file_name().is_some_and(|name| FILE_NAMES.iter().any(|one| name == *one));
    extension == "yaml" || extension == "yml" || extension == "json" || is_kustomization
}
