//! The form of inputs that several targets read.

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
