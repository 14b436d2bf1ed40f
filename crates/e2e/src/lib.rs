//! A real Istio control plane on loopback, without a cluster: etcd, kube-apiserver and istiod, with bare Envoys as gateway
//! and sidecars that istiod configures over ADS.
//!
//! [`tools`] finds or builds the programs, [`ControlPlane`] runs them, [`Cluster`] applies and deletes resources,
//! [`Proxy`] is one Envoy of the mesh, [`app`] has the services behind them, [`Load`] sends requests all the time.
//! Everything stops when it is dropped. Development only: nothing that is shipped depends on this crate.

pub mod app;
pub mod tools;

mod cluster;
mod control_plane;
pub mod load;
mod net;
mod proxy;
mod wait;

pub use cluster::Cluster;
pub use control_plane::ControlPlane;
pub use load::{Load, Phase, Steady, Tally};
pub use net::Net;
pub use proxy::{Kind, MARKER_HOST, Proxy, settle};
pub use wait::until;
