//! The corpus of cases and its runner: every engine runs every case.
//!
//! `cases/README.md` describes the format of a case.

mod corpus;
mod engine;
mod macros;
mod run;

pub use corpus::{Case, Corpus, Later, Reject};
pub use engine::{Core, Engine, Lines, LuaJit, Seen};
pub use run::{Clock, Summary, policies, run};

#[cfg(feature = "envoy")]
pub mod envoy;
