//! Faults around the filters, and what the filters log, on a real Envoy.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

mod faults;
mod native;
mod scene;
mod secrecy;
mod traps;
