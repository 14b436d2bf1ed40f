//! What `cargo xtask package --push` pushes, as others get it: by crane, and from a registry with a password.

use std::{
    fs::{self, Permissions},
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{Image, Registry};
use serde_json::Value;
use testbed::client::Http1;
use tokio::process::Command;

use super::{At, Build, Mesh, PASSWORD, USER};
use crate::world::module_bill;

impl Mesh<'_> {
    /// The images that ship are pulled back by the digests that the push printed, with their bills of materials.
    pub(super) async fn pulled_back(&mut self) -> Result<()> {
        self.set_registry(At::Up).await?;
        let registry = self.registry()?;
        let module = &self.images[Build::First as usize];
        let pushed = registry.push(module, "released/routing-claims:1").await?;
        // The digest that the agents have loaded.
        ensure!(
            pushed == format!("{}/released/routing-claims:1@{}", registry.addr, module.digest),
            "printed: {pushed}"
        );
        let plugin = file(&registry.crane(&["export", &pushed, "-"]).await?, "plugin.wasm")?;
        ensure!(plugin == self.modules[Build::First as usize], "the image has another module");
        let bill = attached(registry, "released/routing-claims", &module.digest).await?;
        ensure!(bill == module_bill(&self.world.dist)?, "the image has another bill of materials");

        self.behind_a_password(registry).await?;
        self.program_runs(registry).await
    }

    /// The login decides, and the errors say what to do.
    async fn behind_a_password(&self, registry: &Registry) -> Result<()> {
        let image = &self.images[Build::First as usize];
        let (gate, name) = (self.gates[0].addr, "by-login/routing-claims:1");
        let login = |password: &str| Some((USER.to_owned(), password.to_owned()));
        let nobody: SocketAddr = (Ipv4Addr::LOCALHOST, 1).into();
        for (to, login, expected) in [
            (gate, None, format!("the registry {gate} asks for a login\nhelp: run `docker login {gate}`")),
            (
                gate,
                login("wrong"),
                format!("the registry {gate} refuses the login of `{USER}`\nhelp: check the password"),
            ),
            (nobody, None, format!("cannot reach the registry {nobody}: Connection refused")),
        ] {
            let error = image.push(to, name, login).await.err().context("a push without the right login")?;
            ensure!(error.to_string().starts_with(&expected), "expected {expected}…, found {error}");
        }
        let pushed = image.push(gate, name, login(PASSWORD)).await?;
        ensure!(pushed == format!("{gate}/{name}@{}", image.digest), "printed: {pushed}");
        let manifest = format!("/v2/by-login/routing-claims/manifests/{}", image.digest);
        let answer = Http1::connect(registry.addr).await?.get("registry", &manifest, &[]).await?;
        ensure!(answer.status == 200, "the registry answers {} for {manifest}", answer.status);
        Ok(())
    }

    /// The image of `manifest-gen` contains the program for this machine, which runs without anything else.
    async fn program_runs(&self, registry: &Registry) -> Result<()> {
        let image = Image::program(&self.world.dist)?;
        let pushed = registry.push(&image, "released/manifest-gen:1").await?;
        let platform = format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
        let bytes = file(&registry.crane(&["export", "--platform", &platform, &pushed, "-"]).await?, "manifest-gen")?;
        let program = self.dir.join("manifest-gen");
        fs::write(&program, bytes)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        let output = Command::new(&program).arg("--version").env_clear().stdin(Stdio::null()).output().await?;
        let version = String::from_utf8(output.stdout)?;
        ensure!(version.starts_with("manifest-gen "), "it prints `{version}`");
        Ok(())
    }
}

/// The bill of materials that refers to an image. This registry has no API of referrers, so a tag has the list.
async fn attached(registry: &Registry, repository: &str, image: &str) -> Result<Vec<u8>> {
    let name = |rest: &str| format!("{}/{repository}{rest}", registry.addr);
    let referrers = registry.crane(&["manifest", &name(&format!(":{}", image.replace(':', "-")))]).await?;
    let referrers: Value = serde_json::from_slice(&referrers)?;
    ensure!(referrers["manifests"][0]["artifactType"] == "application/vnd.cyclonedx+json", "found {referrers}");
    let artifact = referrers["manifests"][0]["digest"].as_str().context("no digest")?;
    let artifact: Value =
        serde_json::from_slice(&registry.crane(&["manifest", &name(&format!("@{artifact}"))]).await?)?;
    ensure!(artifact["subject"]["digest"] == *image, "it refers to another image: {artifact}");
    let bill = artifact["layers"][0]["digest"].as_str().context("no layer")?;
    registry.crane(&["blob", &name(&format!("@{bill}"))]).await
}

/// A file of a tar archive.
fn file(archive: &[u8], name: &str) -> Result<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if *entry.path()? == *Path::new(name) {
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents)?;
            return Ok(contents);
        }
    }
    anyhow::bail!("expected {name} in the image, found none")
}
