//! What `cargo xtask build` has built, and the images that ship.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use testbed::{program_target, workspace_dir};

use crate::{
    archive::Entry,
    images::{self, Program},
    layout::Layout,
    release::Release,
};

/// An image that ships, with its bills of materials.
#[derive(Debug, Clone)]
pub struct Image {
    /// The last part of its name in a registry.
    pub name: &'static str,
    /// The image.
    pub image: Layout,
    /// The artifacts that refer to it.
    pub bills: Layout,
}

impl Image {
    /// A WebAssembly module with its bill of materials.
    ///
    /// # Errors
    ///
    /// None: nothing is read from the outside.
    pub fn module(release: &Release, wasm: &[u8], bill: &[u8]) -> Result<Self> {
        let image = images::module(release, wasm)?;
        let bills = images::bills(&image, &[bill])?;
        Ok(Self { name: "routing-claims", image, bills })
    }

    /// `manifest-gen` for each Linux platform of these programs.
    ///
    /// # Errors
    ///
    /// If a target's architecture is not known.
    pub fn program(release: &Release, programs: &[Program], licenses: &[Entry]) -> Result<Self> {
        let image = images::program(release, programs, licenses)?;
        let bills: Vec<_> = programs.iter().filter(|one| images::is_linux(one)).map(|one| &*one.bill).collect();
        let bills = images::bills(&image, &bills)?;
        Ok(Self { name: PROGRAM, image, bills })
    }

    /// The digest to pin.
    ///
    /// # Errors
    ///
    /// If the layout does not have exactly one image.
    pub fn digest(&self) -> Result<&str> {
        let [manifest] = self.image.manifests() else { anyhow::bail!("expected a layout with one image") };
        Ok(&manifest.digest)
    }
}

/// The builds of `manifest-gen` in the folder `dist`, by target.
///
/// # Errors
///
/// If there is none, or if one can't be read.
pub fn programs(dist: &Path) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(dist).with_context(|| format!("cannot read {}", dist.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(program) = name.strip_suffix(".cdx.json").filter(|name| name.starts_with(PROGRAM)) else { continue };
        let target = program.strip_prefix("manifest-gen-").map_or_else(program_target, str::to_owned);
        programs.push(Program { target, bytes: read(&dist.join(program))?, bill: read(&dist.join(&name))? });
    }
    ensure!(!programs.is_empty(), "no {PROGRAM} in {}: run `cargo xtask build`", dist.display());
    programs.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(programs)
}

/// The licenses, which every archive and image contains.
///
/// # Errors
///
/// If one can't be read.
pub fn licenses() -> Result<Vec<Entry>> {
    ["LICENSE-APACHE", "LICENSE-MIT"]
        .map(|name| Ok(Entry::file(name, read(&workspace_dir().join(name))?)))
        .into_iter()
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

const PROGRAM: &str = "manifest-gen";
