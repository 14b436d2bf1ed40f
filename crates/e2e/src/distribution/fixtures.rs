//! The fixtures of the lints about pulls, each on a sidecar of its own.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, ensure};
use e2e::{Cluster, Readiness, app::App, until};
use serde_json::{Value, json};

use super::{At, Build, Mesh, Outcome, PATIENCE, REGISTRY, Sum};
use crate::{
    lints::{self, Proof},
    scene::REPORT,
};

/// A file of the fixtures of a lint, and what should happen with it.
#[derive(Clone, Copy, PartialEq)]
struct Fixture {
    lint: &'static str,
    name: &'static str,
    expected: &'static str,
}

impl Mesh<'_> {
    /// Applies each fixture to a sidecar without a filter, and looks. Then both the tag and the file get the second module, the
    /// pods restart, and it looks again.
    pub(super) async fn prove(&mut self, proofs: &[&Proof]) -> Result<()> {
        let mut fixtures: Vec<Fixture> = Vec::new();
        for proof in proofs {
            for (name, expected) in [proof.bad, proof.good] {
                let fixture = Fixture { lint: proof.lint, name, expected };
                if !fixtures.contains(&fixture) {
                    fixtures.push(fixture);
                }
            }
        }
        let mut wrong = Vec::new();
        for (round, fixtures) in fixtures.chunks(self.sidecars.len()).enumerate() {
            self.round(&format!("fixtures-{round}"), fixtures, &mut wrong).await?;
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    async fn round(&mut self, repository: &str, fixtures: &[Fixture], wrong: &mut Vec<String>) -> Result<()> {
        self.set_registry(At::Up).await?;
        self.clear_filters().await?;
        self.settle().await?;
        let tag = format!("{repository}/routing-claims:1.0");
        let contents = Arc::new(Mutex::new(self.modules[Build::First as usize].clone()));
        let server = self.world.net.addr(SERVER, 8080);
        let _server = App::bytes(server, Arc::clone(&contents)).await?;
        self.registry()?.push(&self.images[Build::First as usize], &tag).await?;
        for (index, fixture) in fixtures.iter().enumerate() {
            let resource = self.bound(repository, fixture, &self.sidecars[index].namespace)?;
            self.world.cluster.apply(&resource).await?;
            self.sidecars[index].resource = Some(resource);
        }
        self.settle().await?;
        let first = self.outcomes(fixtures, 0).await;

        self.registry()?.push(&self.images[Build::Second as usize], &tag).await?;
        contents.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.modules[Build::Second as usize]);
        self.restart().await?;
        self.settle().await?;
        let second = self.outcomes(fixtures, 1).await;
        for (fixture, (first, second)) in fixtures.iter().zip(first.into_iter().zip(second)) {
            let Fixture { lint, name, expected } = fixture;
            let happened = format!("{first}; {second}");
            if happened != *expected {
                wrong.push(format!("{lint}/{name}.yaml\n  expected: {expected}\n  happened: {happened}"));
            }
        }
        Ok(())
    }

    /// What happens to the requests of each fixture's sidecar, at last if that is not what should happen.
    async fn outcomes(&self, fixtures: &[Fixture], look: usize) -> Vec<String> {
        let mut outcomes = Vec::new();
        for (fixture, sidecar) in fixtures.iter().zip(&self.sidecars) {
            let expected = fixture.expected.split("; ").nth(look).unwrap_or_default();
            let happens = async || self.outcome(sidecar).await.map_or_else(|error| format!("{error:#}"), said);
            let is_seen = async || Ok(Readiness::of(happens().await == expected, || expected.to_owned()));
            // What happens instead is part of the result.
            let _ = until(expected, PATIENCE, is_seen).await;
            outcomes.push(happens().await);
        }
        outcomes
    }

    /// A fixture as this mesh needs it: in the sidecar's namespace, with addresses, sums and a policy that exist.
    fn bound(&self, repository: &str, fixture: &Fixture, namespace: &str) -> Result<Value> {
        let text = fs::read_to_string(lints::path(fixture.lint, fixture.name))?;
        let is_image = !text.contains("https://");
        let sum = self.sum(if is_image { Sum::Manifest(Build::First) } else { Sum::File(Build::First) });
        let file = self.dir.join(format!("{}.wasm", self.sum(Sum::File(Build::First)).trim_start_matches("sha256:")));
        fs::write(&file, &self.modules[Build::First as usize])?;
        let nobody = self.world.net.addr(REGISTRY, 1);
        let policy = json!({"services": [{"name": "microservice-B"}], "reportHeader": REPORT});
        let text = text
            .replace("registry.images.svc/", &format!("{}/{repository}/", self.registry()?.addr))
            .replace("https://modules.images.svc/", &format!("http://{}/", self.world.net.addr(SERVER, 8080)))
            .replace("registry.example/", &format!("{nobody}/"))
            .replace("https://modules.example/", &format!("http://{nobody}/"))
            .replace("file:///opt/routing-claims.wasm", &format!("file://{}", file.display()))
            .replace(ANY_SUM, sum.trim_start_matches("sha256:"))
            .replace(r#"{"services":[{"name":"microservice-A"}]}"#, &policy.to_string());
        let mut resource = Cluster::documents(&text)?.remove(0);
        resource["metadata"]["namespace"] = json!(namespace);
        for pointer in ["/spec/pluginConfig", "/spec/wasm/pluginConfig"] {
            if let Some(config) = resource.pointer_mut(pointer) {
                *config = policy.clone();
            }
        }
        Ok(resource)
    }
}

/// An outcome in words, without the emphasis that it has in the docs.
fn said(outcome: Result<Outcome, String>) -> String {
    match outcome {
        Ok(outcome) => outcome.to_string().replace('*', ""),
        Err(other) => other,
    }
}

/// The sum in fixtures that stands for the right one.
const ANY_SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// The last byte of the address that serves the module's file.
const SERVER: u8 = 7;
