//! A controller that keeps the routes of a mesh: a labelled Service becomes a version that tokens choose.

pub mod definitions;
pub mod objects;
pub mod rbac;
