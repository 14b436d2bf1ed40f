//! Writes the choice that travels to the next hop (R19).

use crate::{
    limits,
    policy::{Carrier, Policy},
    token,
};

/// Memory for the choice, reused for every token.
pub(crate) struct Choice {
    json: Vec<u8>,
    /// Something did not fit into `json`.
    is_full: bool,
    /// The value of the header, or the member of `baggage`.
    text: Vec<u8>,
}

impl Choice {
    /// Allocates nothing if the policy does not carry.
    pub(crate) fn new(policy: &Policy) -> Self {
        let buffer = |bytes| Vec::with_capacity(policy.carrier().map_or(0, |_| bytes));
        Self { json: buffer(JSON_BYTES), is_full: false, text: buffer(limits::CARRIED_BYTES) }
    }

    /// Writes the choice of these routing headers, which are in order of name. Returns its length, or nothing if it is too large.
    pub(crate) fn write<'r>(
        &mut self,
        policy: &Policy,
        carrier: &Carrier,
        exp: Option<i64>,
        routes: impl Iterator<Item = (&'r str, &'r [u8])>,
    ) -> Option<u16> {
        self.write_json(policy, carrier, exp, routes);
        self.text.clear();
        if let Some(key) = &carrier.key {
            self.text.extend_from_slice(key.as_bytes());
            self.text.push(b'=');
        }
        let limits = &policy.config().limits;
        let value = token::encoded_length(self.json.len());
        let fits = !self.is_full
            && self.json.len() <= limits.max_payload_bytes as usize
            && value <= limits.max_token_bytes as usize
            && self.text.len() + value <= limits::CARRIED_BYTES;
        if !fits {
            return None;
        }
        token::encode(&self.json, &mut self.text);
        u16::try_from(self.text.len()).ok()
    }

    /// The value of the header, or the member of `baggage`, that was written.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    fn write_json<'r>(
        &mut self,
        policy: &Policy,
        carrier: &Carrier,
        exp: Option<i64>,
        routes: impl Iterator<Item = (&'r str, &'r [u8])>,
    ) {
        self.json.clear();
        self.is_full = false;
        self.push(b"{");
        if let Some(exp) = exp {
            self.push(b"\"exp\":");
            self.push_number(exp.clamp(-limits::CARRIED_EXP, limits::CARRIED_EXP));
            self.push(b",");
        }
        self.push(&carrier.path);
        let mut quote: &[u8] = b"\"";
        for (header, version) in routes {
            self.push(quote);
            self.push(match policy.header_prefix() {
                Some(prefix) => header.as_bytes().get(prefix.len()..).unwrap_or_default(),
                None => carrier.names.get(header.as_bytes()).map(|name| &**name).unwrap_or_default(),
            });
            self.push(b"\":\"");
            self.push(version);
            quote = b"\",\"";
        }
        self.push(b"\"");
        for _ in 0..=policy.config().claim_path.len() {
            self.push(b"}");
        }
    }

    /// Adds a number in decimal.
    fn push_number(&mut self, number: i64) {
        let mut digits = [0; 20];
        let mut rest = number.unsigned_abs();
        let mut start = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            start -= 1;
            if rest == 0 {
                break;
            }
        }
        self.push(if number < 0 { b"-" } else { b"" });
        self.push(digits.get(start..).unwrap_or_default());
    }

    /// Adds text, if there is room. What does not fit is never carried, so it needs no memory.
    #[inline(never)]
    fn push(&mut self, text: &[u8]) {
        if self.json.len() + text.len() > JSON_BYTES {
            self.is_full = true;
        } else {
            self.json.extend_from_slice(text);
        }
    }
}

/// Length of the longest JSON that can be carried, in bytes.
const JSON_BYTES: usize = limits::CARRIED_BYTES / 4 * 3;
