//! Plans as texts: what they render, and the errors of those that are invalid.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;
mod errors;
mod properties;
mod read_back;
mod render;
