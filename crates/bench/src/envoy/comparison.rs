//! Two builds of the WASM filter or of the native module, compared round by round in one Envoy.

use std::fmt::Write as _;

use anyhow::Result;
use testbed::EnvoyBinary;

use super::{
    report::{self, Measured, Spread},
    variants::{Case, FilterKind, REFERENCE, Tokens},
};

/// Both builds with a known token and with new ones, and what they are measured against.
pub(super) fn cases(ours: FilterKind) -> Vec<Case> {
    let mut cases = vec![REFERENCE];
    for tokens in [Tokens::Same, Tokens::Distinct] {
        cases.extend([FilterKind::Other, ours].map(|filter| Case { filter, tokens, ..REFERENCE }));
    }
    cases
}

/// A table in Markdown.
pub(super) fn report(binary: &EnvoyBinary, ours: FilterKind, measured: &[Measured]) -> Result<String> {
    let rounds = measured.first().map_or(0, |measured| measured.nanoseconds.len());
    let mut out = format!(
        "{}, Envoy {}, one worker, {rounds} rounds.\n\n\
         CPU time of the worker that the filter adds to a request, in µs: median (quartiles). The difference is \
         that of the two filters in the same round.\n\n\
         | tokens | {} | {} | difference | in percent |\n|---|---|---|---|---|\n",
        report::machine(),
        binary.version,
        FilterKind::Other.label(),
        ours.label(),
    );
    for (tokens, label) in [(Tokens::Same, "one"), (Tokens::Distinct, "all different")] {
        let added = |filter| report::added(measured, Case { filter, tokens, ..REFERENCE });
        let (before, after) = (added(FilterKind::Other)?, added(ours)?);
        let difference = Spread::of(after.iter().zip(&before).map(|(after, before)| after - before).collect());
        let (before, after) = (Spread::of(before), Spread::of(after));
        let percent = difference.median / before.median * 100.0;
        writeln!(out, "| {label} | {before} | {after} | {difference} | {percent:+.0} |")?;
    }
    Ok(out)
}
