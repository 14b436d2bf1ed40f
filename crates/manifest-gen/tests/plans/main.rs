//! Plans as texts: what they give, and what is said of those that are wrong.

mod common;
mod problems;
mod properties;
mod render;
