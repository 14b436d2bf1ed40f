//! The carrier of a policy (R19).

use crate::{
    config::{CarryConfig, PolicyConfig},
    names::Names,
};

/// Where the choice travels to the next hop, and the parts of it that are the same for every token.
pub(crate) struct Carrier {
    pub(crate) place: Place,
    /// The rank of the source that the carrier is, if it is one (R3).
    pub(crate) source: Option<usize>,
    /// The keys on the claim path, as JSON strings.
    pub(crate) path: Vec<Box<[u8]>>,
    /// In listed mode, the name of the service of each header, as a JSON string.
    pub(crate) names: Names<Box<[u8]>>,
}

pub(crate) enum Place {
    /// The member of `baggage` with this key.
    Baggage(Box<str>),
    Header(Box<str>),
}

impl Carrier {
    /// Of a valid configuration with its defaults filled in.
    pub(super) fn new(config: &PolicyConfig) -> Option<Self> {
        let (place, source) = match config.carry.clone()? {
            CarryConfig { baggage: Some(key), .. } => {
                let before = config.from_headers.len() + config.from_cookies.len();
                let source = config.from_baggage.iter().position(|source| *source == key);
                (Place::Baggage(key.into()), source.map(|index| before + index))
            }
            CarryConfig { header, .. } => {
                let header = header?;
                let source = config.from_headers.iter().position(|source| source.name == header);
                (Place::Header(header.into()), source)
            }
        };
        let services = config.services.iter().flatten();
        let names = services.filter_map(|service| Some((service.header.as_deref()?, json_string(&service.name))));
        let path = config.claim_path.iter().map(|segment| json_string(segment)).collect();
        Some(Self { place, source, path, names: Names::new(names) })
    }

    /// The header that contains the carrier.
    pub(crate) fn header(&self) -> &str {
        match &self.place {
            Place::Baggage(_) => "baggage",
            Place::Header(header) => header,
        }
    }
}

/// A JSON string with quotes. Only what must be escaped is (RFC 8259 section 7).
fn json_string(text: &str) -> Box<[u8]> {
    let mut json = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            '\0'..='\x1f' => {
                let digit = |value: u32| char::from_digit(value, 16).unwrap_or('0');
                json.extend(['\\', 'u', '0', '0', digit(u32::from(character) / 16), digit(u32::from(character) % 16)]);
            }
            _ => json.push(character),
        }
    }
    json.push('"');
    json.into_bytes().into()
}
