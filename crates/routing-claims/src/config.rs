//! The configuration as it is written: JSON of a `WasmPlugin`'s `pluginConfig`, or `spec.policy` of a plan.
//!
//! Nothing here is judged but the shape; [`Policy::new`](crate::Policy::new) judges the rest.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::{
    json::{Fault, Kind, PADDING, Scanner, Span},
    limits::{self, Bound},
    policy::{PolicyProblem, on_one_line, quoted},
};

/// What a user configures. [`Policy::new`](crate::Policy::new) checks it.
///
/// Exactly one of `services` and `headerPrefix` is given: a header that can neither be listed nor be recognised by its
/// prefix could not be stripped, so it could be spoofed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Where a token may stand, in order: header lines of this name that start with this prefix.
    pub from_headers: Vec<HeaderSourceConfig>,
    /// Cookies that may hold a token, in order, looked at after the headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_cookies: Vec<String>,
    /// What the token is.
    pub format: TokenFormat,
    /// Literal path to the object that maps a service to its version; empty: the payload itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claim_path: Vec<String>,
    /// Closed mode: the only services that may be routed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<ServiceConfig>>,
    /// Open mode: any service may be routed, to the header of this prefix plus its name in lower case. Needs a
    /// `claimPath`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_prefix: Option<String>,
    /// A managed request header that carries the outcome and what was set or skipped, for people and access logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_header: Option<String>,
    /// Seconds by which `exp` and `nbf` may be missed: 0 to 300.
    #[cfg_attr(feature = "schema", schemars(range(min = limits::CLOCK_SKEW_SECONDS.min, max = limits::CLOCK_SKEW_SECONDS.max)))]
    pub clock_skew_seconds: u32,
    /// Bounds of what is read.
    pub limits: LimitsConfig,
}

/// A header that may hold a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderSourceConfig {
    /// Name of the header, in any case.
    pub name: String,
    /// What stands before the token, compared without regard to ASCII case; empty: each part between commas is a token.
    #[serde(default)]
    pub prefix: String,
}

/// What the token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum TokenFormat {
    /// A compact JWS (RFC 7515 section 7.1), its signature not verified.
    #[default]
    Jwt,
    /// Only the base64url payload, as Istio's `outputPayloadToHeader` writes it.
    Payload,
}

/// A service that may be routed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceConfig {
    /// The claim's key, 1 to 63 bytes of UTF-8, compared without regard to ASCII case.
    pub name: String,
    /// The header to set; default: the name in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// Bounds of what is read from a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Bytes of a token: 256 to 65536.
    #[cfg_attr(feature = "schema", schemars(range(min = limits::TOKEN_BYTES.min, max = limits::TOKEN_BYTES.max)))]
    pub max_token_bytes: u32,
    /// Bytes of a decoded payload: 64 to 49152.
    #[cfg_attr(feature = "schema", schemars(range(min = limits::PAYLOAD_BYTES.min, max = limits::PAYLOAD_BYTES.max)))]
    pub max_payload_bytes: u32,
    /// Valid claims of one token: 1 to 64. Whatever it is, over 128 keys in the routes object are too many.
    #[cfg_attr(feature = "schema", schemars(range(min = limits::ROUTES.min, max = limits::ROUTES.max)))]
    pub max_routes: u32,
    /// Nested objects and arrays of a payload, the payload itself included: 1 to 64.
    #[cfg_attr(feature = "schema", schemars(range(min = limits::DEPTH.min, max = limits::DEPTH.max)))]
    pub max_depth: u32,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            from_headers: vec![HeaderSourceConfig { name: "authorization".into(), prefix: "Bearer ".into() }],
            from_cookies: Vec::new(),
            format: TokenFormat::default(),
            claim_path: Vec::new(),
            services: None,
            header_prefix: None,
            report_header: None,
            clock_skew_seconds: limits::CLOCK_SKEW_SECONDS.default,
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_token_bytes: limits::TOKEN_BYTES.default,
            max_payload_bytes: limits::PAYLOAD_BYTES.default,
            max_routes: limits::ROUTES.default,
            max_depth: limits::DEPTH.default,
        }
    }
}

/// Reads a configuration from JSON, as serde would, but with the field's path in errors and in a tenth of the code,
/// which counts where a configuration is read: in a WASM module that clusters carry around in base64.
pub(crate) fn from_json(text: &[u8]) -> Result<PolicyConfig, PolicyProblem> {
    let mut path = String::new();
    read(text, &mut path)
        .map_err(|message| PolicyProblem { path: if path.is_empty() { "policy".into() } else { path }, message })
}

fn read(text: &[u8], path: &mut String) -> Read<PolicyConfig> {
    std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let mut padded = [text, &[0; PADDING]].concat();
    let mut json = Scanner::object(&mut padded, MAX_DEPTH).map_err(|_| "found no JSON object".to_owned())?;
    let config = Reader { json: &mut json, path }.policy()?;
    json.finish().map_err(|_| "found more after the JSON object".to_owned())?;
    Ok(config)
}

/// Reads values, with the path of the field at hand. On an error the path stays where it was.
struct Reader<'r, 'b> {
    json: &'r mut Scanner<'b>,
    path: &'r mut String,
}

/// What was read, or what is wrong with it.
type Read<T> = Result<T, String>;

impl Reader<'_, '_> {
    fn policy(&mut self) -> Read<PolicyConfig> {
        let fields = [
            "fromHeaders",
            "fromCookies",
            "format",
            "claimPath",
            "services",
            "headerPrefix",
            "reportHeader",
            "clockSkewSeconds",
            "limits",
        ];
        let mut config = PolicyConfig::default();
        self.members(&fields, &mut |reader, field| {
            match field {
                "fromHeaders" => config.from_headers = reader.items(Self::header_source)?,
                "fromCookies" => config.from_cookies = reader.items(Self::text)?,
                "format" => config.format = reader.format()?,
                "claimPath" => config.claim_path = reader.items(Self::text)?,
                "services" => config.services = reader.optional(|reader| reader.items(Self::service))?,
                "headerPrefix" => config.header_prefix = reader.optional(Self::text)?,
                "reportHeader" => config.report_header = reader.optional(Self::text)?,
                "clockSkewSeconds" => config.clock_skew_seconds = reader.number(limits::CLOCK_SKEW_SECONDS)?,
                _ => config.limits = reader.limits()?,
            }
            Ok(())
        })?;
        Ok(config)
    }

    fn header_source(&mut self) -> Read<HeaderSourceConfig> {
        let (mut name, mut prefix) = (None, String::new());
        self.enter(Kind::Object, "an object")?;
        self.members(&["name", "prefix"], &mut |reader, field| {
            match field {
                "name" => name = Some(reader.text()?),
                _ => prefix = reader.text()?,
            }
            Ok(())
        })?;
        Ok(HeaderSourceConfig { name: name.ok_or(MISSING_NAME)?, prefix })
    }

    fn service(&mut self) -> Read<ServiceConfig> {
        let (mut name, mut header) = (None, None);
        self.enter(Kind::Object, "an object")?;
        self.members(&["name", "header"], &mut |reader, field| {
            match field {
                "name" => name = Some(reader.text()?),
                _ => header = reader.optional(Self::text)?,
            }
            Ok(())
        })?;
        Ok(ServiceConfig { name: name.ok_or(MISSING_NAME)?, header })
    }

    fn limits(&mut self) -> Read<LimitsConfig> {
        let mut config = LimitsConfig::default();
        self.enter(Kind::Object, "an object")?;
        self.members(&["maxTokenBytes", "maxPayloadBytes", "maxRoutes", "maxDepth"], &mut |reader, field| {
            match field {
                "maxTokenBytes" => config.max_token_bytes = reader.number(limits::TOKEN_BYTES)?,
                "maxPayloadBytes" => config.max_payload_bytes = reader.number(limits::PAYLOAD_BYTES)?,
                "maxRoutes" => config.max_routes = reader.number(limits::ROUTES)?,
                _ => config.max_depth = reader.number(limits::DEPTH)?,
            }
            Ok(())
        })?;
        Ok(config)
    }

    fn format(&mut self) -> Read<TokenFormat> {
        match &*self.text()? {
            "jwt" => Ok(TokenFormat::Jwt),
            "payload" => Ok(TokenFormat::Payload),
            other => Err(format!("found {}, allowed are `jwt` and `payload`", quoted(other))),
        }
    }

    /// Reads the members of the object that was entered: each by its name, which must be one of `fields`, once.
    fn members(
        &mut self,
        fields: &[&'static str],
        read: &mut dyn FnMut(&mut Self, &'static str) -> Read<()>,
    ) -> Read<()> {
        let outer = self.path.len();
        let mut seen = Vec::new();
        while let Some(key) = self.json.key().map_err(|fault| self.fault(fault))? {
            if outer > 0 {
                self.path.push('.');
            }
            let key = self.owned(key);
            self.path.push_str(&on_one_line(&key));
            let Some(field) = fields.iter().find(|field| **field == key) else {
                return Err(format!("unknown field, allowed are `{}`", fields.join("`, `")));
            };
            if seen.contains(field) {
                return Err("the field stands twice".into());
            }
            seen.push(*field);
            self.json.value().map_err(|fault| self.fault(fault))?;
            read(self, field)?;
            self.path.truncate(outer);
        }
        Ok(())
    }

    fn items<T>(&mut self, mut read: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        self.enter(Kind::Array, "a list")?;
        let outer = self.path.len();
        let mut items = Vec::new();
        while self.json.item().map_err(|fault| self.fault(fault))? {
            // Writing to a string never fails.
            let _ = write!(self.path, "[{}]", items.len());
            items.push(read(self)?);
            self.path.truncate(outer);
        }
        Ok(items)
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.json.kind() != Ok(Kind::Literal) {
            return read(self).map(Some);
        }
        let literal = self.json.literal().map_err(|fault| self.fault(fault))?;
        match self.json.text(literal) {
            b"null" => Ok(None),
            _ => Err("found `true` or `false`".into()),
        }
    }

    fn text(&mut self) -> Read<String> {
        self.kind(Kind::String, "a string")?;
        let text = self.json.string().map_err(|fault| self.fault(fault))?;
        Ok(self.owned(text))
    }

    fn number(&mut self, bound: Bound) -> Read<u32> {
        self.kind(Kind::Number, "a whole number")?;
        let number = self.json.number().map_err(|fault| self.fault(fault))?;
        let number = self.owned(number);
        number.parse().map_err(|_| format!("found {number}, allowed is a whole number, {}..={}", bound.min, bound.max))
    }

    fn enter(&mut self, kind: Kind, wanted: &str) -> Read<()> {
        self.kind(kind, wanted)?;
        self.json.enter().map_err(|fault| self.fault(fault))
    }

    fn kind(&self, kind: Kind, wanted: &str) -> Read<()> {
        let found = match self.json.kind().map_err(|fault| self.fault(fault))? {
            found if found == kind => return Ok(()),
            Kind::Object => "an object",
            Kind::Array => "a list",
            Kind::String => "a string",
            Kind::Number => "a number",
            Kind::Literal => "`true`, `false` or `null`",
        };
        Err(format!("wrong type: found {found}, allowed is {wanted}"))
    }

    fn owned(&self, span: Span) -> String {
        String::from_utf8_lossy(self.json.text(span)).into_owned()
    }

    fn fault(&self, fault: Fault) -> String {
        match fault {
            Fault::Malformed => format!("found no JSON at byte {}", self.json.position()),
            Fault::TooDeep => format!("nests too deep at byte {}", self.json.position()),
        }
    }
}

const MISSING_NAME: &str = "the field `name` is missing";

/// No configuration nests deeper.
const MAX_DEPTH: u32 = 8;

#[cfg(test)]
mod tests;
