//! Decisions of the core beside other ways to read a token: `cargo xtask bench core`.

fn main() {}
