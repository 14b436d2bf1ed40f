//! The WASM filter.
