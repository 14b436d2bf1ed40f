//! A JWT's claims decide which version of each service answers a request.
//!
//! A tester's token carries `{"microservice-A": "PR-1"}`. A proxy at every hop of a mesh asks this crate what to do with
//! a request and gets: remove these headers, set `microservice-a: PR-1`. A route that matches the header does the rest.
//!
//! ```
//! use routing_claims::{Decider, Outcome, Policy};
//!
//! // What a user configures. For other formats than JSON, `PolicyConfig` implements serde's traits.
//! let policy = Policy::from_json(br#"{"services": [{"name": "microservice-A"}, {"name": "microservice-B"}]}"#)?;
//!
//! // One for each worker thread: it holds the memory that deciding needs.
//! let mut decider = Decider::new(policy);
//!
//! // The payload in the middle of this token is {"microservice-A":"PR-1"}.
//! let token = b"Bearer eyJhbGciOiJub25lIn0.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ.";
//! let request: Vec<(&[u8], &[u8])> = vec![
//!     (b"host", b"shop.example"),
//!     (b"authorization", token),
//!     (b"microservice-b", b"PR-9"), // the client made this up
//! ];
//! let now = 1_700_000_000; // Unix seconds
//! let decision = decider.decide(request.iter().copied(), now);
//!
//! assert_eq!(decision.outcome(), Outcome::Applied);
//! assert!(decision.removes(b"microservice-b"));
//! assert!(decision.set_headers().eq([("microservice-a", "PR-1")]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does not do
//!
//! It **verifies no signature**: put it behind a gateway that does. Routing headers choose which version answers and
//! nothing else; no service may take them as proof of identity. It does no I/O, reads no clock and knows no proxy: the
//! caller hands in the header lines and the time, and applies the [`Decision`].
//!
//! # Where the decider lives
//!
//! A [`Decider`] is `&mut` while it decides, and its cache belongs to it. So:
//!
//! - A server with worker threads gives each worker a [`Decider`]; they share one [`Policy`].
//! - A server whose tasks move between threads, or that clones its services for each connection, shares a [`DeciderPool`].
//! - A caller that can't apply the decision at once keeps an [`OwnedDecision`].
//! - A new configuration is a new [`Policy`] and new deciders; decisions of the old ones stay valid.
//!
//! The repository has an example for each: a plain loop, a tower layer in front of an axum service, and an external
//! processor that Envoy calls.
//!
//! # Promises
//!
//! - Deciding never fails, never panics, allocates nothing on the heap, and takes time linear in the token's size, except
//!   for sorting the keys of its routes.
//! - The codes of [`Outcome`] and [`ClaimFault`] are stable. A later version may add some.
//! - `Debug` of a type that holds a token, a payload or a claim does not show it. [`PolicyError`] is safe to log.
//! - A change of the oldest supported Rust version is a minor version.
//!
//! The rules that comments refer to (R1 to R18) are in [`behaviour`].
//!
//! # Features
//!
//! None is on by default.
//!
//! - `http`: `Decider::decide_header_map` and `Decision::apply`, for the `HeaderMap` of the `http` crate.
//! - `schema`: JSON Schema of [`PolicyConfig`] by `schemars`.
//!
//! serde is not optional: it reads the policy, as every caller does, and nearly every server has it anyway.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod cache;
mod claims;
mod config;
mod decision;
mod diagnostic;
mod json;
mod judgement;
mod limits;
mod names;
mod outcome;
mod policy;
mod pool;
mod source;
mod swar;
mod time;
mod token;

#[doc = include_str!("../behaviour.md")]
pub mod behaviour {}

pub use config::{HeaderSourceConfig, LimitsConfig, PolicyConfig, ServiceConfig, TokenFormat};
pub use decision::{Decider, Decision, OwnedDecision};
pub use diagnostic::{FieldPath, FieldSegment, PolicyDiagnostic, PolicyDiagnosticKind, PolicyError};
pub use outcome::{ClaimFault, Description, Outcome};
pub use policy::{Mode, Policy};
pub use pool::{DeciderPool, PooledDecider};

/// Whether a claim's value is a version (R12): 1 to 63 of `A-Z a-z 0-9 . _ -`, the first and the last alphanumeric.
///
/// ```
/// assert!(routing_claims::is_version("PR-1"));
/// assert!(!routing_claims::is_version("PR 1"));
/// ```
#[must_use]
pub fn is_version(text: &str) -> bool {
    claims::is_version(text.as_bytes())
}

/// Whether a claim's key can name a service in prefix mode (R10): 1 to 63 of `A-Z a-z 0-9 . _ -`.
///
/// In listed mode the policy names its services itself, and a name may be any 1 to 63 bytes of UTF-8.
#[must_use]
pub fn is_service_name(text: &str) -> bool {
    claims::is_name(text.as_bytes())
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Whether the scanner reads a text as `serde_json` does, for the fuzz target `json`; only `cargo fuzz` builds this.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn json_agreement(text: &[u8]) -> Result<(), String> {
    json::reference::agreement(text)
}
