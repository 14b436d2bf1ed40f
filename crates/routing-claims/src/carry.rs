//! Writes the choice that travels to the next hop (R19).

use std::io::Write as _;

use crate::{
    limits,
    policy::{Carrier, Place, Policy},
    token,
};

/// Memory for the choice, reused for every token.
pub(crate) struct Choice {
    json: Vec<u8>,
    /// The value of the header, or the member of `baggage`.
    text: Vec<u8>,
}

impl Choice {
    /// Allocates nothing if the policy does not carry.
    pub(crate) fn new(policy: &Policy) -> Self {
        let is_written = policy.carrier().is_some();
        let buffer = |bytes| Vec::with_capacity(if is_written { bytes } else { 0 });
        Self { json: buffer(JSON_BYTES), text: buffer(limits::CARRIED_BYTES) }
    }

    /// Writes the choice of these routing headers, in order of name. Returns its length, or nothing if it is too large.
    pub(crate) fn write<'r>(
        &mut self,
        policy: &Policy,
        carrier: &Carrier,
        exp: Option<i64>,
        routes: impl Iterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Option<usize> {
        self.text.clear();
        if let Place::Baggage(key) = &carrier.place {
            self.text.extend_from_slice(key.as_bytes());
            self.text.push(b'=');
        }
        self.write_json(policy, carrier, exp, routes)?;
        let limits = &policy.config().limits;
        let value = token::encoded_length(self.json.len());
        let fits = self.json.len() <= limits.max_payload_bytes as usize
            && value <= limits.max_token_bytes as usize
            && self.text.len() + value <= limits::CARRIED_BYTES;
        if !fits {
            return None;
        }
        token::encode(&self.json, &mut self.text);
        Some(self.text.len())
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
        routes: impl Iterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Option<()> {
        self.json.clear();
        self.push(b"{")?;
        if let Some(exp) = exp {
            let exp = exp.clamp(-limits::CARRIED_EXP, limits::CARRIED_EXP);
            // There is room at the start, and writing to memory cannot fail.
            write!(self.json, "\"exp\":{exp},").ok()?;
        }
        for key in &carrier.path {
            self.push(key)?;
            self.push(b":{")?;
        }
        for (index, (header, version)) in routes.enumerate() {
            self.push(if index == 0 { b"" } else { b"," })?;
            if let Some(prefix) = policy.header_prefix() {
                self.push(b"\"")?;
                self.push(header.get(prefix.len()..)?)?;
                self.push(b"\"")?;
            } else {
                let name = carrier.names.get(header);
                self.push(name.unwrap_or_else(|| unreachable!("every header of the policy has a service")))?;
            }
            self.push(b":\"")?;
            self.push(version)?;
            self.push(b"\"")?;
        }
        for _ in 0..=carrier.path.len() {
            self.push(b"}")?;
        }
        Some(())
    }

    /// Adds text, if there is room. More than fits is never carried, so it needs no memory.
    fn push(&mut self, text: &[u8]) -> Option<()> {
        if self.json.len() + text.len() > JSON_BYTES {
            return None;
        }
        self.json.extend_from_slice(text);
        Some(())
    }
}

/// Length of the longest JSON that can be carried, in bytes.
const JSON_BYTES: usize = limits::CARRIED_BYTES / 4 * 3;
