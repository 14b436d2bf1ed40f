//! What the proxies got, and what the checkers of both sides say of the manifests.

use std::process::Stdio;

use anyhow::{Result, bail, ensure};
use tokio::process::Command;

use crate::scene::Scene;

/// The filter stands once in each HTTP listener, right before the router, and only where opted in.
pub(super) async fn place(scene: &mut Scene<'_>) -> Result<String> {
    let world = &*scene.world;
    let mut seen = 0;
    for (proxy, opted_in) in
        [(&world.gateway, true), (&world.client, true), (&world.sidecar_a, true), (&world.plain, false)]
    {
        let listeners = proxy.http_filters().await?;
        ensure!(!listeners.is_empty() || !scene.column.has_gateway(), "a proxy without an HTTP listener");
        for (listener, filters) in listeners {
            let ours: Vec<_> = filters.iter().enumerate().filter(|(_, name)| is_ours(name)).collect();
            match ours[..] {
                [] if !opted_in => {}
                [(place, _)] if opted_in => {
                    ensure!(place + 2 == filters.len(), "{listener}: not right before the router: {filters:?}");
                }
                _ => bail!("{listener}: the filter stands {} times: {filters:?}", ours.len()),
            }
            ensure!(filters.last().is_some_and(|last| last == ROUTER), "{listener}: {filters:?}");
            seen += 1;
        }
    }
    Ok(format!("{seen} listeners of 4 proxies"))
}

/// `manifest-gen lint`, `istioctl validate` and `istioctl analyze` have no error for the plan, its manifests and the services.
pub(super) async fn checks(scene: &mut Scene<'_>) -> Result<String> {
    std::fs::write(scene.path("services.yaml"), scene.world.cluster.yaml("Service"))?;
    std::fs::write(scene.path("gateways.yaml"), scene.world.cluster.yaml("Gateway"))?;
    let found = scene
        .manifest_gen(&["lint", "-f", "plan.yaml", "-f", "variants/", "--manifests", "services.yaml", "gateways.yaml"])
        .await?;
    ensure!(!found.contains("error["), "lint: {found}");
    let rendered = scene.path("rendered");
    istioctl(scene, &["validate", "-f", &rendered.display().to_string()]).await?;
    let mut files: Vec<_> =
        std::fs::read_dir(&rendered)?.map(|file| file.map(|file| file.path())).collect::<Result<_, _>>()?;
    files.extend([scene.path("services.yaml"), scene.path("gateways.yaml")]);
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let arguments: Vec<_> = ANALYZE.into_iter().chain(files.iter().map(String::as_str)).collect();
    istioctl(scene, &arguments).await?;
    Ok(format!("{} files", files.len()))
}

/// Runs istioctl; any error fails, warnings do not.
async fn istioctl(scene: &Scene<'_>, arguments: &[&str]) -> Result<()> {
    let output = Command::new(&scene.world.istioctl).args(arguments).stdin(Stdio::null()).output().await?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success() && !said.contains("Error"), "istioctl {}: {said}", arguments[0]);
    Ok(())
}

/// `EnvoyFilter` with Lua names the filter as Envoy does, so that Envoy of any version takes it.
fn is_ours(filter: &str) -> bool {
    filter.contains("routing-claims") || filter == "envoy.filters.http.lua"
}

const ROUTER: &str = "envoy.filters.http.router";
const ANALYZE: [&str; 3] = ["analyze", "--use-kube=false", "--failure-threshold=Error"];
