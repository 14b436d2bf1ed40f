//! The command line of [`routing_plan`]: files and arguments go in, resources, findings and diagnostics come out.
//!
//! [`documents`] reads files as [`yaml`], checks them against the JSON Schemas, and turns a diagnostic's location back into file, line and
//! column. [`render`] writes resources. All I/O is in [`cli`].

pub mod cli;
pub mod diagnostic;
pub mod docs;
pub mod documents;
pub mod findings;
pub mod kustomize;
pub mod migrate;
pub mod render;
pub mod token;
pub mod yaml;

mod schema;
