//! What was run and passed, for the table in `docs/compatibility.md`.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use e2e::tools::{self, Istio};
use serde::{Deserialize, Serialize};

use crate::column::Column;

/// One full run: every scenario, with every filter and route resource of a version of Istio.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    /// The minor version of Istio.
    istio: String,
    versions: Versions,
    /// Kind and engine, such as `EnvoyFilter/lua`.
    filters: BTreeSet<String>,
    /// Kinds, such as `HTTPRoute`.
    routes: BTreeSet<String>,
    /// How many scenarios passed, each with each pair of a filter and a route. None failed.
    passed: usize,
}

/// The versions that a run used.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    /// The version of Istio's Go module, which names a commit.
    istio_module: String,
    kubernetes: String,
    gateway_api: String,
    envoy: String,
}

impl Versions {
    fn pinned(istio: Istio, envoy: &str) -> Result<Self> {
        let module = format!("istio-{istio}");
        Ok(Self {
            istio_module: tools::pinned(&module, "istio.io/istio")?,
            kubernetes: tools::pinned("kube-apiserver", "k8s.io/kubernetes")?,
            gateway_api: tools::pinned(&module, "sigs.k8s.io/gateway-api")?,
            envoy: envoy.to_owned(),
        })
    }
}

/// Replaces the run of this version of Istio in the file that the docs are generated from.
pub(crate) fn write(istio: Istio, envoy: &str, columns: &[Column], passed: usize) -> Result<()> {
    let mut runs = read()?;
    runs.retain(|run| run.istio != istio.to_string());
    runs.push(Run {
        istio: istio.to_string(),
        versions: Versions::pinned(istio, envoy)?,
        filters: columns.iter().map(|column| format!("{}/{}", column.filter, column.engine)).collect(),
        routes: columns.iter().map(|column| column.routes.to_owned()).collect(),
        passed,
    });
    runs.sort_by(|a, b| b.istio.cmp(&a.istio));
    let path = path();
    fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&runs)?))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("recorded in {}; `cargo xtask gen` writes it into docs/compatibility.md", path.display());
    Ok(())
}

fn read() -> Result<Vec<Run>> {
    let path = path();
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
}

fn path() -> PathBuf {
    testbed::workspace_dir().join("crates/e2e/compatibility.json")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_recorded_runs_are_of_the_pinned_versions() {
        let runs = read().unwrap();
        let recorded: Vec<_> = runs.iter().map(|run| run.istio.as_str()).collect();
        let all: Vec<_> = Istio::value_variants().iter().rev().map(ToString::to_string).collect();
        assert_eq!(recorded, all);
        for (run, istio) in runs.iter().zip(Istio::value_variants().iter().rev()) {
            let pinned = Versions::pinned(*istio, testbed::ENVOY_VERSION).unwrap();
            assert_eq!(run.versions, pinned, "run `cargo xtask e2e --istio {istio} --record`, then `cargo xtask gen`");
        }
    }
}
