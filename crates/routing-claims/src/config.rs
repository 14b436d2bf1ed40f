//! The policy as users write it: JSON in the `pluginConfig` of a `WasmPlugin`, or `spec.policy` of a plan.
//!
//! These types check only the types of fields. [`Policy::new`](crate::Policy::new) checks the rest.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::limits;

/// A policy as users write it. [`Policy::new`](crate::Policy::new) validates it.
///
/// Exactly one of `services` and `headerPrefix` is required. The filter can strip a header only if it is listed or has a
/// known prefix; any other header could be spoofed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Headers that can contain the token, in order. Each has a name and a prefix.
    #[serde(deserialize_with = "objects")]
    pub from_headers: Vec<HeaderSourceConfig>,
    /// Cookies that can contain the token, in order, after the headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_cookies: Vec<String>,
    /// Keys of `baggage` members (W3C Baggage) that can contain the token, in order, after the cookies. Case-sensitive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_baggage: Vec<String>,
    /// Where the choice travels to the next hop. By default nowhere: each service forwards the token itself.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_object")]
    pub carry: Option<CarryConfig>,
    /// Format of the token in headers and cookies. A value in `fromBaggage` or the carrier tells its format itself.
    #[serde(deserialize_with = "variant")]
    pub format: TokenFormat,
    /// Literal path to the object that maps services to versions. If empty, that object is the payload itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claim_path: Vec<String>,
    /// Listed mode: the only services that can be routed.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_objects")]
    pub services: Option<Vec<ServiceConfig>>,
    /// Prefix mode: any service can be routed. Its header is this prefix plus its name in lower case. Requires a
    /// `claimPath`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_prefix: Option<String>,
    /// Managed request header with the outcome and the headers that were set or skipped, for people and access logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_header: Option<String>,
    /// Tolerance for `exp` and `nbf` in seconds, 0 to 300.
    #[cfg_attr(feature = "schema", schemars(range(min = limits::CLOCK_SKEW_SECONDS.min, max = limits::CLOCK_SKEW_SECONDS.max)))]
    pub clock_skew_seconds: u32,
    /// Limits for a token.
    #[serde(deserialize_with = "object")]
    pub limits: LimitsConfig,
}

/// A header that can contain the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderSourceConfig {
    /// Name of the header, case-insensitive.
    pub name: String,
    /// Text before the token, case-insensitive (ASCII). If empty, each part between commas is a token.
    #[serde(default)]
    pub prefix: String,
}

/// The carrier: where the choice travels to the next hop. Exactly one of the fields is required.
///
/// What travels is an unsigned payload of the claims that routed and of `exp`. It is not a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CarryConfig {
    /// Key of a `baggage` member (W3C Baggage), 1 to 127 bytes, case-sensitive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baggage: Option<String>,
    /// Name of a header, 1 to 127 bytes, in lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// Format of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum TokenFormat {
    /// A compact JWS (RFC 7515 section 7.1). Its signature is not verified.
    #[default]
    Jwt,
    /// Only the base64url payload, as Istio's `outputPayloadToHeader` writes it.
    Payload,
}

/// A service that can be routed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceConfig {
    /// Key of the claim, 1 to 63 bytes of UTF-8, case-insensitive (ASCII).
    pub name: String,
    /// Header to set. The default is the name in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// Limits for a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Maximum length of the token in bytes, 256 to 65536.
    #[cfg_attr(feature = "schema", schemars(range(min = limits::TOKEN_BYTES.min, max = limits::TOKEN_BYTES.max)))]
    pub max_token_bytes: u32,
    /// Maximum length of the decoded payload in bytes, 64 to 49152.
    #[cfg_attr(feature = "schema", schemars(range(min = limits::PAYLOAD_BYTES.min, max = limits::PAYLOAD_BYTES.max)))]
    pub max_payload_bytes: u32,
    /// Maximum number of valid claims, 1 to 64. Independently of it, the routes object has at most 128 keys.
    #[cfg_attr(feature = "schema", schemars(range(min = limits::ROUTES.min, max = limits::ROUTES.max)))]
    pub max_routes: u32,
    /// Maximum nesting of objects and arrays in the payload, 1 to 64. The payload itself has depth 1.
    #[cfg_attr(feature = "schema", schemars(range(min = limits::DEPTH.min, max = limits::DEPTH.max)))]
    pub max_depth: u32,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            from_headers: vec![HeaderSourceConfig { name: "authorization".into(), prefix: "Bearer ".into() }],
            from_cookies: Vec::new(),
            from_baggage: Vec::new(),
            carry: None,
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

/// Reads a struct only from an object. Derived code also accepts a list of the fields' values, which nobody intends and
/// whose meaning depends on the order of the fields.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

fn optional_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let object: Option<Object<T>> = Deserialize::deserialize(deserializer)?;
    Ok(object.map(|Object(value)| value))
}

fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Object<T>> = Deserialize::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

fn optional_objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let objects: Option<Vec<Object<T>>> = Deserialize::deserialize(deserializer)?;
    Ok(objects.map(|objects| objects.into_iter().map(|Object(value)| value).collect()))
}

/// Reads a unit variant only from its name. Derived code also accepts `{"jwt": null}`.
fn variant<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(deserializer)?.into_deserializer())
}
