//! Writes the policy as a table of the script.

use std::fmt::Write as _;

use routing_claims::{Mode, Policy, PolicyConfig, ServiceConfig, TokenFormat};

/// The statement that defines `policy`.
pub(crate) fn table(policy: &Policy) -> String {
    let config = policy.config();
    let mut out = String::from("local policy = {\n");
    let sources = config
        .from_headers
        .iter()
        .map(|source| format!("{{name = {}, prefix = {}}}", quote(&source.name), quote(&source.prefix)));
    list(&mut out, "from_headers", sources);
    list(&mut out, "from_cookies", config.from_cookies.iter().map(|name| quote(name)));
    let optional = |text: Option<&String>| text.map_or_else(|| "nil".into(), |text| quote(text));
    if reads_baggage_or_carries(config) {
        list(&mut out, "from_baggage", config.from_baggage.iter().map(|key| quote(key)));
        let carry = config.carry.clone().unwrap_or_default();
        field(&mut out, "carry_baggage", &optional(carry.baggage.as_ref()));
        field(&mut out, "carry_header", &optional(carry.header.as_ref()));
        // The names as they are, which only the choice contains.
        let names = config.services.iter().flatten().filter(|_| config.carry.is_some());
        let name = |service: &ServiceConfig| Some((quote(service.header.as_ref()?), quote(&service.name)));
        let names: Vec<_> = names.filter_map(name).map(|(header, name)| format!("[{header}] = {name}")).collect();
        list(&mut out, "carried_names", names.into_iter());
    }
    let format = match config.format {
        TokenFormat::Jwt => "jwt",
        TokenFormat::Payload => "payload",
    };
    field(&mut out, "format", &quote(format));
    list(&mut out, "claim_path", config.claim_path.iter().map(|segment| quote(segment)));
    match policy.mode() {
        Mode::Listed(services) => {
            let services = services.iter().map(|service| {
                let name = service.name.to_ascii_lowercase();
                format!("[{}] = {}", quote(&name), quote(service.header.as_deref().unwrap_or(&name)))
            });
            list(&mut out, "services", services);
            field(&mut out, "header_prefix", "nil");
        }
        Mode::Prefix(prefix) => {
            field(&mut out, "services", "nil");
            field(&mut out, "header_prefix", &quote(prefix));
        }
    }
    field(&mut out, "report_header", &optional(config.report_header.as_ref()));
    field(&mut out, "clock_skew_seconds", &config.clock_skew_seconds.to_string());
    field(&mut out, "max_token_bytes", &config.limits.max_token_bytes.to_string());
    field(&mut out, "max_payload_bytes", &config.limits.max_payload_bytes.to_string());
    field(&mut out, "max_routes", &config.limits.max_routes.to_string());
    field(&mut out, "max_depth", &config.limits.max_depth.to_string());
    out.push_str("}\n");
    out
}

/// Whether the script needs its parts for carriers and `baggage`.
pub(crate) fn reads_baggage_or_carries(config: &PolicyConfig) -> bool {
    config.carry.is_some() || !config.from_baggage.is_empty()
}

fn list(out: &mut String, name: &str, items: impl ExactSizeIterator<Item = String>) {
    if items.len() == 0 {
        return field(out, name, "{}");
    }
    // Writing to a string cannot fail.
    _ = writeln!(out, "  {name} = {{");
    for item in items {
        _ = writeln!(out, "    {item},");
    }
    out.push_str("  },\n");
}

fn field(out: &mut String, name: &str, value: &str) {
    _ = writeln!(out, "  {name} = {value},");
}

/// A Lua expression for the text: in quotes if every byte is literal in Lua, YAML and the templates that people apply to
/// YAML (`{{`, `${`), otherwise byte by byte. `char` is a local of the script.
fn quote(text: &str) -> String {
    if text.bytes().all(is_plain) {
        return format!("\"{text}\"");
    }
    let call = |bytes: &[u8]| {
        let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
        format!("char({})", numbers.join(","))
    };
    text.as_bytes().chunks(CALL_ARGUMENTS).map(call).collect::<Vec<_>>().join(" .. ")
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !b"\"\\${}".contains(&byte)
}

/// LuaJIT does not compile a call with more than about 240 arguments.
const CALL_ARGUMENTS: usize = 100;
