//! `cargo xtask package` in folders with stand-ins for what is built.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

/// Neither the folder nor the order, the age and the owner of its files are part of the bytes.
#[test]
fn two_folders_give_the_same_digests() {
    let mut reversed = FILES;
    reversed.reverse();
    let (one, other) = (built(&FILES), built(&reversed));
    let old = SystemTime::now() - Duration::from_secs(86_400);
    for (name, _) in FILES {
        File::options().write(true).open(other.path().join(name)).unwrap().set_modified(old).unwrap();
    }
    for folder in [&one, &other] {
        let output = package(folder.path(), &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let digests = fs::read_to_string(one.path().join("images/DIGESTS")).unwrap();
    let names: Vec<_> = digests.lines().filter_map(|line| line.split_once("@sha256:")).map(|(name, _)| name).collect();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(names, [format!("routing-claims:{version}"), format!("manifest-gen:{version}")]);
    assert_eq!(digests, fs::read_to_string(other.path().join("images/DIGESTS")).unwrap());
    assert_eq!(contents(one.path()), contents(other.path()));
}

/// The controller has an image if it was built. Without it, the image of an earlier build goes.
#[test]
fn the_controller_is_packed_if_it_was_built() {
    let folder = built(&FILES);
    let controller = ["routing-claims-controller", "routing-claims-controller.cdx.json"];
    for name in controller {
        fs::write(folder.path().join(name), "{}").unwrap();
    }
    let image = folder.path().join("images/routing-claims-controller");
    let digests = || fs::read_to_string(folder.path().join("images/DIGESTS")).unwrap();
    assert!(package(folder.path(), &[]).status.success());
    assert!(image.join("index.json").is_file() && digests().contains("routing-claims-controller:"));
    for name in controller {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    let output = package(folder.path(), &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("leaving out the controller"));
    assert!(!image.exists() && !digests().contains("routing-claims-controller:"));
}

#[test]
fn an_error_says_what_to_do() {
    let folder = built(&FILES);
    for (registry, expected) in [
        ("127.0.0.1:1", "error: cannot reach the registry 127.0.0.1:1: Connection refused"),
        ("127.0.0.1:", "error: expected a registry such as `127.0.0.1:5000` or `ghcr.io/you`, found `127.0.0.1:`"),
    ] {
        let output = package(folder.path(), &["--push", registry]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(expected), "expected {expected}, found {errors}");
    }
}

fn package(dist: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_package"));
    // Without the user's logins.
    command.arg("--dist").arg(dist).args(arguments).env("DOCKER_CONFIG", dist).output().unwrap()
}

fn built(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// The files below a folder, by path.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = PathBuf::from(path.file_name().unwrap());
        if path.is_dir() {
            files.extend(contents(&path).into_iter().map(|(below, bytes)| (name.join(below), bytes)));
        } else {
            files.insert(name, fs::read(path).unwrap());
        }
    }
    files
}

const FILES: [(&str, &str); 7] = [
    ("SHA256SUMS", ""),
    ("routing-claims.wasm", "\0asm\x01\0\0\0"),
    ("routing-claims.wasm.cdx.json", "{}"),
    ("manifest-gen", "of this machine"),
    ("manifest-gen.cdx.json", "{}"),
    ("manifest-gen-s390x-unknown-none", "of another system"),
    ("manifest-gen-s390x-unknown-none.cdx.json", "{}"),
];
