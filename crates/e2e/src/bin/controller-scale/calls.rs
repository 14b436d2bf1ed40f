//! What the controller asked the API for.

use std::collections::BTreeMap;

use anyhow::Result;
use e2e::{Audit, Call};

/// How often each call was made. Leases do not count: they are renewed as time goes by.
#[derive(Clone, Debug)]
pub(crate) struct Calls(pub(crate) BTreeMap<Call, usize>);

impl Calls {
    pub(crate) fn since(audit: &Audit, begin: usize) -> Result<Self> {
        let mut calls = BTreeMap::new();
        for entry in audit.since(begin)?.into_iter().filter(|entry| entry.call.resource != "leases") {
            *calls.entry(entry.call).or_default() += 1;
        }
        Ok(Self(calls))
    }

    /// Those that change something, Events included.
    pub(crate) fn writes(&self) -> usize {
        self.count(is_write)
    }

    /// The others.
    pub(crate) fn reads(&self) -> usize {
        self.count(|call| !is_write(call))
    }

    fn count(&self, of: impl Fn(&Call) -> bool) -> usize {
        self.0.iter().filter(|(call, _)| of(call)).map(|(_, count)| count).sum()
    }
}

pub(crate) fn is_write(call: &Call) -> bool {
    !matches!(&*call.verb, "get" | "list" | "watch")
}
