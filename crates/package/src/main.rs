//! `cargo xtask package`: OCI images and archives of what ships, in `target/dist`, and images in a registry.

mod archives;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use package::{
    images::{CONTROLLER, MANIFEST_GEN},
    push::{Registry, stored_login},
    release::Release,
    shipped::{self, Image},
};
use testbed::{target_dir, until_signal};

/// Packs what ships: OCI images as layouts in target/dist/images, and archives of manifest-gen.
///
/// Builds it first. The same commit always gives the same bytes; target/dist/images/DIGESTS has the digests to compare. A registry on this machine (127.0.0.1 or localhost) is asked over
/// plain HTTP. For others, log in with `docker login`, `crane auth login` or `oras login`.
#[derive(Parser)]
#[command(name = "cargo xtask package", bin_name = "cargo xtask package", after_help = EXAMPLES)]
struct Args {
    /// Build the programs also for the other platforms: Linux on `x86_64` and `aarch64`, and `manifest-gen` for macOS too.
    #[arg(long)]
    all_platforms: bool,
    /// Push the images and their bills of materials, and print the digests to pin.
    #[arg(long, value_name = "REGISTRY")]
    push: Option<String>,
    /// Folder with the artifacts of `cargo xtask build`.
    #[arg(long, value_name = "DIR", hide = true)]
    dist: Option<PathBuf>,
}

fn main() -> ExitCode {
    match until_signal(run(Args::parse())) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> Result<ExitCode> {
    let dist = args.dist.unwrap_or_else(|| target_dir().join("dist"));
    let release = Release::current();
    let programs = shipped::programs(&dist, &MANIFEST_GEN)?;
    ensure!(!programs.is_empty(), "no manifest-gen in {}: run `cargo xtask build`", dist.display());
    let controllers = shipped::programs(&dist, &CONTROLLER)?;
    eprintln!("packing the module, and manifest-gen for {} platforms", programs.len());
    match controllers.len() {
        0 => eprintln!("leaving out the controller, which `cargo xtask build --controller` builds"),
        count => eprintln!("packing the controller for {count} platforms"),
    }
    let licenses = shipped::licenses()?;
    for archive in archives::write(&release, &dist, &programs, &licenses)? {
        println!("{}", archive.display());
    }

    let (wasm, bill) = (read(&dist.join("routing-claims.wasm"))?, read(&dist.join("routing-claims.wasm.cdx.json"))?);
    let mut images =
        vec![Image::module(&release, &wasm, &bill)?, Image::program(&release, &MANIFEST_GEN, &programs, &licenses)?];
    if !controllers.is_empty() {
        images.push(Image::program(&release, &CONTROLLER, &controllers, &licenses)?);
    }
    let folder = dist.join("images");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let mut digests = String::new();
    for image in &images {
        let folder = dist.join("images").join(image.name);
        for (layout, folder) in [(&image.image, folder.clone()), (&image.bills, folder.with_extension("bills"))] {
            layout.write(&folder)?;
            println!("{}", folder.display());
        }
        writeln!(digests, "{}:{}@{}", image.name, release.version, image.digest()?)?;
    }
    let path = dist.join("images/DIGESTS");
    fs::write(&path, digests).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());

    if let Some(registry) = &args.push {
        let registry = Registry::new(registry, stored_login)?;
        for Image { name, image, bills } in &images {
            eprintln!("pushing {name}");
            println!("{}", registry.push(name, &release.version, image, bills).await?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask package                           for this machine
  cargo xtask package --all-platforms           what a release contains
  cargo xtask package --push 127.0.0.1:5000     push to a registry on this machine
  cargo xtask package --push ghcr.io/you        push to ghcr.io/you/routing-claims, ghcr.io/you/manifest-gen and so on";
