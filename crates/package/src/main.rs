//! `cargo xtask package`: OCI images and archives of what ships, in `target/dist`, and images in a registry.

mod programs;
mod push;

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser;
use package::{images, release::Release};
use push::Registry;
use testbed::{target_dir, until_signal};

/// Packs what ships: OCI images as layouts in target/dist/images, and archives of manifest-gen.
///
/// Builds it first. The same commit always gives the same bytes. A registry on this machine (127.0.0.1 or localhost) is asked over
/// plain HTTP. For others, log in with `docker login`, `crane auth login` or `oras login`.
#[derive(Parser)]
#[command(name = "cargo xtask package", bin_name = "cargo xtask package", after_help = EXAMPLES)]
struct Args {
    /// Also build `manifest-gen` for the other platforms: Linux and macOS on `x86_64` and `aarch64`.
    #[arg(long)]
    all_platforms: bool,
    /// Push the images and their bills of materials, and print the digests to pin.
    #[arg(long, value_name = "REGISTRY")]
    push: Option<String>,
}

fn main() -> ExitCode {
    match until_signal(run(Args::parse())) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<ExitCode> {
    let dist = target_dir().join("dist");
    let release = Release::current();
    let programs = programs::built(&dist)?;
    eprintln!("packing the module and manifest-gen for {} platforms", programs.len());
    let licenses = programs::licenses()?;
    for archive in programs::archive(&release, &dist, &programs, &licenses)? {
        println!("{}", archive.display());
    }

    let module = images::module(&release, &read(&dist.join("routing-claims.wasm"))?)?;
    let module_bills = images::bills(&module, &[&read(&dist.join("routing-claims.wasm.cdx.json"))?])?;
    let program = images::program(&release, &programs, &licenses)?;
    let bills: Vec<_> = programs.iter().filter(|one| images::is_linux(one)).map(|one| &*one.bill).collect();
    let program_bills = images::bills(&program, &bills)?;
    let images = [("routing-claims", module, module_bills), ("manifest-gen", program, program_bills)];
    for (name, image, bills) in &images {
        let folder = dist.join("images").join(name);
        for (layout, folder) in [(image, folder.clone()), (bills, folder.with_extension("bills"))] {
            layout.write(&folder)?;
            println!("{}", folder.display());
        }
    }

    if let Some(registry) = &args.push {
        let registry = Registry::new(registry)?;
        for (name, image, bills) in &images {
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
  cargo xtask package --push ghcr.io/you        push to ghcr.io/you/routing-claims and ghcr.io/you/manifest-gen";
