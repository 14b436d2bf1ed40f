//! A controller that keeps the routes of a mesh: a labelled Service becomes a version that tokens choose.
//!
//! The cluster's objects are read into [`observed`], [`reconcile`](reconcile::reconcile) decides what follows from them, and
//! [`run`] writes the difference. Reconciling is a pure function: it does no I/O and reads no clock.

mod apply;
mod drain;
mod events;
mod metrics;
mod routes;
mod server;
mod status;
mod watch;

pub mod definitions;
pub mod kinds;
pub mod objects;
pub mod observed;
pub mod rbac;
pub mod reconcile;
pub mod run;

/// Name of the program as it writes: of its fields in objects, of its events, of its lease.
pub const NAME: &str = "routing-claims-controller";
