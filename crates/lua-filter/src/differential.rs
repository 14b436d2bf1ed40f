//! The script and the core on the same random requests, for tests and fuzzing.

mod dice;
mod generate;

use std::collections::BTreeMap;

use routing_claims::{Decider, Policy, PolicyConfig};

use self::dice::Dice;
use crate::luajit::{Filter, Lines};

/// How often each outcome and claim fault came up.
pub type Tally = BTreeMap<&'static str, u64>;

/// The script and the core with one policy.
#[derive(Debug)]
pub struct Pair {
    config: PolicyConfig,
    /// What the tokens' times are about.
    base: i64,
    filter: Filter,
    decider: Decider,
}

impl Pair {
    /// Makes a policy of any bytes; none give the plainest one.
    ///
    /// # Errors
    ///
    /// When the policy or its script does not load, which is a fault of the generator or of the script's writer.
    pub fn new(policy: &[u8]) -> Result<Self, String> {
        let mut dice = Dice::new(policy);
        let base = [1_700_000_000, 0, 59, -1000, 1 << 40][dice.roll(5)];
        let policy = Policy::new(generate::policy(&mut dice)).map_err(|error| error.to_string())?;
        let config = policy.config().clone();
        let filter = Filter::new(&crate::source(&policy)).map_err(|error| format!("{error}\n{config:#?}"))?;
        Ok(Self { config, base, filter, decider: Decider::new(policy) })
    }

    /// Makes a request of each of some bytes, and compares what the script and the core do with it: what is stripped, set
    /// and reported, and whether the route is chosen anew.
    ///
    /// # Errors
    ///
    /// Where the two differ, with all that shows it.
    pub fn compare<'b>(
        &mut self,
        requests: impl IntoIterator<Item = &'b [u8]>,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let Self { config, base, filter, decider } = self;
        let mut tokens = Vec::new();
        for bytes in requests {
            let mut dice = Dice::new(bytes);
            // The same tokens come again, at other times.
            let now = *base + [0, 1, -1, 60, 400][dice.roll(5)];
            if tokens.is_empty() || !dice.once_in(3) {
                tokens.insert(0, generate::token(&mut dice, config, *base));
            }
            let lines = generate::request(&mut dice, config, &tokens[..tokens.len().min(3)]);
            let slices = || lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));

            let decision = decider.decide(slices(), now);
            let kept = lines.iter().filter(|(name, _)| !decision.removes(name)).cloned();
            let set = decision.set_headers().map(|(name, value)| (name.into(), value.into()));
            let expected: Lines =
                kept.chain(set).map(|(name, value): (Vec<u8>, _)| (name.to_ascii_lowercase(), value)).collect();
            let changes = decision.changes_request();
            *tally.entry(decision.outcome().code()).or_default() += 1;
            for (fault, count) in decision.faults() {
                *tally.entry(fault.code()).or_default() += u64::from(count);
            }

            let answer = filter.decide(slices(), now).map_err(|error| format!("{error}\n{config:#?}"))?;
            let same = answer.headers == expected
                && (answer.edited, answer.cleared) == (changes, changes)
                && answer.logs.is_empty();
            if !same {
                return Err(format!(
                    "the script gives\n{}\nedited {}, cleared {}, logged {:?}\nthe core gives\n{}\nchanged {changes}\nfor\n{}\nat {now} by {config:#?}",
                    show(&answer.headers),
                    answer.edited,
                    answer.cleared,
                    answer.logs,
                    show(&expected),
                    show(&lines),
                ));
            }
        }
        Ok(())
    }
}

fn show(lines: &Lines) -> String {
    let line = |(name, value): &(Vec<u8>, Vec<u8>)| format!("  {}: {}", name.escape_ascii(), value.escape_ascii());
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
