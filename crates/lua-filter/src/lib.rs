//! The filter as one self-contained Lua script for Envoy's HTTP Lua filter.
//!
//! `routing-claims.lua` is a separate implementation. The shared corpus and a differential test keep it equal to the
//! `routing-claims` crate. [`source`] returns its text for a policy. Like the core, it **does not verify signatures**.

mod policy;

use routing_claims::Policy;

/// The script as it is in the repository, with an example policy.
const EXAMPLE: &str = include_str!("routing-claims.lua");

/// The script with this policy, ready for `default_source_code.inline_string`.
///
/// The text is ASCII without backslashes, tabs or control characters other than the line feed, so it is unchanged in a YAML
/// literal block.
#[must_use]
pub fn source(policy: &Policy) -> String {
    let (head, rest) = EXAMPLE.split_once(BEGIN).unwrap_or((EXAMPLE, ""));
    let (_, tail) = rest.split_once(END).unwrap_or(("", rest));
    let needs_carry = policy::reads_baggage_or_carries(policy.config());
    let (head, tail) =
        if needs_carry { (head.into(), tail.into()) } else { (without_carry(head), without_carry(tail)) };
    format!("{head}{BEGIN}{}{END}{tail}", policy::table(policy))
}

/// The script without the code that only carriers and `baggage` need, a quarter of it. `TrafficExtension` limits its length.
fn without_carry(mut script: &str) -> String {
    let mut kept = String::new();
    while let Some((before, rest)) = script.split_once(CARRY_BEGIN) {
        kept.push_str(before.trim_end_matches(' '));
        script = rest.split_once(CARRY_END).map_or("", |(_, after)| after);
    }
    kept + script
}

const BEGIN: &str = "-- policy begin (manifest-gen writes this part; docs/policy.md explains the fields)\n";
const END: &str = "-- policy end\n";
const CARRY_BEGIN: &str = "-- carry begin";
const CARRY_END: &str = "-- carry end\n";
