//! Decodes a token to the bytes of its payload (R4, R5), without verifying it.

use base64::Engine as _;
use memchr::memchr;

use crate::{
    config::{LimitsConfig, PolicyConfig, TokenFormat},
    outcome::Outcome,
};

/// Decodes the payload of an unverified token into the start of a buffer, which must have room for `maxPayloadBytes`. The format is that
/// of the policy, unless the token tells its format itself.
pub(crate) fn decode_unverified<'b>(
    config: &PolicyConfig,
    token: &[u8],
    tells_format: bool,
    buffer: &'b mut [u8],
) -> Result<&'b mut [u8], Outcome> {
    let LimitsConfig { max_token_bytes, max_payload_bytes, .. } = config.limits;
    if exceeds(token.len(), max_token_bytes) {
        return Err(Outcome::TokenTooLarge);
    }
    let segment = match config.format {
        _ if tells_format => segment_by_dots(token),
        TokenFormat::Jwt => payload_segment(token),
        TokenFormat::Payload => Some(token),
    };
    let segment = segment.filter(|segment| !segment.is_empty()).ok_or(Outcome::MalformedToken)?;
    if exceeds(decoded_length(segment), max_payload_bytes) {
        return Err(Outcome::TokenTooLarge);
    }
    let length = decode(segment, buffer).ok_or(Outcome::MalformedToken)?;
    Ok(buffer.get_mut(..length).unwrap_or_else(|| unreachable!("{length} bytes were written")))
}

/// Appends base64url without padding. A loop, because the crate's encoder would make the WASM filter 1.9 KB larger, and only a choice
/// that is not in the cache is encoded.
pub(crate) fn encode(bytes: &[u8], into: &mut Vec<u8>) {
    let (mut bits, mut count) = (0_u32, 0);
    let digit = |bits: u32| DIGITS.get((bits & 63) as usize);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 6 {
            count -= 6;
            into.extend(digit(bits >> count));
        }
    }
    if count > 0 {
        into.extend(digit(bits << (6 - count)));
    }
}

/// The length of base64url without padding: four thirds, rounded up.
pub(crate) fn encoded_length(length: usize) -> usize {
    length / 3 * 4 + (length % 3 * 4).div_ceil(3)
}

fn exceeds(length: usize, limit: u32) -> bool {
    u32::try_from(length).map_or(true, |length| length > limit)
}

/// The payload segment of a token that tells its format itself: a JWT has dots. It needs no percent-encoding (R5).
fn segment_by_dots(token: &[u8]) -> Option<&[u8]> {
    if token.contains(&b'%') {
        None
    } else if token.contains(&b'.') {
        payload_segment(token)
    } else {
        Some(token)
    }
}

/// The second of exactly three segments, the first of which is not empty (RFC 7515 section 7.1).
fn payload_segment(token: &[u8]) -> Option<&[u8]> {
    let (header, rest) = split_at_dot(token)?;
    let (payload, signature) = split_at_dot(rest)?;
    (!header.is_empty() && memchr(b'.', signature).is_none()).then_some(payload)
}

fn split_at_dot(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(memchr(b'.', text)?)?;
    Some((before, after.get(1..)?))
}

/// The decoded length: three quarters of the digits, rounded down. At most two `=` at the end are not digits (R4).
fn decoded_length(segment: &[u8]) -> usize {
    let ([digits @ .., b'=', b'='] | [digits @ .., b'='] | digits) = segment;
    digits.len() / 4 * 3 + digits.len() % 4 * 3 / 4
}

/// Decodes base64url (RFC 4648 section 5). The padding must be complete or absent, and unused bits must be zero.
fn decode(segment: &[u8], into: &mut [u8]) -> Option<usize> {
    // Each engine accepts one kind of padding. The crate's indifferent mode would also accept incomplete padding.
    let decoded = if segment.ends_with(b"=") {
        engine::padded().decode_slice(segment, into)
    } else {
        engine::unpadded().decode_slice(segment, into)
    };
    debug_assert_ne!(decoded, Err(base64::DecodeSliceError::OutputSliceTooSmall));
    decoded.ok()
}

/// The digits of base64url (RFC 4648 section 5).
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Uses AVX2 or NEON if the processor has it, which saves a quarter of the instructions for the reference token
/// (`cargo xtask bench instructions`).
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
mod engine {
    use base64::engine::{
        Simd,
        general_purpose::{NO_PAD, PAD},
    };

    pub(super) fn padded() -> Simd {
        Simd::url_safe(PAD)
    }

    pub(super) fn unpadded() -> Simd {
        Simd::url_safe(NO_PAD)
    }
}

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon"))))]
mod engine {
    use base64::engine::general_purpose::{GeneralPurpose, URL_SAFE, URL_SAFE_NO_PAD};

    pub(super) fn padded() -> &'static GeneralPurpose {
        &URL_SAFE
    }

    pub(super) fn unpadded() -> &'static GeneralPurpose {
        &URL_SAFE_NO_PAD
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
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
        fn what_is_encoded_is_what_base64_encodes(bytes in vec(any::<u8>(), 0..100)) {
            let mut text = b"key=".to_vec();
            encode(&bytes, &mut text);
            prop_assert_eq!(text, format!("key={}", BASE64_URL_SAFE_NO_PAD.encode(&bytes)).into_bytes());
        }

        #[test]
        fn mutated_base64_is_judged_by_the_letter_of_the_rfc(
            bytes in vec(any::<u8>(), 0..60),
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
        fn any_bytes_are_judged_by_the_letter_of_the_rfc(text in prop_oneof![vec(any::<u8>(), 0..9), "[-_A-Za-z0-9=]{0,9}".prop_map(String::into_bytes)]) {
            agrees(&text)?;
        }

        #[test]
        fn the_decoded_length_is_three_quarters_of_the_digits(text in "[A-Za-z0-9]{0,99}", padding in 0..3_usize) {
            let segment = format!("{text}{}", "=".repeat(padding));
            prop_assert_eq!(decoded_length(segment.as_bytes()), text.len() * 3 / 4);
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

    /// The engine decodes a short text digit by digit, and a long text with vectors except for its end.
    #[test]
    fn every_byte_in_every_position() {
        for length in [4, 128] {
            for (position, byte) in (0..length).flat_map(|position| (0..=u8::MAX).map(move |byte| (position, byte))) {
                let mut text = vec![b'Q'; length];
                text[position] = byte;
                agrees(&text).unwrap();
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

    #[test]
    fn padding_is_complete_or_absent() {
        for (text, expected) in [
            ("QQ", true),
            ("QQ=", false),
            ("QQ==", true),
            ("QUE", true),
            ("QUE=", true),
            ("QUE==", false),
            ("=", false),
        ] {
            assert_eq!(decoded(text.as_bytes()).is_some(), expected, "{text}");
        }
    }

    /// A payload of exactly `maxPayloadBytes` fills the buffer.
    #[test]
    fn the_buffer_needs_no_spare_bytes() {
        for length in 0..100 {
            let bytes = vec![b'a'; length];
            for text in [BASE64_URL_SAFE_NO_PAD.encode(&bytes), BASE64_URL_SAFE.encode(&bytes)] {
                let mut buffer = vec![b'?'; length];
                assert_eq!(decode(text.as_bytes(), &mut buffer), Some(length));
                assert_eq!(buffer, bytes);
            }
        }
    }

    fn agrees(text: &[u8]) -> Result<(), TestCaseError> {
        prop_assert_eq!(decoded(text), by_the_letter(text), "{}", text.escape_ascii());
        Ok(())
    }

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = vec![b'?'; text.len()];
        let length = decode(text, &mut bytes)?;
        bytes.truncate(length);
        Some(bytes)
    }

    /// RFC 4648 section 5 on strings of bits, as strict as sections 3.2 and 3.5 allow.
    fn by_the_letter(text: &[u8]) -> Option<Vec<u8>> {
        let digits: Vec<u8> = text.iter().copied().take_while(|byte| *byte != b'=').collect();
        let padding = &text[digits.len()..];
        let complete = padding.iter().all(|byte| *byte == b'=') && padding.len() <= 2 && text.len().is_multiple_of(4);
        let value = |digit: &u8| match *digit {
            b'A'..=b'Z' => Some(digit - b'A'),
            b'a'..=b'z' => Some(digit - b'a' + 26),
            b'0'..=b'9' => Some(digit - b'0' + 52),
            b'-' => Some(62),
            b'_' => Some(63),
            _ => None,
        };
        let bits: Vec<String> =
            digits.iter().map(|digit| Some(format!("{:06b}", value(digit)?))).collect::<Option<_>>()?;
        let bits = bits.concat();
        let (bytes, unused) = bits.split_at(bits.len() / 8 * 8);
        let valid = (padding.is_empty() || complete) && digits.len() % 4 != 1 && !unused.contains('1');
        let octets =
            bytes.as_bytes().chunks(8).map(|octet| u8::from_str_radix(std::str::from_utf8(octet).unwrap(), 2).unwrap());
        valid.then(|| octets.collect())
    }
}
