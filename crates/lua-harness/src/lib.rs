//! A test harness for the Lua filter.
//!
//! [`Script`] runs a script in LuaJIT with a request handle that behaves as Envoy's does; [`differential`] compares the
//! filter with the core on random requests. Development only: nothing that is shipped depends on this crate.

pub mod differential;

mod host;

pub use host::{Lines, Processed, Script, borrowed};
