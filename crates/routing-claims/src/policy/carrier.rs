//! The carrier of a policy (R19).

use crate::{config::PolicyConfig, names::Names};

/// Where the choice travels to the next hop, and the parts of it that are the same for every token.
pub(crate) struct Carrier {
    /// The header that contains the carrier.
    pub(crate) header: Box<str>,
    /// The key of the carrier's member, if that header is `baggage`.
    pub(crate) key: Option<Box<str>>,
    /// The rank of the source that the carrier is, if it is one (R3).
    pub(crate) source: Option<usize>,
    /// The start of the objects on the claim path, as JSON.
    pub(crate) path: Vec<u8>,
    /// In listed mode, the name of the service of each header, escaped for JSON.
    pub(crate) names: Names<Box<[u8]>>,
}

impl Carrier {
    /// Of a valid configuration with its defaults filled in.
    pub(super) fn new(config: &PolicyConfig) -> Option<Self> {
        let carry = config.carry.as_ref()?;
        let (header, source) = if let Some(key) = &carry.baggage {
            let before = config.from_headers.len() + config.from_cookies.len();
            let index = config.from_baggage.iter().position(|source| source == key);
            ("baggage", index.map(|index| before + index))
        } else {
            let header = carry.header.as_deref()?;
            (header, config.from_headers.iter().position(|source| source.name == header))
        };
        let mut path = Vec::new();
        for segment in &config.claim_path {
            path.push(b'"');
            path.extend(escaped(segment));
            path.extend_from_slice(b"\":{");
        }
        let services = config.services.iter().flatten();
        let names = services.filter_map(|service| Some((service.header.as_deref()?, escaped(&service.name))));
        let (header, key) = (Box::from(header), carry.baggage.as_deref().map(Box::from));
        Some(Self { header, key, source, path, names: Names::new(names) })
    }
}

/// The text of a JSON string. Only what must be escaped is (RFC 8259 section 7).
fn escaped(text: &str) -> Box<[u8]> {
    let mut json = Vec::new();
    for byte in text.bytes() {
        if byte < b' ' {
            json.extend_from_slice(if byte < 16 { b"\\u000" } else { b"\\u001" });
            json.extend(b"0123456789abcdef".get(usize::from(byte % 16)));
        } else {
            if matches!(byte, b'"' | b'\\') {
                json.push(b'\\');
            }
            json.push(byte);
        }
    }
    json.into()
}
