//! What runs a case.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Display,
};

use anyhow::{Error, Result, ensure};
use lua_harness::Script;
use routing_claims::{Decider, Policy};
use serde_json::{Map, Value};

/// Header lines: names and values as bytes.
pub type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// What came out behind an engine.
#[derive(Debug)]
pub struct Seen {
    /// The header lines that arrived upstream, names in lower case.
    pub lines: Lines,
    /// Whether the route was chosen anew (R15).
    pub rerouted: bool,
}

/// An implementation of the rules, with every policy of the corpus loaded.
pub trait Engine {
    /// Sends a request through the filter of this policy. The time is for engines that have no clock of their own.
    fn send(&mut self, policy: &Map<String, Value>, request: &Lines, now: i64) -> impl Future<Output = Result<Seen>>;
}

/// The core crate.
#[derive(Debug, Default)]
pub struct Core {
    deciders: BTreeMap<String, Decider>,
}

impl Core {
    /// The decider of a policy, which stays the same from request to request.
    fn decider(&mut self, policy: &Map<String, Value>) -> Result<&mut Decider> {
        Ok(match self.deciders.entry(serde_json::to_string(policy)?) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let decider = Decider::new(Policy::from_json(entry.key().as_bytes())?);
                entry.insert(decider)
            }
        })
    }
}

/// The Lua filter in a LuaJIT with Envoy's request handle.
#[derive(Debug, Default)]
pub struct LuaJit {
    scripts: BTreeMap<String, Script>,
}

impl Engine for Core {
    async fn send(&mut self, policy: &Map<String, Value>, request: &Lines, now: i64) -> Result<Seen> {
        let decision =
            self.decider(policy)?.decide(request.iter().map(|(name, value)| (name.as_slice(), value.as_slice())), now);
        let kept = request.iter().filter(|(name, _)| !decision.removes(name)).cloned();
        let set = decision.set_headers().map(|(name, value)| (name.into(), value.into()));
        let lines = kept.chain(set).map(|(name, value): (Vec<u8>, _)| (name.to_ascii_lowercase(), value)).collect();
        Ok(Seen { lines, rerouted: decision.changes_request() })
    }
}

impl Engine for LuaJit {
    async fn send(&mut self, policy: &Map<String, Value>, request: &Lines, now: i64) -> Result<Seen> {
        let script = match self.scripts.entry(serde_json::to_string(policy)?) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let source = lua_filter::source(&Policy::from_json(entry.key().as_bytes())?);
                entry.insert(Script::new(&source).map_err(script_error)?)
            }
        };
        let headers = request.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        let answer = script.run(headers, now).map_err(script_error)?;
        ensure!(answer.logs.is_empty(), "the script logs {:?}", answer.logs);
        Ok(Seen { lines: answer.headers, rerouted: answer.edited || answer.cleared })
    }
}

/// An error of `mlua` stays in its thread.
fn script_error(error: impl Display) -> Error {
    Error::msg(error.to_string())
}
