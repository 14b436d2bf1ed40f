//! From one plan to every Kubernetes resource of a mesh that routes by JWT claims.
//!
//! A plan walks this crate in one direction: [`yaml`] (text to a tree with places), [`plan`] (tree to what the user
//! wrote), [`model`] (that to a valid [`Mesh`](model::Mesh)), [`resources`] (mesh to Kubernetes resources). [`lint`],
//! [`explain`] and [`diff`] read resources back, generated or hand-written. None of these does any I/O or reads a clock.
//!
//! ```
//! use std::sync::Arc;
//! use routing_plan::{model::{self, Expiry}, plan, resources, yaml::File};
//!
//! let text = r#"
//! apiVersion: routing-claims.dev/v1alpha1
//! kind: RoutingPlan
//! metadata: {name: qa, namespace: istio-system}
//! spec:
//!   filter: {engine: lua, istioVersion: "1.24"}
//!   services:
//!   - {name: microservice-A, namespace: microservice-a, variants: [{name: PR-1}]}
//! "#;
//! let input = plan::read(&[Arc::new(File { name: "plan.yaml".into(), text: text.into() })]).unwrap();
//! let mesh = model::build(&input, Expiry::Keep, &|path| Err(std::io::Error::other(path))).unwrap();
//! let names: Vec<_> = resources::generate(&mesh).iter().map(|resource| resource.file_name()).collect();
//! assert_eq!(names, [
//!     "istio-system.envoyfilter.routing-claims-qa.yaml",
//!     "microservice-a.virtualservice.routing-claims-microservice-a.yaml",
//! ]);
//! ```

pub mod diagnostic;
pub mod diff;
pub mod explain;
pub mod lint;
pub mod manifests;
pub mod migrate;
pub mod model;
pub mod plan;
pub mod problem;
pub mod render;
pub mod resources;
pub mod yaml;

mod names;
mod shape;
