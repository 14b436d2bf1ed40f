//! Every limit, with its default, range and unit.

use std::{fmt, ops::RangeInclusive};

/// The default and range of a number in the configuration.
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

/// What the number in a field of the configuration must be, as text.
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

/// Tolerance for `exp` and `nbf` in seconds.
pub(crate) const CLOCK_SKEW_SECONDS: Bound = Bound { default: 60, min: 0, max: 300 };
/// Length of a token in the request, in bytes.
pub(crate) const TOKEN_BYTES: Bound = Bound { default: 8192, min: 256, max: 65536 };
/// Length of a decoded payload, in bytes.
pub(crate) const PAYLOAD_BYTES: Bound = Bound { default: 6144, min: 64, max: 49152 };
/// Number of valid claims of one token. Envoy's next hop rejects a request with more than 100 headers.
pub(crate) const ROUTES: Bound = Bound { default: 32, min: 1, max: 64 };
/// Nesting of objects and arrays in a payload. The payload itself has depth 1.
pub(crate) const DEPTH: Bound = Bound { default: 16, min: 1, max: 64 };

/// Number of claims of one token, valid or not (R13): twice the maximum number of routes. Caps the cost of a deliberately
/// expensive token.
pub(crate) const CLAIMS: usize = 128;

/// Length of a service name (the key of a claim), in bytes.
pub(crate) const NAME_BYTES: usize = 63;
/// Length of a version (the value of a claim), in bytes.
pub(crate) const VERSION_BYTES: usize = 63;
/// Length of the name of a managed header, in bytes.
pub(crate) const HEADER_BYTES: usize = 127;
/// Length of `headerPrefix`, in bytes.
pub(crate) const HEADER_PREFIX_BYTES: RangeInclusive<usize> = 2..=63;
/// Length of the prefix of a header source, in bytes.
pub(crate) const SOURCE_PREFIX_BYTES: usize = 64;
/// Length of a segment of `claimPath`, in bytes.
pub(crate) const PATH_SEGMENT_BYTES: usize = 255;
/// Length of the key of a `baggage` member, in bytes.
pub(crate) const BAGGAGE_KEY_BYTES: usize = 127;
/// Number of sources of each kind (headers, cookies, baggage).
pub(crate) const SOURCES: usize = 8;
/// Number of services of one policy.
pub(crate) const SERVICES: usize = 1000;
/// Length of the report (R18), in bytes.
pub(crate) const REPORT_BYTES: usize = 4096;

/// Length of a member of `baggage` with its key, or of the value of a header, that is carried (R19), in bytes. OpenTelemetry's SDKs
/// drop longer members.
pub(crate) const CARRIED_BYTES: usize = 4096;
/// Length of `baggage` that the filter writes (R19), in bytes: what W3C Baggage section 3.3.2 guarantees to be propagated.
pub(crate) const BAGGAGE_BYTES: usize = 8192;
/// The limit at which a carried `exp` saturates (R19). All programs read it exactly, also those whose numbers are doubles.
pub(crate) const CARRIED_EXP: i64 = 1_000_000_000_000_000;

/// Number of decisions in one cache (R16), a power of two.
pub(crate) const CACHE_ENTRIES: usize = 256;
/// Size of the tokens and decisions in one cache (R16) in bytes, a power of two.
pub(crate) const CACHE_BYTES: usize = 256 * 1024;

const _: () = assert!(CACHE_ENTRIES.is_power_of_two() && CACHE_BYTES.is_power_of_two());
