//! The images that ship, and the bills of materials that are attached to them.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    archive::{self, Entry},
    layout::{Descriptor, INDEX, Layout, MANIFEST, Platform, digest},
    release::Release,
};

/// The WebAssembly module, in the form that Istio's agent pulls (`extractOCIStandardImage` in `pkg/wasm/imagefetcher.go`): an image
/// with one layer, which contains `plugin.wasm`. It is not an index, because the agent compares the digest in a URL with that of
/// the manifest.
///
/// # Errors
///
/// None: nothing is read from the outside.
pub fn module(release: &Release, wasm: &[u8]) -> Result<Layout> {
    let mut layout = Layout::default();
    let annotations = release.annotations("routing-claims", "Envoy filter that routes by the claims of a JWT");
    let config = json!({"architecture": "wasm", "os": "unknown", "config": {}});
    let manifest = image(&mut layout, config, &[Entry::file("plugin.wasm", wasm)], annotations)?;
    layout.add(named(manifest, &release.version));
    Ok(layout)
}

/// A program that ships as an image.
#[derive(Debug)]
pub struct Kind {
    /// Its name, which is also that of the image.
    pub name: &'static str,
    description: &'static str,
    /// The folder in which it runs, where users mount theirs.
    folder: Option<&'static str>,
}

/// The CLI.
pub const MANIFEST_GEN: Kind = Kind {
    name: "manifest-gen",
    description: "Generates and checks the manifests of a mesh that routes by JWT claims",
    folder: Some("work"),
};
/// The controller.
pub const CONTROLLER: Kind = Kind {
    name: "routing-claims-controller",
    description: "Keeps the routes of a mesh that routes by JWT claims",
    folder: None,
};

/// A build of a program.
#[derive(Debug, Clone)]
pub struct Program {
    /// Rust's target triple, such as `x86_64-unknown-linux-musl`.
    pub target: String,
    /// The program, which must be linked statically.
    pub bytes: Vec<u8>,
    /// Its bill of materials.
    pub bill: Vec<u8>,
}

/// A program for every platform of these builds that is Linux, as one index. The images contain nothing but the program and its
/// licenses.
///
/// # Errors
///
/// If a target's architecture is not known.
pub fn program(release: &Release, kind: &Kind, programs: &[Program], licenses: &[Entry]) -> Result<Layout> {
    let mut layout = Layout::default();
    let annotations = release.annotations(kind.name, kind.description);
    let mut manifests = Vec::new();
    for Program { target, bytes, .. } in programs.iter().filter(|program| is_linux(program)) {
        let platform = platform(target)?;
        let mut config = json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Entrypoint": [format!("/{}", kind.name)], "User": NOBODY},
        });
        let mut files = vec![Entry::program(kind.name, bytes.as_slice())];
        if let Some(folder) = kind.folder {
            config["config"]["WorkingDir"] = format!("/{folder}").into();
            files.push(Entry::folder(folder));
        }
        files.extend_from_slice(licenses);
        let manifest = image(&mut layout, config, &files, annotations.clone())?;
        manifests.push(Descriptor { platform: Some(platform), ..manifest });
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": annotations});
    let index = layout.json(INDEX, &index);
    layout.add(named(index, &release.version));
    Ok(layout)
}

/// Bills of materials (`CycloneDX`), each as an artifact that refers to the manifest of its image (OCI image specification 1.1,
/// "Guidelines for Artifact Usage").
///
/// # Errors
///
/// If there is not one bill for each image.
pub fn bills(image: &Layout, bills: &[&[u8]]) -> Result<Layout> {
    let [named] = image.manifests() else { anyhow::bail!("expected a layout with one image") };
    let subjects = if named.media_type == INDEX { image.children(named)? } else { vec![named.clone()] };
    anyhow::ensure!(subjects.len() == bills.len(), "expected {} bills, found {}", subjects.len(), bills.len());
    let mut layout = Layout::default();
    let empty = layout.json(EMPTY, &json!({}));
    for (subject, bill) in subjects.into_iter().zip(bills) {
        let subject = Descriptor { annotations: None, platform: None, ..subject };
        let bill = layout.blob(CYCLONE_DX, bill.to_vec());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": CYCLONE_DX,
            "config": empty,
            "layers": [bill],
            "subject": subject,
        });
        let manifest = layout.json(MANIFEST, &manifest);
        layout.add(Descriptor { artifact_type: Some(CYCLONE_DX.to_owned()), ..manifest });
    }
    Ok(layout)
}

/// Whether a program goes into an image.
#[must_use]
pub fn is_linux(program: &Program) -> bool {
    program.target.contains("-linux-")
}

fn image(
    layout: &mut Layout,
    mut config: Value,
    files: &[Entry],
    annotations: impl serde::Serialize,
) -> Result<Descriptor> {
    let tar = archive::tar(files)?;
    config["rootfs"] = json!({"type": "layers", "diff_ids": [digest(&tar)]});
    let layer = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", archive::gzip(&tar)?);
    let config = layout.json("application/vnd.oci.image.config.v1+json", &config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [layer],
        "annotations": annotations,
    });
    Ok(layout.json(MANIFEST, &manifest))
}

/// The descriptor with a tag, by which tools find an image in a layout.
fn named(manifest: Descriptor, tag: &str) -> Descriptor {
    let name = ("org.opencontainers.image.ref.name".to_owned(), tag.to_owned());
    Descriptor { annotations: Some([name].into()), ..manifest }
}

/// The names that Go has for a target's architecture and operating system.
fn platform(target: &str) -> Result<Platform> {
    let architecture = match target.split('-').next() {
        Some("x86_64") => Some("amd64"),
        Some("aarch64") => Some("arm64"),
        _ => None,
    };
    let architecture = architecture.with_context(|| format!("no image for the target {target}"))?;
    Ok(Platform { architecture: architecture.to_owned(), os: "linux".to_owned() })
}

const CYCLONE_DX: &str = "application/vnd.cyclonedx+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The user and group of images that need no rights.
const NOBODY: &str = "65532:65532";
