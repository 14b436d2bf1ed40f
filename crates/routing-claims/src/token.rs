//! From a token to the bytes of its payload (R4, R5). Nothing is verified.

use crate::{
    config::{LimitsConfig, PolicyConfig, TokenFormat},
    outcome::Outcome,
};

/// Decodes the payload of an unverified token into `payload`, which allocates nothing when it has room for
/// `maxPayloadBytes`.
pub(crate) fn decode_unverified(config: &PolicyConfig, token: &[u8], payload: &mut Vec<u8>) -> Result<(), Outcome> {
    let LimitsConfig { max_token_bytes, max_payload_bytes, .. } = config.limits;
    if exceeds(token.len(), max_token_bytes) {
        return Err(Outcome::TokenTooLarge);
    }
    let segment = match config.format {
        TokenFormat::Jwt => payload_segment(token),
        TokenFormat::Payload => Some(token),
    };
    let segment = segment.filter(|segment| !segment.is_empty()).ok_or(Outcome::MalformedToken)?;
    let encoded = Encoded::of(segment);
    if exceeds(encoded.decoded_length(), max_payload_bytes) {
        return Err(Outcome::TokenTooLarge);
    }
    encoded.decode(payload).ok_or(Outcome::MalformedToken)
}

fn exceeds(length: usize, limit: u32) -> bool {
    u32::try_from(length).map_or(true, |length| length > limit)
}

/// The second of exactly three segments, the first not empty (RFC 7515 section 7.1).
fn payload_segment(token: &[u8]) -> Option<&[u8]> {
    let mut segments = token.split(|byte| *byte == b'.');
    let (header, payload, _signature) = (segments.next()?, segments.next()?, segments.next()?);
    (segments.next().is_none() && !header.is_empty()).then_some(payload)
}

/// base64url (RFC 4648 section 5), split from its padding.
struct Encoded<'t> {
    /// Whole groups of four digits.
    groups: &'t [[u8; 4]],
    /// Zero to three digits.
    tail: &'t [u8],
    /// Zero to two `=`.
    padding: usize,
}

impl<'t> Encoded<'t> {
    fn of(segment: &'t [u8]) -> Self {
        let (digits, padding) = match segment {
            [digits @ .., b'=', b'='] => (digits, 2),
            [digits @ .., b'='] => (digits, 1),
            digits => (digits, 0),
        };
        let (groups, tail) = digits.as_chunks();
        Self { groups, tail, padding }
    }

    /// Floor of three quarters of the digits.
    fn decoded_length(&self) -> usize {
        let tail = match self.tail.len() {
            2 => 1,
            3 => 2,
            _ => 0,
        };
        self.groups.len().saturating_mul(3).saturating_add(tail)
    }

    fn decode(&self, into: &mut Vec<u8>) -> Option<()> {
        into.clear();
        into.resize(self.decoded_length(), 0);
        let (triples, rest) = into.as_chunks_mut::<3>();
        let mut seen = 0;
        for (triple, group) in triples.iter_mut().zip(self.groups) {
            let [a, b, c, d] = group.map(sextet);
            seen |= a | b | c | d;
            *triple = bytes(a, b, c, d);
        }
        // The bits that no byte takes must be zero, and padding, if any, must fill the group (RFC 4648 section 3.5).
        match (self.tail, rest) {
            ([], []) if self.padding == 0 => {}
            ([a, b], [first]) if self.padding != 1 => {
                let (a, b) = (sextet(*a), sextet(*b));
                seen |= a | b | if b & 0b1111 == 0 { 0 } else { INVALID };
                [*first, _, _] = bytes(a, b, 0, 0);
            }
            ([a, b, c], [first, second]) if self.padding != 2 => {
                let (a, b, c) = (sextet(*a), sextet(*b), sextet(*c));
                seen |= a | b | c | if c & 0b11 == 0 { 0 } else { INVALID };
                [*first, *second, _] = bytes(a, b, c, 0);
            }
            _ => return None,
        }
        (seen & INVALID == 0).then_some(())
    }
}

fn sextet(digit: u8) -> u8 {
    SEXTETS.get(usize::from(digit)).copied().unwrap_or(INVALID)
}

fn bytes(a: u8, b: u8, c: u8, d: u8) -> [u8; 3] {
    [(a << 2) | (b >> 4), (b << 4) | (c >> 2), (c << 6) | d]
}

/// Set in the value of a byte that is no base64url digit; sextets have only the six bits below.
const INVALID: u8 = 0x80;

/// RFC 4648 section 5, table 2: `A-Z`, `a-z`, `0-9`, `-`, `_` count from 0 to 63.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, where a fault is a compile error")]
const SEXTETS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut table = [INVALID; 256];
    let mut value = 0_u8;
    while value < 64 {
        table[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    table
};
