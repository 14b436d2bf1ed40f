//! Every lint, held to a real Istio.
//!
//! The fixtures are the files of `crates/manifest-gen/tests/lints`: with one that the lint finds something in, the mesh does
//! what the lint's text says; with one that it finds nothing in, the mesh does what is wanted.

mod mesh;
mod table;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use routing_plan::lint::LINTS;

use self::{
    mesh::Mesh,
    table::{PROOFS, Probe},
};
use crate::world::World;

pub(crate) use self::{mesh::path, table::Proof};

/// Which proofs run.
#[derive(Clone, Copy)]
pub(crate) enum Which<'c> {
    /// The first of each lint.
    First,
    /// All of the lints whose code contains a text.
    All(&'c str),
}

/// Applies the fixtures of [`PROOFS`] and looks what happens. Returns what was counted.
pub(crate) async fn run(world: &World, which: Which<'_>, dir: PathBuf) -> Result<String> {
    let mut mesh = Mesh::start(world, &dir).await?;
    let mut wrong = Vec::new();
    ensure!(PROOFS.iter().any(|proof| which.includes(proof)), "no lint has a code that contains the given text");
    let proofs: Vec<_> = PROOFS.iter().filter(|proof| which.includes(proof) && !proof.is_pulled()).collect();
    for proof in &proofs {
        for (fixture, expected) in [proof.bad, proof.good] {
            let happened = match mesh.observe(proof, fixture).await {
                Ok(happened) => happened,
                Err(error) => format!("{error:#}"),
            };
            if happened != expected {
                let lint = LINTS.iter().find(|lint| lint.code == proof.lint);
                let effect = lint.map_or("", |lint| lint.effect);
                wrong.push(format!(
                    "{}/{fixture}.yaml\n      lint:     {effect}\n      expected: {expected}\n      happened: {happened}",
                    proof.lint
                ));
            }
        }
    }
    mesh.stop().await?;
    ensure!(wrong.is_empty(), "{} of {} fixtures:\n    {}", wrong.len(), 2 * proofs.len(), wrong.join("\n    "));
    Ok(format!("{} fixtures", 2 * proofs.len()))
}

/// The proofs that need modules from a registry.
pub(crate) fn pulled(which: Which<'_>) -> impl Iterator<Item = &'static Proof> {
    PROOFS.iter().filter(move |proof| which.includes(proof) && proof.is_pulled())
}

impl Proof {
    fn is_pulled(&self) -> bool {
        matches!(self.probe, Probe::Pulled)
    }
}

impl Which<'_> {
    fn includes(self, proof: &Proof) -> bool {
        match self {
            Self::First => proof.bad.0 == "bad",
            Self::All(code) => proof.lint.contains(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use routing_plan::lint::{LINTS, Shown};

    use super::{PROOFS, Which, mesh};

    #[test]
    fn every_lint_that_is_shown_on_a_mesh_has_a_proof() {
        let shown = LINTS.iter().filter(|lint| lint.shown == Shown::OnMesh).map(|lint| lint.code);
        let shown: BTreeSet<_> = shown.collect();
        for which in [Which::First, Which::All("")] {
            let proofs = PROOFS.iter().filter(|proof| which.includes(proof));
            assert_eq!(shown, proofs.map(|proof| proof.lint).collect());
        }
    }

    #[test]
    fn every_bad_fixture_has_a_proof() {
        let mut without = Vec::new();
        for lint in LINTS.iter().filter(|lint| lint.shown == Shown::OnMesh) {
            for entry in fs::read_dir(mesh::path(lint.code, "bad").parent().unwrap()).unwrap() {
                let file = entry.unwrap().file_name().into_string().unwrap();
                // A plan is `bad.plan.yaml`.
                let name = file.split_once('.').filter(|(_, kind)| *kind == "yaml").map(|(name, _)| name);
                let name = name.filter(|name| name.starts_with("bad"));
                let is_proven = |name: &str| PROOFS.iter().any(|proof| proof.lint == lint.code && proof.bad.0 == name);
                without.extend(name.filter(|name| !is_proven(name)).map(|name| format!("{}/{name}", lint.code)));
            }
        }
        without.sort();
        assert_eq!(without, NOT_PROVEN.map(|(name, _)| name));
    }

    #[test]
    fn a_proof_has_two_fixtures_with_different_results() {
        for proof in PROOFS {
            assert_ne!(proof.bad.1, proof.good.1, "{}", proof.lint);
            for (name, start) in [(proof.bad.0, "bad"), (proof.good.0, "good")] {
                assert!(name.starts_with(start) && mesh::path(proof.lint, name).is_file(), "{}/{name}", proof.lint);
            }
        }
    }

    /// The fixtures without a proof, and why.
    const NOT_PROVEN: [(&str, &str); 4] = [
        ("filter-position/bad-authn", "as `bad-authn-traffic-extension`, but nothing verifies the token"),
        ("missing-service/bad-woven", "the route of `bad`, from a plan"),
        ("policy-invalid/bad-annotation", "only this project reads the annotation"),
        (
            "tag-moves/bad-no-scheme",
            "as `bad`: a registry on loopback has a port, with which Istio reads no URL without a scheme",
        ),
    ];
}
