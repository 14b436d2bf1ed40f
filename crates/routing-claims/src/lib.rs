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
//! It **verifies no signature**: a gateway before it must have done so. Routing headers choose which version answers and
//! nothing else; no service may take them for identity. It does no I/O, reads no clock and knows no proxy: whoever calls
//! it hands in the header lines and the time, and applies the [`Decision`].
//!
//! # Promises
//!
//! - Deciding never fails, never panics, allocates nothing on the heap, and takes time linear in the token's size, but for
//!   sorting the keys of its routes.
//! - Each [`Outcome`] and [`ClaimFault`] has a stable code.
//! - `Debug` of a type that holds a token, a payload or a claim does not show it.
//!
//! The rules that the comments number (R1 to R18) stand in `docs/behaviour.md` of the repository.
//!
//! # Features
//!
//! - `schema`: JSON Schema of [`PolicyConfig`] by `schemars`.

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

/// Whether the scanner reads a text as `serde_json` does, for the fuzz target `json`; only `cargo fuzz` builds this.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn json_agreement(text: &[u8]) -> Result<(), String> {
    json::reference::agreement(text)
}
