//! A hostile client for the filters on a real Envoy, and an oracle that computes the expected result.

pub mod attack;
pub mod envoy;
pub mod generate;
pub mod health;
pub mod lane;
pub mod oracle;
pub mod tally;
pub mod target;
