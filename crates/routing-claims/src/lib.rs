//! Core.
mod config;
mod limits;
mod outcome;

pub use config::{HeaderSourceConfig, LimitsConfig, PolicyConfig, ServiceConfig, TokenFormat};
pub use outcome::{ClaimFault, Explanation, Outcome};
