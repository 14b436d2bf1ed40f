//! Plans as texts: what they give, and what is said of those that are wrong.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod common;
mod problems;
mod properties;
mod render;
