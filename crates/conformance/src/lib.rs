//! The conformance corpus and its runner.
