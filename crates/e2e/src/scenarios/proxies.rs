//! The proxies' configuration, and the manifests as `manifest-gen` and `istioctl` check them.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use e2e::HttpFilters;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{scene::Scene, world::World};

/// Each outbound HTTP listener of a labelled workload, and the gateway's, has the filter once, before the router and after authentication. An
/// `EnvoyFilter` puts it directly before the router.
pub(super) async fn place(scene: &mut Scene<'_>) -> Result<String> {
    if scene.column.has_gateway() {
        let jwks = format!("http://{}/jwks.json", scene.world.jwks);
        scene.plan["spec"]["authentication"] = json!([{"issuer": "https://issuer.example", "jwksUri": jwks}]);
        scene.roll_out().await?;
    }
    let world = &*scene.world;
    let mut seen = 0;
    for (proxy, opted_in) in
        [(&world.gateway, true), (&world.client, true), (&world.sidecar_a, true), (&world.plain, false)]
    {
        for HttpFilters { listener, inbound, names: filters } in proxy.http_filters().await? {
            let opted_in = opted_in && !inbound;
            let place = |wanted: &dyn Fn(&str) -> bool| filters.iter().position(|name| wanted(name));
            let ours = filters.iter().filter(|name| is_ours(name)).count();
            ensure!(
                ours == usize::from(opted_in),
                "{listener}: expected the filter {} times, found {ours}: {filters:?}",
                usize::from(opted_in)
            );
            ensure!(place(&|name| name == ROUTER) == Some(filters.len() - 1), "{listener}: {filters:?}");
            if let Some(ours) = place(&is_ours) {
                let last = ours + 2 == filters.len();
                ensure!(last || scene.column.filter != "EnvoyFilter", "{listener}: not before the router: {filters:?}");
                let authentication = place(&|name| name == JWT_AUTHN);
                ensure!(authentication < Some(ours), "{listener}: before authentication: {filters:?}");
                let wanted = std::ptr::eq(proxy, &raw const world.gateway) && scene.column.has_gateway();
                ensure!(authentication.is_some() == wanted, "{listener}: authentication: {filters:?}");
            }
            seen += 1;
        }
    }
    ensure!(seen >= 4, "only {seen} listeners");
    Ok(format!("{seen} listeners of 4 proxies"))
}

/// `lint`, `validate` and `analyze` find no error in the example meshes, and their plans generate them.
pub(crate) async fn examples(world: &World) -> Result<String> {
    let mut files = 0;
    for folder in ["lua", "wasm", "module", "httproute"] {
        let dir = testbed::workspace_dir().join("deploy").join(folder);
        let mut fragments = vec!["-f", "plan.yaml"];
        if dir.join("variants").is_dir() {
            fragments.extend(["-f", "variants/"]);
        }
        for command in [&["render", "--check", "rendered/"][..], &["lint", "--manifests", "apps/"]] {
            let output = Command::new(world.dist.join("manifest-gen"))
                .args(command)
                .args(&fragments)
                .current_dir(&dir)
                .stdin(Stdio::null())
                .output()
                .await?;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.success(), "deploy/{folder}: manifest-gen {}: {said}", command[0]);
        }
        let folders = ["apps", "rendered"].map(|name| dir.join(name));
        files += check_files(&world.istioctl, &folders).await.with_context(|| format!("deploy/{folder}"))?;
    }
    Ok(format!("{files} files"))
}

/// `manifest-gen lint`, `istioctl validate` and `istioctl analyze` find no error in the plan, its manifests and the services.
pub(super) async fn checks(scene: &mut Scene<'_>) -> Result<String> {
    let others = scene.path("others");
    fs::create_dir_all(&others)?;
    for kind in ["Service", "Gateway"] {
        fs::write(others.join(format!("{kind}.yaml")), scene.world.cluster.yaml(kind))?;
    }
    let lint = ["lint", "-f", "plan.yaml", "-f", "variants/", "--manifests", "others/", "--format", "json"];
    let found: Value = serde_json::from_str(&scene.manifest_gen(&lint).await?)?;
    let is_error = |finding: &&Value| finding["severity"] == "error";
    let errors: Vec<_> = found.as_array().context("no list of findings")?.iter().filter(is_error).collect();
    ensure!(errors.is_empty(), "lint: {errors:?}");
    let files = check_files(&scene.world.istioctl, &[scene.path("rendered"), others]).await?;
    Ok(format!("{files} files"))
}

/// Runs `istioctl validate` and `analyze` on all files of the folders. Errors fail, warnings do not. Returns the number of
/// files.
async fn check_files(istioctl: &Path, folders: &[PathBuf]) -> Result<usize> {
    let mut files = Vec::new();
    for folder in folders {
        for file in fs::read_dir(folder)? {
            files.push(file?.path());
        }
    }
    let validate = files.iter().flat_map(|file| [OsStr::new("-f"), file.as_os_str()]);
    let validate: Vec<_> = [OsStr::new("validate")].into_iter().chain(validate).collect();
    let analyze = ["analyze", "--use-kube=false", "--failure-threshold=Error"].map(OsStr::new);
    let analyze: Vec<_> = analyze.into_iter().chain(files.iter().map(|file| file.as_os_str())).collect();
    for arguments in [validate, analyze] {
        let output = Command::new(istioctl).args(&arguments).stdin(Stdio::null()).output().await?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(output.status.success(), "istioctl {}: {said}", arguments[0].display());
    }
    Ok(files.len())
}

/// An `EnvoyFilter` with Lua gives the filter Envoy's own name, which every version of Envoy accepts.
fn is_ours(filter: &str) -> bool {
    filter.contains("routing-claims") || filter == "envoy.filters.http.lua"
}

const ROUTER: &str = "envoy.filters.http.router";
const JWT_AUTHN: &str = "envoy.filters.http.jwt_authn";
