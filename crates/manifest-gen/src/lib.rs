//! The command line of [`routing_plan`]: files, arguments, and how diagnostics are shown. All I/O is in [`cli`].

pub mod cli;
pub mod docs;
pub mod findings;
pub mod show;
pub mod token;
