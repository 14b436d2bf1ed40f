//! A plan of services and their versions to every Kubernetes resource of a mesh that routes by JWT claims.
//!
//! A plan walks through this crate in one direction: [`plan`] is what the user writes, [`resolve`] checks it and decides what
//! is left open, [`resources`] generates Kubernetes resources. [`lint`], [`explain`] and [`diff`] read resources,
//! generated or hand-written, as [`manifests`].
//!
//! # What it does not do
//!
//! It does no I/O, reads no clock, and knows neither YAML nor a terminal: values go in and come out. The command line,
//! `manifest-gen`, reads files and renders what is found; a controller can do the same with objects. A [`diagnostic`] is
//! therefore about a field of a document, not about a line of a file.
//!
//! ```
//! use routing_plan::{
//!     plan::{PlanMetadata, RoutingPlan},
//!     resolve::{Expiry, PlanFiles, resolve},
//!     resources,
//! };
//!
//! let plan: RoutingPlan = serde_json::from_value(serde_json::json!({
//!     "apiVersion": "routing-claims.dev/v1alpha1",
//!     "kind": "RoutingPlan",
//!     "metadata": {"name": "qa", "namespace": "istio-system"},
//!     "spec": {
//!         "filter": {"engine": "lua", "istioVersion": "1.27"},
//!         "services": [{"name": "microservice-A", "namespace": "a", "variants": [{"name": "PR-1"}]}],
//!     },
//! }))?;
//! let resolved = resolve(&plan, &[], &PlanFiles::default(), Expiry::Keep).map_err(|faults| format!("{faults:?}"))?;
//! let kinds: Vec<_> = resources::generate(&resolved).into_iter().map(|resource| resource.kind).collect();
//! assert_eq!(kinds, ["VirtualService", "EnvoyFilter"]);
//!
//! let unresolved = RoutingPlan { metadata: PlanMetadata { name: "QA".into(), ..plan.metadata.clone() }, ..plan };
//! let faults = resolve(&unresolved, &[], &PlanFiles::default(), Expiry::Keep).unwrap_err();
//! assert_eq!(faults[0].location.path.to_string(), "metadata.name");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod diagnosis;
pub mod diagnostic;
pub mod diff;
pub mod explain;
pub mod filter_names;
pub mod istio;
pub mod lint;
pub mod manifests;
pub mod plan;
pub mod resolve;
pub mod resources;
pub mod token_source;

mod attachment;
mod filter;
mod names;
mod re2;
mod views;

pub use names::kubernetes_service;
