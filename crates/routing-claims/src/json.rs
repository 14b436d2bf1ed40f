//! From bytes to JSON events: a strict RFC 8259 reader that is asked for one thing at a time.
//!
//! It keeps its nesting in one word and unescapes strings in place, so it neither recurses nor allocates. The bytes
//! must be valid UTF-8 already: only then is every accepted text JSON.

use crate::swar;

/// Reads one JSON object from its first byte to its last.
///
/// The order of calls is the caller's duty: a key, its value, the next key. A member's value is announced by
/// [`Scanner::value`], which takes the colon, and is then read by the method of its kind or by [`Scanner::skip`].
pub(crate) struct Scanner<'b> {
    bytes: &'b mut [u8],
    /// How many bytes have been read.
    at: usize,
    /// How many more containers may be entered.
    room: u32,
    /// The innermost container has just been opened: no comma before its first member.
    fresh: bool,
}

/// Why a scan stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Malformed,
    TooDeep,
}

/// The kind of value that comes next, judged by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    String,
    Number,
    /// An array, a literal, or not JSON, which [`Scanner::skip`] finds out.
    Other,
}

/// A part of a buffer, here of the scanned bytes. It stays valid while the scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl<'b> Scanner<'b> {
    /// Starts inside the object that the bytes must be.
    pub(crate) fn object(bytes: &'b mut [u8], max_depth: u32) -> Result<Self, Fault> {
        debug_assert!(max_depth <= u64::BITS, "`skip` has one bit for each level");
        let mut scanner = Self { bytes, at: 0, room: max_depth, fresh: true };
        if scanner.next() != b'{' {
            return Err(Fault::Malformed);
        }
        scanner.enter()?;
        Ok(scanner)
    }

    /// The bytes of a span.
    pub(crate) fn text(&self, span: Span) -> &[u8] {
        span.of(self.bytes)
    }

    /// The next member's key, unescaped, or none at the end of the object, which is left.
    pub(crate) fn key(&mut self) -> Result<Option<Span>, Fault> {
        let byte = self.next();
        if byte == b'}' {
            self.at += 1;
            self.room += 1;
            self.fresh = false;
            return Ok(None);
        }
        if !self.fresh {
            self.take(b',')?;
            self.next();
        }
        self.fresh = false;
        self.string().map(Some)
    }

    /// Takes the colon after a key and tells what follows.
    pub(crate) fn value(&mut self) -> Result<Kind, Fault> {
        self.next();
        self.take(b':')?;
        Ok(match self.next() {
            b'"' => Kind::String,
            b'{' => Kind::Object,
            b'-' | b'0'..=b'9' => Kind::Number,
            _ => Kind::Other,
        })
    }

    /// Enters the object that comes next.
    pub(crate) fn enter(&mut self) -> Result<(), Fault> {
        self.room = self.room.checked_sub(1).ok_or(Fault::TooDeep)?;
        self.fresh = true;
        self.take(b'{')
    }

    /// Reads a string and unescapes it in place.
    pub(crate) fn string(&mut self) -> Result<Span, Fault> {
        self.take(b'"')?;
        let start = self.at;
        self.at += swar::plain_length(self.rest());
        let end = self.at;
        if self.peek() == b'"' {
            self.at += 1;
            return Ok(Span::new(start, end));
        }
        self.unescape(start)
    }

    /// Reads a number (RFC 8259 section 6); the span is its text.
    pub(crate) fn number(&mut self) -> Result<Span, Fault> {
        let start = self.at;
        let rest = number(self.rest())?;
        self.at = self.bytes.len() - rest.len();
        Ok(Span::new(start, self.at))
    }

    /// Reads the value that comes next, whatever it is, with all it contains.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        let rest = skip(self.rest(), self.room)?;
        self.at = self.bytes.len() - rest.len();
        Ok(())
    }

    /// Takes the colon after a key and passes over the value.
    pub(crate) fn skip_value(&mut self) -> Result<(), Fault> {
        self.value()?;
        self.skip()
    }

    /// Checks that nothing but white space follows the object.
    pub(crate) fn finish(mut self) -> Result<(), Fault> {
        self.next();
        if self.at == self.bytes.len() { Ok(()) } else { Err(Fault::Malformed) }
    }

    /// Reads a string from its first escape to its closing quote: what is unescaped is never longer, so it is written over it.
    #[cold]
    fn unescape(&mut self, start: usize) -> Result<Span, Fault> {
        let mut end = self.at;
        loop {
            let byte = self.peek();
            self.at += 1;
            match byte {
                b'"' => return Ok(Span::new(start, end)),
                b'\\' => {
                    let (character, rest) = escape(self.rest())?;
                    self.at = self.bytes.len() - rest.len();
                    end = self.put(end, character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                b' '.. => end = self.put(end, &[byte]),
                _ => return Err(Fault::Malformed),
            }
        }
    }

    #[expect(clippy::indexing_slicing, reason = "an escape is never shorter than what it stands for")]
    fn put(&mut self, at: usize, text: &[u8]) -> usize {
        let end = at + text.len();
        debug_assert!(end <= self.at, "what is not yet read is overwritten");
        self.bytes[at..end].copy_from_slice(text);
        end
    }

    /// Passes over white space and looks at the byte behind it.
    fn next(&mut self) -> u8 {
        loop {
            let byte = self.peek();
            if !is_space(byte) {
                return byte;
            }
            self.at += 1;
        }
    }

    /// The next byte; a zero beyond the end, which JSON does not go on with anywhere.
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    /// Takes the next byte, which must be this one.
    fn take(&mut self, byte: u8) -> Result<(), Fault> {
        if self.peek() != byte {
            return Err(Fault::Malformed);
        }
        self.at += 1;
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }
}

// What follows takes a piece of JSON from the start of a text and gives the rest.

type Rest<'t> = Result<&'t [u8], Fault>;

/// Takes a value and all it contains, which may nest to `max_depth`.
fn skip(mut text: &[u8], max_depth: u32) -> Rest<'_> {
    let mut depth = 0;
    // The lowest bit tells whether the innermost container is an object; those around it are above.
    let mut objects = 0_u64;
    loop {
        text = match skip_space(text) {
            [b'"', behind @ ..] => string(behind)?,
            [byte @ (b'{' | b'['), behind @ ..] => {
                if depth == max_depth {
                    return Err(Fault::TooDeep);
                }
                depth += 1;
                objects = objects << 1 | u64::from(*byte == b'{');
                let behind = skip_space(behind);
                if behind.first() != Some(&closing(objects)) {
                    text = if objects & 1 == 1 { key(behind)? } else { behind };
                    continue;
                }
                behind
            }
            [b't', b'r', b'u', b'e', behind @ ..]
            | [b'f', b'a', b'l', b's', b'e', behind @ ..]
            | [b'n', b'u', b'l', b'l', behind @ ..] => behind,
            behind => number(behind)?,
        };
        // A value has ended, and so may the containers around it.
        loop {
            if depth == 0 {
                return Ok(text);
            }
            text = match skip_space(text) {
                [b',', behind @ ..] => {
                    text = if objects & 1 == 1 { key(skip_space(behind))? } else { behind };
                    break;
                }
                [byte, behind @ ..] if *byte == closing(objects) => behind,
                _ => return Err(Fault::Malformed),
            };
            depth -= 1;
            objects >>= 1;
        }
    }
}

/// Takes a key and its colon.
fn key(text: &[u8]) -> Rest<'_> {
    let [b'"', behind @ ..] = text else { return Err(Fault::Malformed) };
    match skip_space(string(behind)?) {
        [b':', behind @ ..] => Ok(behind),
        _ => Err(Fault::Malformed),
    }
}

/// Takes a string from behind its opening quote.
fn string(text: &[u8]) -> Rest<'_> {
    let mut text = text.get(swar::plain_length(text)..).unwrap_or(&[]);
    loop {
        text = match text {
            [b'"', behind @ ..] => return Ok(behind),
            [b'\\', behind @ ..] => escape(behind)?.1,
            [b' '..=u8::MAX, behind @ ..] => behind,
            _ => return Err(Fault::Malformed),
        }
    }
}

/// Takes a number (RFC 8259 section 6).
fn number(mut text: &[u8]) -> Rest<'_> {
    if let [b'-', behind @ ..] = text {
        text = behind;
    }
    text = if let [b'0', behind @ ..] = text { behind } else { digits(text)? };
    if let [b'.', behind @ ..] = text {
        text = digits(behind)?;
    }
    if let [b'e' | b'E', b'+' | b'-', behind @ ..] | [b'e' | b'E', behind @ ..] = text {
        text = digits(behind)?;
    }
    Ok(text)
}

/// Takes one digit and those that follow it.
fn digits(text: &[u8]) -> Rest<'_> {
    let [b'0'..=b'9', rest @ ..] = text else { return Err(Fault::Malformed) };
    let mut rest = rest;
    while let [b'0'..=b'9', behind @ ..] = rest {
        rest = behind;
    }
    Ok(rest)
}

/// Takes what follows a backslash (RFC 8259 section 7), and gives the character that it stands for.
fn escape(text: &[u8]) -> Result<(char, &[u8]), Fault> {
    let [byte, rest @ ..] = text else { return Err(Fault::Malformed) };
    let character = match byte {
        b'"' | b'\\' | b'/' => char::from(*byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let (unit, rest) = utf16_unit(rest)?;
            if !matches!(unit, 0xd800..=0xdbff) {
                return Ok((char::from_u32(unit).ok_or(Fault::Malformed)?, rest));
            }
            let [b'\\', b'u', rest @ ..] = rest else { return Err(Fault::Malformed) };
            let (low, rest) = utf16_unit(rest)?;
            if !matches!(low, 0xdc00..=0xdfff) {
                return Err(Fault::Malformed);
            }
            let code_point = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            return Ok((char::from_u32(code_point).ok_or(Fault::Malformed)?, rest));
        }
        _ => return Err(Fault::Malformed),
    };
    Ok((character, rest))
}

/// Takes four hexadecimal digits.
fn utf16_unit(text: &[u8]) -> Result<(u32, &[u8]), Fault> {
    let (digits, rest) = text.split_at_checked(4).ok_or(Fault::Malformed)?;
    let value = |digit: &u8| char::from(*digit).to_digit(16);
    let unit = digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | value(digit)?));
    Ok((unit.ok_or(Fault::Malformed)?, rest))
}

fn skip_space(mut text: &[u8]) -> &[u8] {
    loop {
        match text {
            [byte, behind @ ..] if is_space(*byte) => text = behind,
            _ => return text,
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// What closes the innermost container.
fn closing(objects: u64) -> u8 {
    if objects & 1 == 1 { b'}' } else { b']' }
}

impl Span {
    #[expect(clippy::cast_possible_truncation, reason = "limits bound every buffer to less than 64 KB")]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && u32::try_from(end).is_ok());
        Self { start: start as u32, end: end as u32 }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes of the span, of the buffer that it is a part of.
    #[expect(clippy::indexing_slicing, reason = "whoever makes a span has read it from the buffer")]
    pub(crate) fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod reference;
#[cfg(test)]
mod tests;
