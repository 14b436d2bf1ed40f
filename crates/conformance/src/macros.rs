//! Replaces `<<…>>` in the texts of a case.

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

/// The values of the macros.
pub(crate) struct Macros {
    now: i64,
    payload: Option<String>,
}

impl Macros {
    /// The macros of a case that runs at this Unix time.
    pub(crate) fn new(now: i64, payload: Option<&str>) -> Result<Self> {
        let mut macros = Self { now, payload: None };
        macros.payload = payload.map(|text| macros.expand(text)).transpose()?.map(|bytes| base64url(&bytes));
        Ok(macros)
    }

    /// Replaces every macro, innermost first.
    pub(crate) fn expand(&self, text: &str) -> Result<Vec<u8>> {
        let mut bytes = text.as_bytes().to_vec();
        while let Some(end) = find(&bytes, b">>") {
            let start = bytes.get(..end).and_then(|before| rfind(before, b"<<")).context("`>>` without `<<`")?;
            let inner = bytes.get(start + 2..end).unwrap_or_default();
            let value = self.value(inner).with_context(|| format!("in <<{}>>", String::from_utf8_lossy(inner)))?;
            bytes.splice(start..end + 2, value);
        }
        ensure!(find(&bytes, b"<<").is_none(), "`<<` without `>>`");
        Ok(bytes)
    }

    fn value(&self, inner: &[u8]) -> Result<Vec<u8>> {
        let (name, argument) = match inner.iter().position(|byte| *byte == b':') {
            Some(colon) => inner.split_at(colon),
            None => (inner, &b":"[..]),
        };
        let argument = argument.get(1..).unwrap_or_default();
        Ok(match std::str::from_utf8(name)? {
            "token" => [base64url(JOSE), self.payload()?, "sig".into()].join(".").into_bytes(),
            "jose" => base64url(JOSE).into_bytes(),
            "payload" => self.payload()?.into_bytes(),
            "b64" => base64url(argument).into_bytes(),
            "hex" => hex(argument)?,
            "repeat" => {
                let (count, text) = counted(argument)?;
                text.repeat(count)
            }
            "count" => {
                let (count, text) = counted(argument)?;
                let text = std::str::from_utf8(text)?;
                (1..=count).map(|n| text.replace('#', &n.to_string())).collect::<Vec<_>>().join(",").into_bytes()
            }
            time if time.starts_with("now") => {
                let offset: i64 = if time == "now" { 0 } else { time.trim_start_matches("now").parse()? };
                (self.now + offset).to_string().into_bytes()
            }
            other => bail!("unknown macro `{other}`"),
        })
    }

    fn payload(&self) -> Result<String> {
        self.payload.clone().context("the case has no `payload`")
    }
}

fn counted(argument: &[u8]) -> Result<(usize, &[u8])> {
    let colon = argument.iter().position(|byte| *byte == b':').context("expected a count, a colon and a text")?;
    let (count, text) = argument.split_at(colon);
    Ok((std::str::from_utf8(count)?.parse()?, text.get(1..).unwrap_or_default()))
}

fn hex(digits: &[u8]) -> Result<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    ensure!(rest.is_empty(), "expected an even number of digits");
    pairs.iter().map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

fn rfind(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).rposition(|window| window == mark)
}

const JOSE: &[u8] = br#"{"alg":"none"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_nest_and_become_bytes() {
        let macros = Macros::new(1000, Some("{<<repeat:2: >>}")).unwrap();
        for (text, expected) in [
            ("a<<hex:ff00>>b", &b"a\xff\0b"[..]),
            ("<<b64:<<repeat:3:ab>>>>", b"YWJhYmFi"),
            ("<<now>> <<now-60>> <<now+1>>.5", b"1000 940 1001.5"),
            ("<<count:2:\"k#\":#>>", b"\"k1\":1,\"k2\":2"),
            ("<<payload>>", b"eyAgfQ"),
            ("<<token>>", b"eyJhbGciOiJub25lIn0.eyAgfQ.sig"),
        ] {
            assert_eq!(macros.expand(text).unwrap(), expected, "{text}");
        }
        for text in ["<<nothing>>", "<<hex:f>>", "<<now", "now>>", "<<repeat:x>>"] {
            assert!(macros.expand(text).is_err(), "{text}");
        }
    }
}
