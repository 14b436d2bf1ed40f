//! Writes the policy as a table of the script.

use std::fmt::Write as _;

use routing_claims::{Mode, Policy, TokenFormat};

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
    let optional = |text: &Option<String>| text.as_deref().map_or_else(|| "nil".into(), quote);
    field(&mut out, "report_header", &optional(&config.report_header));
    field(&mut out, "clock_skew_seconds", &config.clock_skew_seconds.to_string());
    field(&mut out, "max_token_bytes", &config.limits.max_token_bytes.to_string());
    field(&mut out, "max_payload_bytes", &config.limits.max_payload_bytes.to_string());
    field(&mut out, "max_routes", &config.limits.max_routes.to_string());
    field(&mut out, "max_depth", &config.limits.max_depth.to_string());
    out.push_str("}\n");
    out
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
