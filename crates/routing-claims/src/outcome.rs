//! All codes: the outcomes of a request and the faults of a claim (R14).

use std::fmt;

/// Defines an enum of codes with its stable text and what the documentation says of each.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal: $meaning:literal, $cause:literal, $remedy:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = $meaning] $variant,)*
        }

        impl $name {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable kebab-case code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// Its place in [`ALL`](Self::ALL), for tables such as one counter per code.
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// What it means, what causes it and what to do about it.
            #[must_use]
            pub const fn description(self) -> Description {
                match self {
                    $(Self::$variant => Description { meaning: $meaning, cause: $cause, remedy: $remedy },)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.code())
            }
        }
    };
}

codes! {
    /// What became of a request: exactly one per request.
    ///
    /// A later version may add an outcome, so a `match` needs a wildcard arm. What to do with the request is in the
    /// [`Decision`](crate::Decision) and never depends on that match; the outcome is for counters, logs and people.
    Outcome {
        Applied = "applied":
            "At least one routing header was set.",
            "The token names a version for at least one service of the policy.",
            "Nothing to do. Skipped claims, if any, follow in the report.";
        NoToken = "no-token":
            "No source held a token; the request goes to the baseline.",
            "The header or cookie is missing, or the header lacks the configured prefix.",
            "Send the token, or add its place to `fromHeaders` or `fromCookies`. At an inner hop: let the service forward the header.";
        NoRoutes = "no-routes":
            "The token is fine but gives no route; the request goes to the baseline.",
            "No claim names a service of the policy, `claimPath` leads nowhere, or every claim has a fault.",
            "Compare the payload with `claimPath` and `services`; the report names each skipped claim.";
        AmbiguousToken = "ambiguous-token":
            "The winning source holds more than one token; none is used.",
            "Two header lines with the prefix, or two cookies of the name.",
            "Send one. Look for a proxy or client library that adds a second line.";
        TokenTooLarge = "token-too-large":
            "The token or its decoded payload is over the limit.",
            "`limits.maxTokenBytes` or `limits.maxPayloadBytes` is smaller than the token.",
            "Make the token smaller, or raise the limit.";
        MalformedToken = "malformed-token":
            "The token has not the configured form.",
            "Not two dots, an empty segment, or a payload that is no base64url; or `format` does not fit the token.",
            "Decode the token; set `format` to `payload` when the source holds only the payload.";
        MalformedPayload = "malformed-payload":
            "The payload is no JSON object as RFC 8259 has it, or a member the policy reads has the wrong type.",
            "A hand-made token, invalid UTF-8, `exp` or `nbf` that is no number, or a `claimPath` that meets no object.",
            "Decode the payload and check it with a strict JSON parser.";
        TooDeep = "too-deep":
            "Objects and arrays of the payload nest deeper than allowed.",
            "`limits.maxDepth` is smaller than the payload's depth; the payload itself counts as one.",
            "Make the payload flatter, or raise the limit.";
        DuplicateKey = "duplicate-key":
            "A member that the policy reads stands twice in one object.",
            "The token's issuer wrote the key twice, perhaps once with escapes.",
            "Mend the issuer: readers of such JSON disagree on which one counts.";
        Expired = "expired":
            "The token's `exp` has passed.",
            "The token is older than its lifetime plus `clockSkewSeconds`, or a clock is wrong.",
            "Get a new token; check the clocks.";
        NotYetValid = "not-yet-valid":
            "The token's `nbf` has not come.",
            "The token is used before its time minus `clockSkewSeconds`, or a clock is wrong.",
            "Wait, or check the clocks.";
        TooManyRoutes = "too-many-routes":
            "The token has more valid claims than allowed, or over 128 claims of any kind; none is applied.",
            "`limits.maxRoutes` is smaller than the number of services the token names, or the routes object has over 128 keys.",
            "Name fewer services, or raise the limit.";
    }
}

codes! {
    /// Why one claim was skipped. The token's other claims are not affected.
    ///
    /// A later version may add a fault, so a `match` needs a wildcard arm.
    ClaimFault {
        InvalidName = "invalid-name":
            "The key can't be part of a header's name.",
            "Open mode: the key is not 1 to 63 of `A-Z a-z 0-9 . _ -`.",
            "Rename the service in the token, or list it in `services` with a `header`.";
        ConflictingName = "conflicting-name":
            "Two keys name the same header; the service gets none.",
            "Keys that differ only in case, such as `API` and `api`.",
            "Keep one of them.";
        InvalidValue = "invalid-value":
            "The value is no version.",
            "Not 1 to 63 of `A-Z a-z 0-9 . _ -` between alphanumeric ends, and no whole number of at most 63 digits.",
            "Write the version as the variant's name stands in the plan.";
    }
}

/// What the documentation says about a code: one sentence or more in each field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// What it means for the request.
    pub meaning: &'static str,
    /// What causes it.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_kebab_case() {
        let codes: Vec<_> =
            Outcome::ALL.iter().map(|o| o.code()).chain(ClaimFault::ALL.iter().map(|f| f.code())).collect();
        assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
        assert!(Outcome::ALL.iter().enumerate().all(|(index, outcome)| outcome.index() == index));
        assert!(ClaimFault::ALL.iter().enumerate().all(|(index, fault)| fault.index() == index));
        for code in codes {
            assert!(
                code.split('-').all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase())),
                "{code}"
            );
        }
    }
}
