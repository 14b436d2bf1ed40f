//! Making and decoding test tokens.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value};

/// How a token is signed or verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Signature {
    /// HMAC with a shared secret.
    #[value(name = "HS256")]
    Hs256,
    /// RSA.
    #[value(name = "RS256")]
    Rs256,
    /// Elliptic curve P-256.
    #[value(name = "ES256")]
    Es256,
}

/// What a token contains. None of it is verified.
#[derive(Clone, PartialEq)]
pub struct UnverifiedToken {
    /// Its header.
    pub header: Value,
    /// Its payload.
    pub payload: Value,
}

/// Why a token can't be made, decoded or verified.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key does not have the format of the algorithm.
    #[error("can't read the key: {0}")]
    Key(#[source] jsonwebtoken::errors::Error),
    /// The key can't sign.
    #[error("can't sign the token: {0}")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// The token has another number of parts.
    #[error("expected three parts separated by dots, found {0}")]
    Parts(usize),
    /// A part is not valid base64url.
    #[error("the {part} is not valid base64url: {error}")]
    Base64 {
        /// `header` or `payload`.
        part: &'static str,
        /// Why.
        #[source]
        error: base64::DecodeError,
    },
    /// A part is not valid JSON.
    #[error("the {part} is not valid JSON: {error}")]
    Json {
        /// `header` or `payload`.
        part: &'static str,
        /// Why.
        #[source]
        error: serde_json::Error,
    },
    /// The signature is not of this key.
    #[error("{0}")]
    Signature(#[source] jsonwebtoken::errors::Error),
}

/// Without its claims (R17).
impl fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedToken").finish_non_exhaustive()
    }
}

/// Signs a payload. The key is PEM, or for HMAC the secret itself.
///
/// # Errors
///
/// Why the key can't be used.
pub fn sign(
    payload: &Map<String, Value>,
    signature: Signature,
    key: &[u8],
    key_id: Option<&str>,
) -> Result<String, TokenError> {
    let key = match signature {
        Signature::Hs256 => Ok(EncodingKey::from_secret(key)),
        Signature::Rs256 => EncodingKey::from_rsa_pem(key),
        Signature::Es256 => EncodingKey::from_ec_pem(key),
    }
    .map_err(TokenError::Key)?;
    let header = Header { kid: key_id.map(str::to_owned), ..Header::new(signature.algorithm()) };
    jsonwebtoken::encode(&header, payload, &key).map_err(TokenError::Sign)
}

/// Makes a token that every gateway with a `RequestAuthentication` refuses.
#[must_use]
pub fn unsigned(payload: &Map<String, Value>) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", encode(r#"{"alg":"none","typ":"JWT"}"#), encode(&Value::from(payload.clone()).to_string()))
}

/// Decodes a token without verifying anything.
///
/// # Errors
///
/// The token is not three parts of base64url, the first two with JSON in them.
pub fn decode_unverified(token: &str) -> Result<UnverifiedToken, TokenError> {
    let parts: Vec<_> = token.trim().split('.').collect();
    let [header, payload, _] = parts[..] else {
        return Err(TokenError::Parts(parts.len()));
    };
    let part = |part: &'static str, text: &str| {
        let bytes =
            URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|error| TokenError::Base64 { part, error })?;
        serde_json::from_slice(&bytes).map_err(|error| TokenError::Json { part, error })
    };
    Ok(UnverifiedToken { header: part("header", header)?, payload: part("payload", payload)? })
}

/// Verifies a token's signature, but neither its times nor its audience.
///
/// # Errors
///
/// Why it is not valid.
pub fn verify_signature(token: &str, signature: Signature, key: &[u8]) -> Result<(), TokenError> {
    let key = match signature {
        Signature::Hs256 => Ok(DecodingKey::from_secret(key)),
        Signature::Rs256 => DecodingKey::from_rsa_pem(key),
        Signature::Es256 => DecodingKey::from_ec_pem(key),
    }
    .map_err(TokenError::Key)?;
    let mut validation = Validation::new(signature.algorithm());
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode::<Value>(token.trim(), &key, &validation).map(|_| ()).map_err(TokenError::Signature)
}

/// A text with `<token>` instead of each token or payload, which is base64url that begins with `{"`.
#[must_use]
pub fn without_tokens(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.=+/".contains(c);
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("eyJ") {
        let (before, found) = rest.split_at(at);
        let (token, after) = found.split_at(found.find(|c| !is_part(c)).unwrap_or(found.len()));
        let within_word = before.ends_with(|c: char| c.is_ascii_alphanumeric());
        shown.push_str(before);
        shown.push_str(if within_word || token.len() < SHORTEST { token } else { "<token>" });
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Of `{"a":1}`.
const SHORTEST: usize = 10;

impl Signature {
    fn algorithm(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn payload() -> Map<String, Value> {
        json!({"microservice-A": "PR-1"}).as_object().unwrap().clone()
    }

    #[test]
    fn a_signed_token_verifies_with_its_key_only() {
        let token = sign(&payload(), Signature::Hs256, b"secret", Some("k1")).unwrap();
        assert_eq!(decode_unverified(&token).unwrap().payload, json!({"microservice-A": "PR-1"}));
        assert_eq!(decode_unverified(&token).unwrap().header["kid"], "k1");
        assert!(verify_signature(&token, Signature::Hs256, b"secret").is_ok());
        assert!(verify_signature(&token, Signature::Hs256, b"other").is_err());
        assert!(verify_signature(&unsigned(&payload()), Signature::Hs256, b"secret").is_err());
    }

    #[test]
    fn malformed_tokens_are_errors() {
        assert!(decode_unverified("a.b").unwrap_err().to_string().contains("three parts"));
        assert!(decode_unverified("!.e30.").unwrap_err().to_string().contains("header is not valid base64url"));
        assert!(decode_unverified("e30.e3.").unwrap_err().to_string().contains("payload is not"));
    }

    #[test]
    fn tokens_are_taken_out_of_a_text() {
        let token = unsigned(&payload());
        for (text, wanted) in [
            (format!("found '{token}' there"), "found '<token>' there"),
            (format!("{token}, {token}x"), "<token>, <token>"),
            ("eyJhIjoxfQ".into(), "<token>"),
            ("eyJ. conveyJob-plan.yaml eyewitness.svc".into(), "eyJ. conveyJob-plan.yaml eyewitness.svc"),
        ] {
            assert_eq!(without_tokens(&text), wanted);
        }
    }

    #[test]
    fn debug_shows_no_claim() {
        let token = decode_unverified(&unsigned(&payload())).unwrap();
        assert_eq!(format!("{token:?}"), "UnverifiedToken { .. }");
    }
}
