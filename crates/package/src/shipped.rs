//! What `cargo xtask build` has built, and the images that ship.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use testbed::{program_target, workspace_dir};

use crate::{
    archive::Entry,
    images::{self, Kind, Program},
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

    /// A program for each Linux platform of these builds.
    ///
    /// # Errors
    ///
    /// If a target's architecture is not known.
    pub fn program(release: &Release, kind: &Kind, programs: &[Program], licenses: &[Entry]) -> Result<Self> {
        let image = images::program(release, kind, programs, licenses)?;
        let bills: Vec<_> = programs.iter().filter(|one| images::is_linux(one)).map(|one| &*one.bill).collect();
        let bills = images::bills(&image, &bills)?;
        Ok(Self { name: kind.name, image, bills })
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

/// The builds of a program in the folder `dist`, by target.
///
/// # Errors
///
/// If one can't be read.
pub fn programs(dist: &Path, kind: &Kind) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(dist).with_context(|| format!("cannot read {}", dist.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let built =
            name.strip_suffix(".cdx.json").and_then(|program| Some((program, program.strip_prefix(kind.name)?)));
        let Some((program, target)) = built else { continue };
        let target = target.strip_prefix('-').map_or_else(program_target, str::to_owned);
        programs.push(Program { target, bytes: read(&dist.join(program))?, bill: read(&dist.join(&name))? });
    }
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
