//! Manifests as texts: what `lint`, `explain` and `diff` make of them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod causes;
mod diff;
mod documents;
mod explain;
mod filters;
mod hops;
mod lint;
mod lists;
mod routes;

use std::sync::Arc;

use manifest_gen::{documents::Documents, yaml::File};
use routing_plan::manifests::Manifest;

fn read(text: &str) -> Vec<Manifest> {
    let file = Arc::new(File { name: "a.yaml".into(), text: text.into() });
    Documents::default().read_manifests(&[file]).unwrap()
}
