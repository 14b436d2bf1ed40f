//! The form of inputs that several targets read: the policy as JSON in the first line, header lines, an empty line, and a
//! payload. `@` in a header's value is replaced by the token with that payload.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use routing_claims::{PolicyConfig, TokenFormat};

/// Names and values.
pub type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// Up to the next line feed, and what follows it.
pub fn line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[]),
    }
}

/// Header lines up to an empty line, and what follows that.
pub fn request(mut text: &[u8]) -> (Vec<(&[u8], &[u8])>, &[u8]) {
    let mut lines = Vec::new();
    loop {
        let (header, rest) = line(text);
        text = rest;
        if header.is_empty() {
            return (lines, text);
        }
        let colon = header.iter().position(|byte| *byte == b':').unwrap_or(header.len());
        let value = header.get(colon + 1..).unwrap_or_default();
        lines.push((&header[..colon], value.strip_prefix(b" ").unwrap_or(value)));
    }
}

/// The token with this payload.
pub fn token(config: &PolicyConfig, payload: &[u8]) -> Vec<u8> {
    let payload = BASE64_URL_SAFE_NO_PAD.encode(payload);
    match config.format {
        TokenFormat::Jwt => format!("e30.{payload}.sig").into_bytes(),
        TokenFormat::Payload => payload.into_bytes(),
    }
}

/// The header lines with the token in place of `@`.
pub fn with_token(lines: &[(&[u8], &[u8])], token: &[u8]) -> Lines {
    let value = |value: &[u8]| value.split(|byte| *byte == b'@').collect::<Vec<_>>().join(token);
    lines.iter().map(|(name, text)| (name.to_vec(), value(text))).collect()
}
