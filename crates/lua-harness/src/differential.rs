//! Differential testing: the script and the core on the same random requests.

mod dice;
mod generate;

use std::collections::BTreeMap;

use routing_claims::{Decider, Policy, PolicyConfig, PolicyError};
use thiserror::Error;

use self::dice::Dice;
use crate::{Lines, Processed, Script, borrowed};

/// How often each outcome and claim fault occurred.
pub type Tally = BTreeMap<&'static str, u64>;

/// The script and the core with one policy.
#[derive(Debug)]
pub struct Pair {
    config: PolicyConfig,
    /// The Unix time that the tokens' times are around.
    base: i64,
    script: Script,
    decider: Decider,
}

/// The script and the core differ, or one of them does not start.
#[derive(Debug, Error)]
pub enum Error {
    /// The generated policy is invalid: a fault of the generator.
    #[error("the generated policy is invalid: {0}")]
    Policy(#[from] PolicyError),
    /// The script does not load or raises an error.
    #[error("{error}\npolicy {config:#?}")]
    Script {
        /// From LuaJIT.
        error: String,
        /// The script's policy.
        config: Box<PolicyConfig>,
    },
    /// The script does something else than the core.
    #[error(
        "the script gives\n{}\nedited {}, cleared {}, logged {:?}\nthe core gives\n{}\nchanged {}\nfor\n{}\nat {} with policy {:#?}",
        show(&.0.script.headers), .0.script.edited, .0.script.cleared, .0.script.logs,
        show(&.0.core), .0.core_changed, show(&.0.request), .0.now, .0.config
    )]
    Difference(Box<Difference>),
}

/// A request that the script and the core treat differently.
#[derive(Debug)]
pub struct Difference {
    /// Header lines.
    pub request: Lines,
    /// In Unix seconds.
    pub now: i64,
    /// The policy.
    pub config: PolicyConfig,
    /// What the script made of the request.
    pub script: Processed,
    /// The lines that are left when the core's decision is applied.
    pub core: Lines,
    /// Whether the core's decision changes the request.
    pub core_changed: bool,
}

impl Pair {
    /// Makes a policy from any bytes; no bytes make the plainest one.
    ///
    /// # Errors
    ///
    /// When the policy or its script does not load.
    pub fn new(policy: &[u8]) -> Result<Self, Error> {
        let mut dice = Dice::new(policy);
        let base = [1_700_000_000, 0, 59, -1000, 1 << 40][dice.roll(5)];
        let policy = Policy::new(generate::policy(&mut dice))?;
        let config = policy.config().clone();
        let script = Script::new(&lua_filter::source(&policy)).map_err(|error| script_error(&error, &config))?;
        Ok(Self { config, base, script, decider: Decider::new(policy) })
    }

    /// Makes a request from each of some bytes and compares what the script and the core do with it: the headers that
    /// they remove, set and report, and whether the route cache is cleared.
    ///
    /// # Errors
    ///
    /// When the two differ.
    pub fn compare<'b>(
        &mut self,
        requests: impl IntoIterator<Item = &'b [u8]>,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let Self { config, base, script, decider } = self;
        let mut tokens = Vec::new();
        for bytes in requests {
            let mut dice = Dice::new(bytes);
            // The same tokens occur again, at other times.
            let now = *base + [0, 1, -1, 60, 400][dice.roll(5)];
            if tokens.is_empty() || !dice.once_in(3) {
                tokens.insert(0, generate::token(&mut dice, config, *base));
            }
            let request = generate::request(&mut dice, config, &tokens[..tokens.len().min(3)]);

            let decision = decider.decide(borrowed(&request), now);
            let kept = request.iter().filter(|(name, _)| !decision.removes(name)).cloned();
            let set = decision.set_headers().map(|(name, value)| (name.into(), value.into()));
            let core: Lines =
                kept.chain(set).map(|(name, value): (Vec<u8>, _)| (name.to_ascii_lowercase(), value)).collect();
            let core_changed = decision.changes_request();
            *tally.entry(decision.outcome().code()).or_default() += 1;
            for (fault, count) in decision.faults() {
                *tally.entry(fault.code()).or_default() += u64::from(count);
            }
            if let Some(fault) = decision.carry_fault() {
                *tally.entry(fault.code()).or_default() += 1;
            }
            let carrier = config.carry.as_ref().map(|carry| carry.header.as_deref().unwrap_or("baggage"));
            if carrier.is_some_and(|carrier| decision.set_headers().any(|(name, _)| name == carrier)) {
                *tally.entry("carrier written").or_default() += 1;
            }

            let processed = script.run(borrowed(&request), now).map_err(|error| script_error(&error, config))?;
            let same = by_name(&processed.headers) == by_name(&core)
                && (processed.edited, processed.cleared) == (core_changed, core_changed)
                && processed.logs.is_empty();
            if !same {
                let config = config.clone();
                let difference = Difference { request, now, config, script: processed, core, core_changed };
                return Err(Error::Difference(Box::new(difference)));
            }
        }
        Ok(())
    }
}

/// The lines in order of name. The order of lines with different names has no meaning (RFC 9110 section 5.3).
fn by_name(lines: &Lines) -> Lines {
    let mut lines = lines.clone();
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    lines
}

/// An error of `mlua` can't leave its thread, so its text does.
fn script_error(error: &mlua::Error, config: &PolicyConfig) -> Error {
    Error::Script { error: error.to_string(), config: Box::new(config.clone()) }
}

fn show(lines: &Lines) -> String {
    let line = |(name, value): &(Vec<u8>, Vec<u8>)| format!("  {}: {}", name.escape_ascii(), value.escape_ascii());
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
