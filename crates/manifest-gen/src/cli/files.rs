//! Files in and out.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Result;
use routing_plan::{
    model::{self, Expiry, Mesh},
    plan,
    problem::Problem,
    render,
    yaml::File,
};

/// Reads what `-f` names: files, the YAML files of folders, `-` for stdin.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Arc<File>>> {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        match read_one(path) {
            Ok(found) => files.extend(found),
            Err(error) => problems.push(Problem::new(format!("can't read {}: {error}", path.display()))),
        }
    }
    // A file that was named twice, perhaps once by its folder, counts once.
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files.dedup_by(|a, b| a.name == b.name);
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

/// Reads a plan with its fragments, and the files that it names.
pub(super) fn mesh(paths: &[PathBuf], expiry: Expiry) -> Result<Mesh> {
    mesh_of(&read(paths)?, expiry)
}

/// As [`mesh`], of files that are read.
pub(super) fn mesh_of(files: &[Arc<File>], expiry: Expiry) -> Result<Mesh> {
    let input = plan::read(files)?;
    let plan = Path::new(&input.plan.node.place.file.name);
    let folder = plan.parent().unwrap_or(Path::new(""));
    model::build(&input, expiry, &|path| fs::read(folder.join(path)))
}

/// Makes a folder hold these files: writes what differs, removes what an earlier run for the plan wrote and this one
/// does not. Says what it did.
pub(super) fn write(folder: &Path, plan: &str, wanted: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let failed =
        |path: &Path, error: &io::Error| vec![Problem::new(format!("can't write {}: {error}", path.display()))];
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let found = existing(folder, plan, wanted)?;
    let foreign: Vec<_> = wanted
        .keys()
        .filter(|name| found.get(*name).is_some_and(|text| !render::is_own(text, plan)))
        .map(|name| {
            let path = folder.join(name);
            Problem::new(format!("{} is in the way: it was not written for the plan `{plan}`", path.display()))
                .help("remove it, or write to another folder")
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

/// How a folder differs from what it should hold, as a unified diff.
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

/// The files of a folder that are wanted, or that were written for the plan.
fn existing(folder: &Path, plan: &str, wanted: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let failed = |error: io::Error| vec![Problem::new(format!("can't read {}: {error}", folder.display()))];
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

fn read_one(path: &Path) -> io::Result<Vec<Arc<File>>> {
    let file = |name: String, bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is no UTF-8"))?;
        Ok::<_, io::Error>(Arc::new(File { name, text }))
    };
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(vec![file("stdin".into(), bytes)?]);
    }
    let mut paths = vec![path.to_owned()];
    if path.is_dir() {
        paths = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        paths.retain(|path| is_yaml(path) && path.is_file());
    }
    paths.iter().map(|path| file(path.display().to_string(), fs::read(path)?)).collect()
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}
