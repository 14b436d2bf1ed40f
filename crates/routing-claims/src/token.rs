//! From a token to the bytes of its payload (R4, R5). Nothing is verified.

use memchr::memchr;

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
    let (header, rest) = split_at_dot(token)?;
    let (payload, signature) = split_at_dot(rest)?;
    (!header.is_empty() && memchr(b'.', signature).is_none()).then_some(payload)
}

fn split_at_dot(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(memchr(b'.', text)?)?;
    Some((before, after.get(1..)?))
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
        self.groups.len().saturating_mul(3).saturating_add(self.tail.len().saturating_sub(1))
    }

    fn decode(&self, into: &mut Vec<u8>) -> Option<()> {
        into.clear();
        into.resize(self.decoded_length(), 0);
        let (triples, rest) = into.as_chunks_mut::<3>();
        let mut seen = 0;
        for (triple, group) in triples.iter_mut().zip(self.groups) {
            let (bytes, sextets) = decode_group(*group);
            *triple = bytes;
            seen |= sextets;
        }
        // The rest is filled up with the digit for zero. The bits that no byte takes must be zero, and padding, if any,
        // must fill the group (RFC 4648 section 3.5).
        let (group, padded) = match *self.tail {
            [] => ([b'A'; 4], self.padding == 0),
            [a, b] => ([a, b, b'A', b'A'], self.padding != 1),
            [a, b, c] => ([a, b, c, b'A'], self.padding != 2),
            _ => return None,
        };
        let (bytes, sextets) = decode_group(group);
        let (decoded, cut) = bytes.split_at_checked(rest.len())?;
        rest.copy_from_slice(decoded);
        let valid = (seen | sextets) & INVALID == 0 && cut.iter().all(|byte| *byte == 0);
        (valid && padded).then_some(())
    }
}

/// The bytes of four digits, and the union of their values, in which [`INVALID`] shows.
fn decode_group(group: [u8; 4]) -> ([u8; 3], u32) {
    let [a, b, c, d] = group.map(|digit| u32::from(SEXTETS.get(usize::from(digit)).copied().unwrap_or_default()));
    let [_, bytes @ ..] = ((a << 18) | (b << 12) | (c << 6) | d).to_be_bytes();
    (bytes, a | b | c | d)
}

/// Set in the value of a byte that is no base64url digit; sextets have only the six bits below.
const INVALID: u32 = 0x80;

/// RFC 4648 section 5, table 2: `A-Z`, `a-z`, `0-9`, `-`, `_` count from 0 to 63.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, where a fault is a compile error")]
const SEXTETS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut table = [0x80; 256];
    let mut value = 0_u8;
    while value < 64 {
        table[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use base64::{
        Engine as _, alphabet,
        engine::{GeneralPurpose, GeneralPurposeConfig},
        prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
    };
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn what_base64_encodes_is_decoded(bytes in vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decoded(BASE64_URL_SAFE.encode(&bytes).as_bytes()), Some(bytes.clone()));
            prop_assert_eq!(decoded(BASE64_URL_SAFE_NO_PAD.encode(&bytes).as_bytes()), Some(bytes));
        }

        #[test]
        fn mutated_base64_is_judged_as_base64_judges_it(
            bytes in vec(any::<u8>(), 0..20),
            padded in any::<bool>(),
            mutations in vec((any::<Index>(), 0_usize..3, "[-_A-Za-z0-9+/=. \n]?"), 1..3),
        ) {
            let engine = if padded { BASE64_URL_SAFE } else { BASE64_URL_SAFE_NO_PAD };
            let mut text = engine.encode(bytes);
            for (place, cut, piece) in mutations {
                let start = place.index(text.len() + 1);
                text.replace_range(start..(start + cut).min(text.len()), &piece);
            }
            agrees(text.as_bytes())?;
        }

        #[test]
        fn any_bytes_are_judged_as_base64_judges_them(text in prop_oneof![vec(any::<u8>(), 0..9), "[-_A-Za-z0-9=]{0,9}".prop_map(String::into_bytes)]) {
            agrees(&text)?;
        }

        #[test]
        fn the_decoded_length_is_three_quarters_of_the_digits(text in "[A-Za-z0-9]{0,99}", padding in 0..3_usize) {
            prop_assert_eq!(Encoded::of(format!("{text}{}", "=".repeat(padding)).as_bytes()).decoded_length(), text.len() * 3 / 4);
        }

        #[test]
        fn a_token_is_three_segments_and_only_the_last_may_be_empty(segments in vec("[A-Za-z0-9]{0,2}", 0..6)) {
            let expected = match &*segments {
                [header, payload, _] if !header.is_empty() => Some(payload.as_bytes()),
                _ => None,
            };
            let token = segments.join(".");
            prop_assert_eq!(payload_segment(token.as_bytes()), expected);
        }
    }

    #[test]
    fn every_byte_in_every_place_of_a_group() {
        for byte in 0..=u8::MAX {
            for place in 0..4 {
                let mut group = *b"AAAA";
                group[place] = byte;
                agrees(&group).unwrap();
            }
        }
    }

    #[test]
    fn bytes_beyond_the_alphabet_do_not_cancel_each_other() {
        for bad in 1..16 {
            for byte in [b'!', b'+', b'=', 0xff] {
                let group = [0, 1, 2, 3].map(|place| if bad >> place & 1 == 1 { byte } else { b'Q' });
                assert_eq!(decoded(&[group, *b"QUFB"].concat()), None, "{}", group.escape_ascii());
            }
        }
    }

    #[test]
    fn every_last_two_digits_and_many_last_three() {
        for a in 0..=u8::MAX {
            for b in 0..=u8::MAX {
                agrees(&[b'Q', b'U', b'F', b'B', a, b]).unwrap();
            }
        }
        for first in [*b"AA", *b"_-", *b"Zw", *b"A=", *b"+A"] {
            for last in 0..=u8::MAX {
                for padding in ["", "=", "=="] {
                    agrees(&[&first[..], &[last], padding.as_bytes()].concat()).unwrap();
                }
            }
        }
    }

    /// Where the `base64` crate must be told to be as strict: by default it demands padding or its absence, and its
    /// indifferent mode takes a part of the padding too. Correct padding or none is what R5 asks for.
    #[test]
    fn padding_is_complete_or_absent() {
        let config =
            GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
        let indifferent = GeneralPurpose::new(&alphabet::URL_SAFE, config);
        assert_eq!(indifferent.decode("QQ=").as_deref(), Ok(&b"A"[..]));
        for (text, expected) in
            [("QQ", true), ("QQ=", false), ("QQ==", true), ("QUE", true), ("QUE=", true), ("QUE==", false)]
        {
            assert_eq!(decoded(text.as_bytes()).is_some(), expected, "{text}");
        }
    }

    #[test]
    fn what_was_decoded_before_leaves_no_trace() {
        let mut payload = b"a longer payload than the next".to_vec();
        assert_eq!(Encoded::of(b"QUE").decode(&mut payload), Some(()));
        assert_eq!(payload, b"AA");
    }

    fn agrees(text: &[u8]) -> Result<(), TestCaseError> {
        let expected = BASE64_URL_SAFE_NO_PAD.decode(text).or_else(|_| BASE64_URL_SAFE.decode(text));
        prop_assert_eq!(decoded(text), expected.ok(), "{}", text.escape_ascii());
        Ok(())
    }

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        Encoded::of(text).decode(&mut bytes).map(|()| bytes)
    }
}
