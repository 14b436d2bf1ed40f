//! The script and the core on the same random requests, for tests and fuzzing.

mod dice;
mod generate;

use std::collections::BTreeMap;

use mlua::Error;
use routing_claims::{Decider, Policy};

use self::dice::Dice;
use crate::luajit::{Filter, Lines};

/// How often each outcome came up, claim faults with `!` before their code.
pub type Tally = BTreeMap<String, u64>;

/// Makes a policy of some bytes and a request for it of each of others, and compares what the script and the core do: what is
/// stripped, set and reported, and whether the route is chosen anew. Any bytes will do; none give the plainest request.
///
/// # Errors
///
/// Where the two differ, with all that shows it.
pub fn compare<'b>(
    policy: &[u8],
    requests: impl IntoIterator<Item = &'b [u8]>,
    tally: &mut Tally,
) -> Result<(), String> {
    let mut dice = Dice::new(policy);
    let base = [1_700_000_000, 0, 59, -1000, 1 << 40][dice.roll(5)];
    let policy =
        Policy::new(generate::policy(&mut dice)).map_err(|error| format!("the generator's policy: {error}"))?;
    let config = policy.config().clone();
    let failed = |error: Error| format!("{error}\n{config:#?}");
    let filter = Filter::new(&crate::source(&policy)).map_err(failed)?;
    let mut decider = Decider::new(policy);
    let mut tokens = Vec::new();
    for bytes in requests {
        let mut dice = Dice::new(bytes);
        // The same tokens come again, at other times.
        let now = base + [0, 1, -1, 60, 400][dice.roll(5)];
        if tokens.is_empty() || !dice.once_in(3) {
            tokens.insert(0, generate::token(&mut dice, &config, base));
        }
        let lines = generate::request(&mut dice, &config, &tokens[..tokens.len().min(3)]);
        let slices = || lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));

        let decision = decider.decide(slices(), now);
        let kept = lines.iter().filter(|(name, _)| !decision.strips(name)).cloned();
        let set = decision.headers().map(|(name, value)| (name.into(), value.into()));
        let expected: Lines =
            kept.chain(set).map(|(name, value): (Vec<u8>, _)| (name.to_ascii_lowercase(), value)).collect();
        let changes = decision.changes_request();
        *tally.entry(decision.outcome().to_string()).or_default() += 1;
        for (fault, count) in decision.faults() {
            *tally.entry(format!("!{fault}")).or_default() += u64::from(count);
        }

        let answer = filter.decide(slices(), now).map_err(failed)?;
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

fn show(lines: &Lines) -> String {
    let line = |(name, value): &(Vec<u8>, Vec<u8>)| format!("  {}: {}", name.escape_ascii(), value.escape_ascii());
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
