//! Routes requests by the claims of their JWT: the claims decide which version of each service answers.
//!
//! A tester's token contains `{"microservice-A": "PR-1"}`. At every hop of a mesh, a proxy passes a request to this crate and
//! gets a decision: remove these headers, set `microservice-a: PR-1`. A route that matches the header does the rest.
//!
//! ```
//! use routing_claims::{Decider, Outcome, Policy};
//!
//! // The configuration. For formats other than JSON, `PolicyConfig` implements serde's traits.
//! let policy = Policy::from_json(br#"{"services": [{"name": "microservice-A"}, {"name": "microservice-B"}]}"#)?;
//!
//! // One for each worker thread, because it owns the memory that deciding needs.
//! let mut decider = Decider::new(policy);
//!
//! // The payload in the middle of this token is {"microservice-A":"PR-1"}.
//! let token = b"Bearer eyJhbGciOiJub25lIn0.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ.";
//! let request: Vec<(&[u8], &[u8])> = vec![
//!     (b"host", b"shop.example"),
//!     (b"authorization", token),
//!     (b"microservice-b", b"PR-9"), // forged by the client
//! ];
//! let now = 1_700_000_000; // Unix seconds
//! let decision = decider.decide(request.iter().copied(), now);
//!
//! assert_eq!(decision.outcome(), Outcome::Applied);
//! assert!(decision.removes(b"microservice-b"));
//! assert!(decision.set_headers().eq([("microservice-a", &b"PR-1"[..])]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does not do
//!
//! It **does not verify signatures**: use it behind a gateway that does. Routing headers decide which version answers, and
//! nothing else. No service may use them as proof of identity.
//!
//! It does no I/O, reads no clock and knows no proxy. The caller passes the header lines and the time, and applies the
//! [`Decision`].
//!
//! # Where to keep the decider
//!
//! Deciding needs a [`Decider`] as `&mut`, because the decider owns its cache.
//!
//! - If your server has worker threads, give each worker a [`Decider`]. All deciders share one [`Policy`].
//! - If tasks move between threads, or the server clones its services for each connection, share a [`DeciderPool`].
//! - If you cannot apply the decision at once, keep an [`OwnedDecision`].
//! - For a new configuration, create a new [`Policy`] and new deciders. Decisions of the old ones stay valid.
//!
//! The repository has an example for each: a plain loop, a tower layer in front of an axum service, and an external
//! processor that Envoy calls.
//!
//! # Promises
//!
//! - Deciding never fails, never panics and allocates nothing on the heap. It takes time linear in the size of the token,
//!   except for sorting the keys of its routes, of which there are at most 128.
//! - The codes of [`Outcome`], [`ClaimFault`] and [`CarryFault`] are stable. A later version can add codes.
//! - `Debug` of a type that holds a token, payload or claim redacts it. [`PolicyError`] is safe to log.
//! - Raising the oldest supported Rust version is a minor version.
//!
//! The rules that comments refer to (R1 to R19) are in [`behaviour`].
//!
//! # Features
//!
//! None is on by default.
//!
//! - `http`: `Decider::decide_header_map` and `Decision::apply`, for the `HeaderMap` of the `http` crate.
//! - `schema`: the JSON Schema of [`PolicyConfig`], with `schemars`.
//!
//! serde is not optional, because every caller needs it to read the policy.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod baggage;
mod cache;
mod carry;
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
mod propagator;
mod source;
mod swar;
mod time;
mod token;

#[doc = include_str!("../behaviour.md")]
pub mod behaviour {}

pub use config::{CarryConfig, HeaderSourceConfig, LimitsConfig, PolicyConfig, ServiceConfig, TokenFormat};
pub use decision::{Decider, Decision, OwnedDecision, Step};
pub use diagnostic::{FieldPath, FieldSegment, PolicyDiagnostic, PolicyDiagnosticKind, PolicyError};
pub use outcome::{CarryFault, ClaimFault, Description, Outcome};
pub use policy::{Mode, Policy};
pub use pool::{DeciderPool, PooledDecider};

/// Whether the value of a claim is a version (R12): 1 to 63 of `A-Z a-z 0-9 . _ -` that start and end alphanumeric.
///
/// ```
/// assert!(routing_claims::is_version("PR-1"));
/// assert!(!routing_claims::is_version("PR 1"));
/// ```
#[must_use]
pub fn is_version(text: &str) -> bool {
    claims::is_version(text.as_bytes())
}

/// Whether the key of a claim can name a service in prefix mode (R10): 1 to 63 of `A-Z a-z 0-9 . _ -`.
///
/// In listed mode, the policy lists the names of its services, which can be any 1 to 63 bytes of UTF-8.
#[must_use]
pub fn is_service_name(text: &str) -> bool {
    claims::is_name(text.as_bytes())
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Whether the scanner reads a text like `serde_json`, for the fuzz target `json`. Only `cargo fuzz` builds this.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn json_agreement(text: &[u8]) -> Result<(), String> {
    json::reference::agreement(text)
}
