//! All codes: the outcomes of a request, the faults of a claim, and those of the carrier (R14).

use std::fmt;

/// Defines an enum of codes. Each variant has its stable code, meaning, cause and remedy.
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

            /// Its index in [`ALL`](Self::ALL), for tables such as one counter per code.
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
    /// The outcome of a request. Each request has exactly one.
    ///
    /// A later version can add an outcome, so a `match` needs a wildcard arm. What to do with the request is in the
    /// [`Decision`](crate::Decision) and never depends on that match. The outcome is for counters, logs and people.
    Outcome {
        Applied = "applied":
            "At least one routing header was set.",
            "The token names a version for at least one service of the policy.",
            "None. The report lists skipped claims, if there are any.";
        NoToken = "no-token":
            "The request has no token in a source of the policy. It goes to the baseline.",
            "The header, cookie or baggage member is missing, or the header does not have the configured prefix.",
            "Send the token, or add its header, cookie or baggage key to `fromHeaders`, `fromCookies` or `fromBaggage`. Inside the mesh, make the service forward the header.";
        NoRoutes = "no-routes":
            "The token is valid but results in no route. The request goes to the baseline.",
            "No claim names a service of the policy, the payload has nothing at `claimPath`, or every claim has a fault.",
            "Compare the payload with `claimPath` and `services`. The report lists skipped claims.";
        AmbiguousToken = "ambiguous-token":
            "The winning source contains more than one token. None is used.",
            "Two values with the prefix in the header, two cookies with the name, or two baggage members with the key.",
            "Send one token. Look for a proxy or client library that adds another.";
        TokenTooLarge = "token-too-large":
            "The token or its decoded payload exceeds the limit.",
            "The token exceeds `limits.maxTokenBytes`, or its payload exceeds `limits.maxPayloadBytes`.",
            "Make the token smaller, or raise the limit.";
        MalformedToken = "malformed-token":
            "The token is not in the configured format.",
            "The token does not have exactly two dots, a segment is empty, or the payload is not base64url. Or `format` does not fit the token. In `baggage`, a library percent-encoded the value, perhaps with a `;property`.",
            "Decode the token to see what is wrong. Write a baggage member as `key=value`, without properties in the value. If the source contains only the payload, set `format` to `payload`.";
        MalformedPayload = "malformed-payload":
            "The payload is not a valid JSON object (RFC 8259), or a member that the policy reads has the wrong type.",
            "The token was made by hand, contains invalid UTF-8, has an `exp` or `nbf` that is not a number, or a value on `claimPath` that is not an object.",
            "Decode the payload and check it with a strict JSON parser.";
        TooDeep = "too-deep":
            "The objects and arrays of the payload nest too deep.",
            "The depth of the payload exceeds `limits.maxDepth`. The payload itself has depth 1.",
            "Make the payload flatter, or raise the limit.";
        DuplicateKey = "duplicate-key":
            "An object of the payload has a duplicate key that the policy reads.",
            "The issuer of the token wrote the key twice, perhaps once with escapes.",
            "Fix the issuer. JSON parsers disagree about which of the two counts.";
        Expired = "expired":
            "The token has expired (`exp`).",
            "`exp` plus `clockSkewSeconds` has passed, or a clock is wrong.",
            "Get a new token, or check the clocks.";
        NotYetValid = "not-yet-valid":
            "The token is not valid yet (`nbf`).",
            "`nbf` minus `clockSkewSeconds` has not been reached, or a clock is wrong.",
            "Wait, or check the clocks.";
        TooManyRoutes = "too-many-routes":
            "The token has too many claims. None is applied.",
            "The number of valid claims exceeds `limits.maxRoutes`, or the routes object has more than 128 keys (in listed mode, keys that name a service).",
            "Name fewer services in the token, or raise the limit.";
    }
}

codes! {
    /// Why one claim was skipped. The token's other claims are not affected.
    ///
    /// A later version can add a fault, so a `match` needs a wildcard arm.
    ClaimFault {
        InvalidName = "invalid-name":
            "The key cannot be part of a header name.",
            "In prefix mode, the key is not 1 to 63 of `A-Z a-z 0-9 . _ -`.",
            "Rename the service in the token, or list it in `services` with a `header`.";
        ConflictingName = "conflicting-name":
            "Two keys name the same header. The service gets no header.",
            "The keys differ only in case, such as `API` and `api`.",
            "Keep one of the keys.";
        InvalidValue = "invalid-value":
            "The value is not a valid version.",
            "The value is neither a string of 1 to 63 of `A-Z a-z 0-9 . _ -` that starts and ends alphanumeric, nor a whole number of at most 63 digits.",
            "Write the version exactly like the name of the variant in the plan.";
    }
}

codes! {
    /// Why the choice was not carried to the next hop (R19). The request itself is routed as usual.
    ///
    /// A later version can add a fault, so a `match` needs a wildcard arm.
    CarryFault {
        TooLarge = "carry-too-large":
            "The choice was not written to the carrier, because it does not fit. Later hops use the baseline.",
            "The token names too many services, or the members of others in `baggage` leave no room: at most 4,096 bytes for the choice and 8,192 for `baggage`. Or the choice exceeds the policy's own `limits`.",
            "Name fewer services in the token, or carry in a header.";
    }
}

/// The documentation of a code. Each field has one or more sentences.
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
        let codes: Vec<_> = (Outcome::ALL.iter().map(|o| o.code()))
            .chain(ClaimFault::ALL.iter().map(|f| f.code()))
            .chain(CarryFault::ALL.iter().map(|f| f.code()))
            .collect();
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
