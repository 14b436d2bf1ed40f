//! What an image layout contains, read back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that meets the unexpected should panic")]

use std::{collections::BTreeMap, fs, io::Read as _, path::Path};

use flate2::read::GzDecoder;
use package::{
    archive::Entry,
    images::{self, Program},
    layout::{Layout, digest},
    release::Release,
};
use serde_json::{Value, json};

#[test]
fn the_module_is_an_image_with_one_file() {
    let layout = written(&images::module(&release(), WASM).unwrap());
    let [manifest] = layout.manifests() else { panic!("{:?}", layout.manifests()) };
    assert_eq!(manifest.annotations, Some([("org.opencontainers.image.ref.name".into(), "1.2.3".into())].into()));
    let [config, layer] = &layout.children(manifest).unwrap()[..] else { panic!("not one layer") };
    assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    let tar = unzipped(layout.bytes(layer).unwrap());
    assert_eq!(files(&tar), [("plugin.wasm".to_owned(), 0o644, WASM.to_vec())]);
    let config: Value = serde_json::from_slice(layout.bytes(config).unwrap()).unwrap();
    assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": [digest(&tar)]}));
    let manifest: Value = serde_json::from_slice(layout.bytes(manifest).unwrap()).unwrap();
    for (key, text) in [("version", "1.2.3"), ("revision", "c0ffee"), ("licenses", "Apache-2.0 OR MIT")] {
        assert_eq!(manifest["annotations"][format!("org.opencontainers.image.{key}")], text);
    }
    assert!(manifest["annotations"]["org.opencontainers.image.source"].is_string());
}

#[test]
fn manifest_gen_is_an_index_of_its_linux_platforms() {
    let layout = written(
        &images::program(&release(), &images::MANIFEST_GEN, &programs(), &[Entry::file("LICENSE", "free")]).unwrap(),
    );
    let platforms: Vec<_> =
        layout.children(&layout.manifests()[0]).unwrap().into_iter().map(|one| one.platform.unwrap()).collect();
    let names: Vec<_> = platforms.iter().map(|one| (&*one.os, &*one.architecture)).collect();
    assert_eq!(names, [("linux", "arm64"), ("linux", "amd64")]);
    let manifests = layout.children(&layout.manifests()[0]).unwrap();
    let [config, layer] = &layout.children(&manifests[1]).unwrap()[..] else { panic!("not one layer") };
    let config: Value = serde_json::from_slice(layout.bytes(config).unwrap()).unwrap();
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config["config"]["Entrypoint"], json!(["/manifest-gen"]));
    let found: BTreeMap<_, _> =
        files(&unzipped(layout.bytes(layer).unwrap())).into_iter().map(|(path, mode, _)| (path, mode)).collect();
    assert_eq!(
        found,
        [("LICENSE".to_owned(), 0o644), ("manifest-gen".to_owned(), 0o755), ("work".to_owned(), 0o755)].into()
    );
}

/// It needs no folder, and the pod security of its Deployment refuses an image whose user is root.
#[test]
fn the_controller_is_alone_in_its_image() {
    let layout = written(&images::program(&release(), &images::CONTROLLER, &programs(), &[]).unwrap());
    let manifests = layout.children(&layout.manifests()[0]).unwrap();
    let [config, layer] = &layout.children(&manifests[1]).unwrap()[..] else { panic!("not one layer") };
    let config: Value = serde_json::from_slice(layout.bytes(config).unwrap()).unwrap();
    assert_eq!(config["config"], json!({"Entrypoint": ["/routing-claims-controller"], "User": "65532:65532"}));
    let program = ("routing-claims-controller".to_owned(), 0o755, b"x86_64-unknown-linux-musl".to_vec());
    assert_eq!(files(&unzipped(layout.bytes(layer).unwrap())), [program]);
}

#[test]
fn bills_refer_to_their_images() {
    let image = images::program(&release(), &images::MANIFEST_GEN, &programs(), &[]).unwrap();
    let bills = written(&images::bills(&image, &[b"first", b"second"]).unwrap());
    let subjects = image.children(&image.manifests()[0]).unwrap();
    assert_eq!(bills.manifests().len(), subjects.len());
    for ((bill, subject), text) in bills.manifests().iter().zip(subjects).zip(["first", "second"]) {
        let manifest: Value = serde_json::from_slice(bills.bytes(bill).unwrap()).unwrap();
        assert_eq!(manifest["subject"]["digest"], subject.digest);
        assert_eq!(manifest["artifactType"], "application/vnd.cyclonedx+json");
        assert_eq!(bills.bytes(&bills.children(bill).unwrap()[1]).unwrap(), text.as_bytes());
    }
    assert!(images::bills(&image, &[b"only"]).is_err());
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let module = images::module(&release(), WASM).unwrap();
    assert_eq!(module, images::module(&release(), WASM).unwrap());
    // A compressor, an order of keys or a header that changes with a dependency or a feature changes this digest.
    assert_eq!(module.manifests()[0].digest, "sha256:c3888b4b8124153a72ff4c6bc141e725872b9537dabd500d7cbef9f69b79b54c");
}

/// A layout is refused if a size or a byte of a blob is wrong, or if it lacks a blob.
#[test]
fn a_broken_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let layout = images::module(&release(), WASM).unwrap();
    layout.write(folder.path()).unwrap();
    let manifest = &layout.manifests()[0];
    let index = fs::read_to_string(folder.path().join("index.json")).unwrap();
    let wrong = index.replace(&format!(r#""size":{}"#, manifest.size), r#""size":1"#);
    fs::write(folder.path().join("index.json"), wrong).unwrap();
    assert!(Layout::read(folder.path()).unwrap_err().to_string().contains("expected 1 bytes in sha256:"));
    fs::write(folder.path().join("index.json"), index).unwrap();
    let blob = blob(folder.path(), &layout.children(manifest).unwrap()[1].digest);
    let bytes = fs::read(&blob).unwrap();
    fs::write(&blob, [&bytes[..], b"!"].concat()).unwrap();
    assert!(Layout::read(folder.path()).unwrap_err().to_string().contains("has the digest"));
    fs::remove_file(&blob).unwrap();
    assert!(Layout::read(folder.path()).unwrap_err().to_string().contains("expected the blob"));
}

fn blob(folder: &Path, digest: &str) -> std::path::PathBuf {
    folder.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

/// The layout, written and read.
fn written(layout: &Layout) -> Layout {
    let folder = tempfile::tempdir().unwrap();
    layout.write(folder.path()).unwrap();
    let read = Layout::read(folder.path()).unwrap();
    assert_eq!(&read, layout);
    read
}

fn unzipped(gzip: &[u8]) -> Vec<u8> {
    assert_eq!(gzip[4..8], [0; 4], "the time in the header of gzip");
    let mut tar = Vec::new();
    GzDecoder::new(gzip).read_to_end(&mut tar).unwrap();
    tar
}

/// Path, mode and contents of each file; none has a time or an owner.
fn files(tar: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let (path, mode) = (entry.path().unwrap().to_str().unwrap().to_owned(), header.mode().unwrap());
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).unwrap();
        (path, mode, contents)
    });
    files.collect()
}

fn release() -> Release {
    Release { version: "1.2.3".to_owned(), revision: Some("c0ffee".to_owned()) }
}

fn programs() -> Vec<Program> {
    let targets = ["aarch64-apple-darwin", "aarch64-unknown-linux-musl", "x86_64-unknown-linux-musl"];
    targets.map(|target| Program { target: target.to_owned(), bytes: target.into(), bill: Vec::new() }).to_vec()
}

const WASM: &[u8] = b"\0asm\x01\0\0\0";
