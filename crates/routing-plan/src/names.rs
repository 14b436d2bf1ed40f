//! What Kubernetes, DNS and the filter accept as names. Each rule's error says what is expected.

/// A DNS label (RFC 1123): a namespace, the name of a Service.
pub(crate) fn label(text: &str) -> Result<(), &'static str> {
    let expected = "a DNS label (1 to 63 of `a-z 0-9 -`, without `-` at its ends)";
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = text.as_bytes();
    let inner = bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
    if inner && bytes.len() <= 63 && ends(bytes.first()) && ends(bytes.last()) { Ok(()) } else { Err(expected) }
}

/// A namespace, or the start of some with `*` after it.
pub(crate) fn namespace_pattern(text: &str) -> Result<(), &'static str> {
    let fine = match text.strip_suffix('*') {
        // `preview-*`: with any letter after it, the start is a label.
        Some(start) => label(&format!("{start}a")).is_ok(),
        None => label(text).is_ok(),
    };
    if fine { Ok(()) } else { Err("a namespace, or the start of its name and `*`") }
}

/// A DNS name: labels separated by dots.
pub(crate) fn host(text: &str) -> Result<(), &'static str> {
    let expected = "a DNS name in lower case (labels of `a-z 0-9 -`, separated by dots, at most 253 characters)";
    if text.len() <= 253 && text.split('.').all(|part| label(part).is_ok()) { Ok(()) } else { Err(expected) }
}

/// A DNS name, with or without `*.` before it.
pub(crate) fn public_host(text: &str) -> Result<(), &'static str> {
    host(text.strip_prefix("*.").unwrap_or(text))
        .map_err(|_| "a DNS name in lower case, with or without `*.` before it")
}

/// A gateway as a `VirtualService` names it.
pub(crate) fn gateway_name(text: &str) -> Result<(), &'static str> {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    if label(namespace).is_ok() && host(name).is_ok() { Ok(()) } else { Err("`namespace/name` or `name` of a Gateway") }
}

/// The name of an image in a registry (the OCI distribution specification, "Pulling manifests").
pub(crate) fn repository(text: &str) -> Result<(), &'static str> {
    let expected = "the name of an image (words of `a-z 0-9`, separated by `. _ - /`)";
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let inner = part.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'_' | b'-'));
        inner && part.bytes().next().is_some_and(is_word) && part.bytes().next_back().is_some_and(is_word)
    };
    if text.len() <= 255 && text.split('/').all(part) { Ok(()) } else { Err(expected) }
}

/// The tag of an image (as [`repository`]).
pub(crate) fn tag(text: &str) -> Result<(), &'static str> {
    let inner = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let fine = inner && (1..=128).contains(&text.len()) && !text.starts_with(['.', '-']);
    if fine { Ok(()) } else { Err("a tag (1 to 128 of `A-Z a-z 0-9 . _ -`, without `.` or `-` at its start)") }
}

/// A version (R12): a claim with any other text is not routed.
pub(crate) fn version(text: &str) -> Result<(), &'static str> {
    let expected = "a version (1 to 63 of `A-Z a-z 0-9 . _ -`, with a letter or digit at its ends)";
    if routing_claims::is_version(text) { Ok(()) } else { Err(expected) }
}

/// The key of a label.
pub(crate) fn label_key(text: &str) -> Result<(), &'static str> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let fine = is_label_name(name) && prefix.is_none_or(|prefix| host(prefix).is_ok());
    if fine {
        Ok(())
    } else {
        Err("a label key (1 to 63 of `A-Z a-z 0-9 . _ -`, with or without a DNS name and `/` before it)")
    }
}

/// The value of a label.
pub(crate) fn label_value(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || is_label_name(text) {
        return Ok(());
    }
    Err("a label value (at most 63 of `A-Z a-z 0-9 . _ -`, with a letter or digit at its ends)")
}

/// Whether Kubernetes accepts a text as the name in a label's key and as its value: the same rule as for a version.
fn is_label_name(text: &str) -> bool {
    routing_claims::is_version(text)
}

/// Name and namespace of the Kubernetes Service that a host names.
#[must_use]
pub fn kubernetes_service(host: &str) -> Option<(&str, &str)> {
    let (name, rest) = host.split_once('.')?;
    let (namespace, rest) = rest.split_once('.')?;
    (rest == "svc" || rest.starts_with("svc.")).then_some((name, namespace))
}

/// The full form of a host that may be short, as a resource in the namespace means it.
pub(crate) fn full_host(name: &str, namespace: &str) -> String {
    if name.contains(['.', ':']) || name == "*" {
        name.to_owned()
    } else {
        format!("{name}.{namespace}.svc.cluster.local")
    }
}

/// Whether a host that may be short, in a resource in the namespace, is this one.
pub(crate) fn same_host(name: &str, namespace: &str, host: &str) -> bool {
    full_host(name, namespace) == host
}

/// `namespace/name` of a gateway, as a `VirtualService` in the namespace means its name: also `./name`, `name`, and the old
/// `name.namespace.svc.cluster.local`. (`resolveGatewayName` in Istio's `config.go`.)
pub(crate) fn gateway(name: &str, namespace: &str) -> String {
    match name.split_once('/') {
        Some((".", own)) => format!("{namespace}/{own}"),
        Some(_) => name.to_owned(),
        None if name == "mesh" => name.to_owned(),
        None => match name.split_once('.') {
            Some((own, rest)) => format!("{}/{own}", rest.split('.').next().unwrap_or_default()),
            None => format!("{namespace}/{name}"),
        },
    }
}

/// A name for a resource from any text: in lower case, with `-` for each character that is not allowed.
pub(crate) fn slug(text: &str) -> String {
    let dashed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    text.chars().map(dashed).collect::<String>().trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(label("pr-1").is_ok() && label("-a").is_err() && label("A").is_err() && label("").is_err());
        assert!(label(&"a".repeat(63)).is_ok() && label(&"a".repeat(64)).is_err());
        for pattern in ["shop", "preview-*", "*"] {
            assert!(namespace_pattern(pattern).is_ok(), "{pattern}");
        }
        for pattern in ["", "-*", "a*b", "**", "Shop", "preview-"] {
            assert!(namespace_pattern(pattern).is_err(), "{pattern}");
        }
        assert!(host("a.b-c.d").is_ok() && host("a..b").is_err() && host("a_b").is_err());
        assert!(
            version("PR-1").is_ok() && version("1.2_3").is_ok() && version("-1").is_err() && version("a b").is_err()
        );
        assert!(gateway_name("istio-system/public").is_ok() && gateway_name("a/b/c").is_err());
        for name in ["g", "./g", "n/g", "g.n", "g.n.svc.cluster.local"] {
            assert_eq!(gateway(name, "n"), "n/g", "{name}");
        }
        assert_eq!(gateway("mesh", "n"), "mesh");
        assert!(label_key("routing-claims.dev/router").is_ok() && label_key("/x").is_err());
        assert_eq!(kubernetes_service("a.b.svc.cluster.local"), Some(("a", "b")));
        assert_eq!(kubernetes_service("shop.example.com"), None);
        assert!(repository("team/routing-claims").is_ok() && repository("a__b").is_ok() && repository("A").is_err());
        assert!(repository("a/").is_err() && repository("-a").is_err() && repository("").is_err());
        assert!(tag("1.0_x").is_ok() && tag("").is_err() && tag(".a").is_err() && tag(&"a".repeat(129)).is_err());
        assert_eq!(slug("Shop API/v2!"), "shop-api-v2");
    }
}
