//! A real Envoy on loopback, with clients in front of it and upstreams behind it, for tests and the demo.
//!
//! [`locate`] finds or installs an Envoy, [`Envoy`] is one running process, [`config`] contains pieces of its
//! configuration, [`client`] sends requests byte for byte, and [`echo`] answers with the bytes that arrived. This crate is
//! for development only: nothing that ships depends on it.

pub mod client;
pub mod config;
pub mod echo;
pub mod venv;

mod binary;
mod envoy;
mod group;
mod offer;
mod signal;
mod wire;
mod workspace;

pub use binary::{ENVOY_VERSION, EnvoyBinary, Version, locate, locate_previous};
pub use envoy::{Envoy, Options};
pub use group::Group;
pub use offer::{Acknowledgement, Offer};
pub use signal::{signalled, until_signal};
pub use workspace::{cargo, module_path, program_target, target_dir, workspace_dir};

/// Header lines as they are on the wire, in order: name and value, any bytes.
pub type Headers = Vec<(Vec<u8>, Vec<u8>)>;
