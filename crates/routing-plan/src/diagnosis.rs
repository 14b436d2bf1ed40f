//! Why a request has its outcome: the place in the token, and the numbers beside the limits.
//!
//! The filter has only codes, because it runs for every request. This is for people who ask about one request. It follows
//! the rules of `docs/behaviour.md` a second time, only as far as is needed to name the cause of an outcome that is known.
//! No message contains a part of a token, except names that the policy has too.

use base64::{
    DecodeError, Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jiff::Timestamp;
use routing_claims::{Outcome, Policy, PolicyConfig, TokenFormat};

use self::json::Json;

mod json;

/// Why a request with these header lines, names in lower case, has this outcome at a time in Unix seconds, and why its
/// claims were skipped. Empty if there is nothing to add to the outcome.
#[must_use]
pub fn causes(policy: &Policy, headers: &[(String, String)], outcome: Outcome, now: i64) -> Vec<String> {
    let policy = policy.config();
    let (source, tells_format, tokens) = match find(policy, headers) {
        Found::Nothing(causes) => return causes,
        Found::Tokens { source, tells_format, tokens } => (source, tells_format, tokens),
    };
    let [token] = &tokens[..] else { return vec![format!("{source} has {} tokens", tokens.len())] };
    let format = match policy.format {
        _ if tells_format && token.contains('.') => TokenFormat::Jwt,
        _ if tells_format => TokenFormat::Payload,
        format => format,
    };
    let diagnosis = Diagnosis { policy, token, format, tells_format, now };
    match outcome {
        Outcome::TokenTooLarge => diagnosis.size(),
        Outcome::MalformedToken => diagnosis.format(),
        Outcome::MalformedPayload => diagnosis.malformed(),
        Outcome::TooDeep => diagnosis.depth(),
        Outcome::DuplicateKey => diagnosis.duplicate(),
        Outcome::Expired => diagnosis.time("exp"),
        Outcome::NotYetValid => diagnosis.time("nbf"),
        Outcome::Applied | Outcome::NoRoutes | Outcome::TooManyRoutes => diagnosis.claims(outcome),
        _ => None,
    }
    .unwrap_or_default()
}

enum Found<'h> {
    /// Why there is no token.
    Nothing(Vec<String>),
    Tokens {
        /// The source, as messages name it.
        source: String,
        /// Its tokens tell their format themselves (R5).
        tells_format: bool,
        tokens: Vec<&'h str>,
    },
}

/// The first source that is present (R3).
fn find<'h>(policy: &PolicyConfig, headers: &'h [(String, String)]) -> Found<'h> {
    let lines = |name: &str| {
        let name = name.to_ascii_lowercase();
        headers.iter().filter(move |(found, _)| *found == name).map(|(_, value)| &**value)
    };
    let mut absent = Vec::new();
    for source in &policy.from_headers {
        let parts: Vec<_> = lines(&source.name).flat_map(|line| line.split(',')).map(str::trim).collect();
        let prefix = source.prefix.len();
        let has_prefix =
            |part: &&&str| part.get(..prefix).is_some_and(|start| start.eq_ignore_ascii_case(&source.prefix));
        let tokens: Vec<_> =
            parts.iter().filter(has_prefix).filter_map(|part| part.get(prefix..)).map(str::trim).collect();
        if !tokens.is_empty() {
            let carried = policy.carry.as_ref().and_then(|carry| carry.header.as_ref());
            let (tells_format, source) = (carried == Some(&source.name), format!("the header `{}`", source.name));
            return Found::Tokens { source, tells_format, tokens };
        }
        absent.push(if parts.is_empty() {
            format!("the request has no header `{}`", source.name)
        } else {
            format!("the header `{}` does not start with `{}`", source.name, source.prefix)
        });
    }
    for name in &policy.from_cookies {
        let pairs = lines("cookie").flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        let tokens: Vec<_> = pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).collect();
        if !tokens.is_empty() {
            return Found::Tokens { source: format!("the cookie `{name}`"), tells_format: false, tokens };
        }
        absent.push(format!("the request has no cookie `{name}`"));
    }
    for name in &policy.from_baggage {
        let members = lines("baggage").flat_map(|line| line.split(',')).filter_map(|member| member.split(';').next());
        let pairs = members.filter_map(|pair| pair.split_once('='));
        let tokens: Vec<_> = pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).collect();
        if !tokens.is_empty() {
            return Found::Tokens { source: format!("the baggage key `{name}`"), tells_format: true, tokens };
        }
        absent.push(format!("the request has no baggage key `{name}`"));
    }
    Found::Nothing(absent)
}

struct Diagnosis<'d> {
    policy: &'d PolicyConfig,
    token: &'d str,
    format: TokenFormat,
    /// The token tells its format itself (R5).
    tells_format: bool,
    now: i64,
}

impl Diagnosis<'_> {
    fn size(&self) -> Option<Vec<String>> {
        let limits = &self.policy.limits;
        let bytes = self.token.len();
        if u64::try_from(bytes).ok()? > u64::from(limits.max_token_bytes) {
            return one(format!(
                "the token has {bytes} bytes, and `limits.maxTokenBytes` is {}",
                limits.max_token_bytes
            ));
        }
        let (_, segment) = self.payload_segment()?;
        let bytes = segment.trim_end_matches('=').len() * 3 / 4;
        one(format!("the payload has {bytes} bytes, and `limits.maxPayloadBytes` is {}", limits.max_payload_bytes))
    }

    fn format(&self) -> Option<Vec<String>> {
        if self.token.is_empty() {
            return one("the token is empty");
        }
        if self.tells_format && self.token.contains('%') {
            return one(
                "the value is percent-encoded, which base64url does not need: a library may have encoded `=` or a `;property` into it",
            );
        }
        let parts: Vec<_> = self.token.split('.').collect();
        match (self.format, &parts[..]) {
            (TokenFormat::Jwt, [header, payload, _]) => {
                let empty = [("header", header), ("payload", payload)].into_iter().find(|(_, part)| part.is_empty());
                if let Some((part, _)) = empty {
                    return one(format!("the {part} of the token is empty"));
                }
            }
            (TokenFormat::Jwt, parts) => {
                return one(format!("a JWT has three parts separated by dots, and the token has {}", parts.len()));
            }
            (TokenFormat::Payload, [_, _, _]) => {
                return one("the token is a whole JWT, and the policy has `format: payload`");
            }
            (TokenFormat::Payload, _) => {}
        }
        let (start, segment) = self.payload_segment()?;
        let text = match BASE64.decode(segment) {
            Ok(_) => return None,
            Err(DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol { offset: at, .. }) => {
                format!("the payload is not base64url: unexpected character at column {} of the token", start + at + 1)
            }
            Err(_) => format!("the payload is not base64url: {} characters can't be its length", segment.len()),
        };
        one(text)
    }

    fn malformed(&self) -> Option<Vec<String>> {
        let bytes = self.payload()?;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => return one(format!("the payload is not UTF-8, at byte {}", error.valid_up_to() + 1)),
        };
        if text.starts_with('\u{feff}') {
            return one("the payload begins with a byte order mark, which is not JSON");
        }
        let value = match serde_json::from_str::<Json>(text) {
            Ok(value) => value,
            Err(error) => return one(format!("the payload is not valid JSON: {error}")),
        };
        let Json::Object(_) = &value else {
            return one(format!("the payload is {}, expected an object", value.kind()));
        };
        let mut causes = Vec::new();
        for name in ["exp", "nbf"] {
            if let Some(other) = value.get(name).filter(|value| !matches!(value, Json::Number(_))) {
                causes.push(format!("`{name}` is {}, expected a number", other.kind()));
            }
        }
        let mut routes = &value;
        for (depth, name) in self.policy.claim_path.iter().enumerate() {
            let Some(next) = routes.get(name) else { break };
            if !matches!(next, Json::Object(_)) {
                let path = self.policy.claim_path.get(..=depth).unwrap_or_default().join("`.`");
                let hint = match next {
                    Json::String(text) if matches!(serde_json::from_str(text), Ok(Json::Object(_))) => {
                        " (its text is JSON, but the policy reads only objects)"
                    }
                    _ => "",
                };
                causes.push(format!("`{path}` is {}, expected an object{hint}", next.kind()));
                break;
            }
            routes = next;
        }
        Some(causes)
    }

    fn depth(&self) -> Option<Vec<String>> {
        let max = self.policy.limits.max_depth;
        let (mut depth, mut in_text, mut escaped) = (0_u32, false, false);
        for (index, byte) in self.payload()?.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                b'{' | b'[' if !in_text => depth += 1,
                b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > max {
                let column = index + 1;
                return one(format!(
                    "the bracket at column {column} of the payload is at depth {depth}, and `limits.maxDepth` is {max}"
                ));
            }
        }
        None
    }

    fn duplicate(&self) -> Option<Vec<String>> {
        let value = self.read()?;
        let names = value.duplicates();
        if let Some(name) = names.iter().find(|name| ["exp", "nbf"].contains(name)) {
            return one(format!("the payload has the key `{name}` twice"));
        }
        let mut at = &value;
        for name in &self.policy.claim_path {
            if at.duplicates().contains(&&**name) {
                return one(format!("the payload has the key `{name}` twice"));
            }
            at = at.get(name)?;
        }
        let names = at.duplicates();
        let place = self.place();
        match names.iter().find(|name| self.service(name).is_some()) {
            Some(name) => one(format!("{place} has the key `{name}` twice")),
            None => one(format!("{place} has {} keys twice", names.len())),
        }
    }

    fn time(&self, name: &str) -> Option<Vec<String>> {
        let value = self.read()?;
        let Json::Number(seconds) = value.get(name)? else { return None };
        #[expect(clippy::cast_possible_truncation, reason = "saturates, as the filter does")]
        let seconds = seconds.floor() as i64;
        let shown =
            |seconds| Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds}"), |time| time.to_string());
        let skew = self.policy.clock_skew_seconds;
        one(format!("`{name}` is {}, now is {}, and `clockSkewSeconds` is {skew}", shown(seconds), shown(self.now)))
    }

    fn claims(&self, outcome: Outcome) -> Option<Vec<String>> {
        let value = self.read()?;
        let mut routes = &value;
        for name in &self.policy.claim_path {
            let Some(next) = routes.get(name) else { return one(format!("the payload has no `{name}`")) };
            routes = next;
        }
        let Json::Object(members) = routes else { return None };
        let named: Vec<_> = members.iter().filter_map(|(key, value)| Some((self.service(key)?, value))).collect();
        if outcome == Outcome::TooManyRoutes {
            let keys = named.len();
            let max = self.policy.limits.max_routes;
            return one(format!(
                "{} has {keys} keys that name a service; `limits.maxRoutes` is {max}, and 128 keys are read",
                self.place()
            ));
        }
        if outcome == Outcome::NoRoutes && named.is_empty() {
            return one(format!(
                "none of the {} keys of {} names a service of the policy",
                members.len(),
                self.place()
            ));
        }
        let faults = named.iter().filter_map(|(name, value)| Some(format!("`{name}` {}", value.version_fault()?)));
        Some(faults.collect())
    }

    /// The name of a service, if a key names one. In prefix mode each key does, but its text is the client's.
    fn service(&self, key: &str) -> Option<&str> {
        match &self.policy.services {
            Some(services) => services.iter().map(|service| &*service.name).find(|name| name.eq_ignore_ascii_case(key)),
            None => Some("a claim"),
        }
    }

    fn place(&self) -> String {
        match &self.policy.claim_path[..] {
            [] => "the payload".into(),
            path => format!("`{}`", path.join("`.`")),
        }
    }

    /// Offset in the token and text of the part with the payload.
    fn payload_segment(&self) -> Option<(usize, &str)> {
        if self.format == TokenFormat::Payload {
            return Some((0, self.token));
        }
        let mut parts = self.token.split('.');
        let header = parts.next()?;
        Some((header.len() + 1, parts.next()?))
    }

    fn payload(&self) -> Option<Vec<u8>> {
        BASE64.decode(self.payload_segment()?.1).ok()
    }

    fn read(&self) -> Option<Json> {
        serde_json::from_slice(&self.payload()?).ok()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every caller returns causes, or none if it finds none")]
fn one(cause: impl Into<String>) -> Option<Vec<String>> {
    Some(vec![cause.into()])
}

/// Base64url with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
