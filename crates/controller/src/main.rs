//! `routing-claims-controller`.

fn main() {}
