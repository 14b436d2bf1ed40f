//! A real Istio control plane on loopback, without a cluster: etcd, kube-apiserver and istiod, and Envoys that istiod
//! configures over ADS as a gateway and sidecars.
//!
//! [`tools`] finds or builds the programs, [`ControlPlane`] runs them, [`Cluster`] applies and deletes resources,
//! [`Proxy`] is one Envoy of the mesh, bare or with Istio's agent, [`Registry`] serves the images that agents pull, [`app`]
//! contains the services behind the proxies, and [`Load`] sends a steady stream of requests. [`RunningController`] is the
//! controller, behind a [`Forwarder`], and [`Audit`] is what it asked the API for. Everything stops when it is dropped. This crate is for development only: nothing that ships depends on it.

pub mod app;
pub mod tools;

mod agent;
mod audit;
mod cluster;
mod control_plane;
mod forwarder;
pub mod load;
mod net;
mod opentelemetry;
mod prometheus;
mod proxy;
mod registry;
mod running_controller;
mod wait;

pub use agent::{Agent, AgentProgram};
pub use audit::{Audit, Call, Entry};
pub use cluster::{Apply, Cluster};
pub use control_plane::{ACCESS_LOG_PROVIDER, AUDITED, ControlPlane};
pub use forwarder::Forwarder;
pub use load::{Load, Phase, Steady, Tally};
pub use net::Net;
pub use opentelemetry::{Propagator, Sdk};
pub use prometheus::{Prometheus, Target};
pub use proxy::{HttpFilters, Kind, MARKER_HOST, Proxy, Workload, settle};
pub use registry::{Image, PasswordGate, Registry};
pub use running_controller::{Program, RunningController, SERVICE_ACCOUNT, installation};
pub use wait::{Readiness, until};
