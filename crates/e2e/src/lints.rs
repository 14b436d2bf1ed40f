//! Every lint, held to a real Istio.
//!
//! The fixtures are the files of `crates/manifest-gen/tests/lints`: with one that the lint finds something in, the mesh does
//! what the lint's text says; with one that it finds nothing in, the mesh does what is wanted.

mod mesh;
mod table;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use routing_plan::lint::LINTS;

use self::{mesh::Mesh, table::PROOFS};
use crate::world::World;

/// Applies each fixture of [`PROOFS`] whose lint's code contains a text, and looks what happens. Returns what was counted.
pub(crate) async fn run(world: &World, code: &str, dir: PathBuf) -> Result<String> {
    let mut mesh = Mesh::start(world, &dir).await?;
    let mut wrong = Vec::new();
    let proofs: Vec<_> = PROOFS.iter().filter(|proof| proof.lint.contains(code)).collect();
    ensure!(!proofs.is_empty(), "no lint has a code that contains `{code}`");
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use routing_plan::lint::{LINTS, Shown};

    use super::{mesh, table::PROOFS};

    #[test]
    fn every_lint_that_is_shown_on_a_mesh_has_a_proof() {
        let shown = LINTS.iter().filter(|lint| lint.shown == Shown::OnMesh).map(|lint| lint.code);
        assert_eq!(shown.collect::<BTreeSet<_>>(), PROOFS.iter().map(|proof| proof.lint).collect());
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
}
