//! Every limit: its name, default, range and unit.

use std::{fmt, ops::RangeInclusive};

/// A bounded number of the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) default: u32,
    pub(crate) min: u32,
    pub(crate) max: u32,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.min, self.max)
    }
}

impl Bound {
    pub(crate) const fn range(self) -> RangeInclusive<u32> {
        self.min..=self.max
    }
}

/// What the number of a configuration's field must be, in words.
pub(crate) fn range_of(field: &str) -> Option<String> {
    let bound = match field {
        "clockSkewSeconds" => CLOCK_SKEW_SECONDS,
        "maxTokenBytes" => TOKEN_BYTES,
        "maxPayloadBytes" => PAYLOAD_BYTES,
        "maxRoutes" => ROUTES,
        "maxDepth" => DEPTH,
        _ => return None,
    };
    Some(bound.to_string())
}

/// Seconds by which `exp` and `nbf` may be missed.
pub(crate) const CLOCK_SKEW_SECONDS: Bound = Bound { default: 60, min: 0, max: 300 };
/// Bytes of a token as it stands in the request.
pub(crate) const TOKEN_BYTES: Bound = Bound { default: 8192, min: 256, max: 65536 };
/// Bytes of a decoded payload.
pub(crate) const PAYLOAD_BYTES: Bound = Bound { default: 6144, min: 64, max: 49152 };
/// Valid claims of one token. Envoy's next hop refuses a request of over 100 headers.
pub(crate) const ROUTES: Bound = Bound { default: 32, min: 1, max: 64 };
/// Nested objects and arrays of a payload, the payload itself included.
pub(crate) const DEPTH: Bound = Bound { default: 16, min: 1, max: 64 };

/// Claims of one token, valid or not (R13): twice the most routes. It bounds what a token costs that is made to be dear.
pub(crate) const CLAIMS: usize = 128;

/// Bytes of a service name (a claim's key).
pub(crate) const NAME_BYTES: usize = 63;
/// Bytes of a version (a claim's value).
pub(crate) const VERSION_BYTES: usize = 63;
/// Bytes of a managed header's name.
pub(crate) const HEADER_BYTES: usize = 127;
/// Bytes of `headerPrefix`.
pub(crate) const HEADER_PREFIX_BYTES: RangeInclusive<usize> = 2..=63;
/// Bytes of the prefix of a header source.
pub(crate) const SOURCE_PREFIX_BYTES: usize = 64;
/// Bytes of a `claimPath` segment.
pub(crate) const PATH_SEGMENT_BYTES: usize = 255;
/// Sources of each kind (headers, cookies).
pub(crate) const SOURCES: usize = 8;
/// Services of one policy.
pub(crate) const SERVICES: usize = 1000;
/// Bytes of the report (R18).
pub(crate) const REPORT_BYTES: usize = 4096;

/// Decisions in one cache (R16); a power of two.
pub(crate) const CACHE_ENTRIES: usize = 256;
/// Bytes of tokens and decisions in one cache (R16); a power of two.
pub(crate) const CACHE_BYTES: usize = 256 * 1024;

const _: () = assert!(CACHE_ENTRIES.is_power_of_two() && CACHE_BYTES.is_power_of_two());
