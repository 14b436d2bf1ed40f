//! Signed tokens of a given size, all different.

use anyhow::{Context as _, Result, anyhow};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use manifest_gen::token::{Signature, sign};
use rsa::{
    RsaPrivateKey,
    pkcs1::{EncodeRsaPrivateKey as _, LineEnding},
    rand_core::OsRng,
    traits::PublicKeyParts as _,
};
use serde_json::{Value, json};

/// An RSA key made for one run.
pub(super) struct Key {
    pem: String,
    /// The public part as a JSON Web Key Set.
    pub(super) jwks: Value,
}

impl Key {
    pub(super) fn generate() -> Result<Self> {
        let key = RsaPrivateKey::new(&mut OsRng, 2048).context("cannot make an RSA key")?;
        let number = |number: &rsa::BigUint| URL_SAFE_NO_PAD.encode(number.to_bytes_be());
        let jwks = json!({"keys": [{
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": KEY_ID, "n": number(key.n()), "e": number(key.e()),
        }]});
        Ok(Self { pem: key.to_pkcs1_pem(LineEnding::LF)?.to_string(), jwks })
    }

    /// `count` tokens, each of `bytes` bytes or up to nine fewer, and with its own `jti`.
    pub(super) fn tokens(&self, count: usize, bytes: usize) -> Result<Vec<String>> {
        // Two threads: a signature takes a millisecond.
        let half = count / 2;
        std::thread::scope(|scope| {
            let first = scope.spawn(|| (0..half).map(|serial| self.token(serial, bytes)).collect::<Result<Vec<_>>>());
            let second = (half..count).map(|serial| self.token(serial, bytes)).collect::<Result<Vec<_>>>()?;
            let mut tokens = first.join().map_err(|_| anyhow!("the signing thread panicked"))??;
            tokens.extend(second);
            Ok(tokens)
        })
    }

    fn token(&self, serial: usize, bytes: usize) -> Result<String> {
        let Value::Object(payload) = serde_json::from_str(&payload(serial, (bytes - FRAME_BYTES) / 4 * 3))? else {
            return Err(anyhow!("the payload is not an object"));
        };
        sign(&payload, Signature::Rs256, self.pem.as_bytes(), Some(KEY_ID)).map_err(|error| anyhow!(error))
    }
}

/// Two routes among what tokens of identity providers hold: eight claims where there is room for them, and in large tokens a
/// list of groups.
fn payload(serial: usize, bytes: usize) -> String {
    let mut claims =
        format!(r#"{{"iss":"{ISSUER}","jti":"{serial:08}","microservice-A":"PR-1","microservice-B":"PR-2""#);
    if bytes > 200 {
        claims.push_str(r#","exp":4000000000,"iat":1700000000,"aud":"qa""#);
    }
    let group = r#""platform-team-readers","#;
    let groups = bytes.saturating_sub(claims.len() + 100) / group.len();
    if groups > 0 {
        claims.push_str(r#","groups":["#);
        claims.push_str(group.repeat(groups).trim_end_matches(','));
        claims.push(']');
    }
    if let Some(room) = bytes.checked_sub(claims.len() + r#","sub":""}"#.len()) {
        claims.extend([r#","sub":""#, &"x".repeat(room), "\""]);
    }
    claims + "}"
}

pub(super) const ISSUER: &str = "bench";
const KEY_ID: &str = "k1";
/// The token's header (38 bytes), two dots, and a signature of 256 bytes.
const FRAME_BYTES: usize = 51 + 2 + 342;
