//! Conditions on a request, each of which holds, does not, or can't be judged from here.

use regex::Regex;
use serde_json::{Map, Value};

use super::Request;
use crate::{manifests::texts, names};

/// Whether a condition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It does.
    Yes,
    /// It does not, for these reasons.
    No(Vec<String>),
    /// It can't be told, for this reason.
    Unknown(String),
}

impl Verdict {
    pub(super) fn of(holds: bool, why_not: impl FnOnce() -> String) -> Self {
        if holds { Self::Yes } else { Self::No(vec![why_not()]) }
    }

    /// All of them: one that does not hold decides.
    pub(super) fn all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        let mut unknown = None;
        for verdict in verdicts {
            match verdict {
                Self::Yes => {}
                Self::No(why) => return Self::No(why),
                Self::Unknown(why) => unknown = Some(why),
            }
        }
        unknown.map_or(Self::Yes, Self::Unknown)
    }

    /// One of them: one that holds decides.
    pub(super) fn any(verdicts: impl IntoIterator<Item = Self>) -> Self {
        let (mut unknown, mut reasons) = (None, Vec::new());
        for verdict in verdicts {
            match verdict {
                Self::Yes => return Self::Yes,
                Self::No(why) => reasons.extend(why),
                Self::Unknown(why) => unknown = Some(why),
            }
        }
        unknown.map_or(Self::No(reasons), Self::Unknown)
    }
}

/// One entry of a `VirtualService` route's `match`.
pub(super) fn istio(condition: &Value, request: &Request) -> Verdict {
    let ignore_case = condition["ignoreUriCase"] == true;
    Verdict::all(entries(condition).map(|(field, value)| match field {
        "name" | "ignoreUriCase" | "statPrefix" => Verdict::Yes,
        "uri" if ignore_case => string("uri", &lower_case(value), &[&path(request).to_lowercase()]),
        "uri" => string("uri", value, &[path(request)]),
        "method" => string("method", value, &[&request.method]),
        "authority" => string("authority", value, &[&request.host]),
        "scheme" => string("scheme", value, &["http"]),
        "headers" => Verdict::all(entries(value).map(|(name, value)| header(name, value, request))),
        "withoutHeaders" => Verdict::all(entries(value).map(|(name, value)| match header(name, value, request) {
            Verdict::Yes => Verdict::No(vec![format!("the header `{name}` is as it must not be")]),
            Verdict::No(_) => Verdict::Yes,
            unknown @ Verdict::Unknown(_) => unknown,
        })),
        "queryParams" => Verdict::all(entries(value).map(|(name, value)| {
            let found = query(request, name);
            string(&format!("query parameter {name}"), value, &Vec::from_iter(found))
        })),
        "port" => match request.port {
            Some(port) => {
                Verdict::of(value.as_u64() == Some(port.into()), || format!("the port is {port}, not {value}"))
            }
            None => Verdict::Unknown("it depends on the port, which is not given (--port)".into()),
        },
        "gateways" => gateways(value, request),
        "sourceNamespace" => match &request.namespace {
            Some(namespace) => {
                Verdict::of(value == namespace, || format!("the sender's namespace is `{namespace}`, not {value}"))
            }
            None => {
                Verdict::Unknown("it depends on the sender's namespace, which is not given (--from-namespace)".into())
            }
        },
        "sourceLabels" => source_labels(value, request),
        other => Verdict::Unknown(format!("`{other}` can't be evaluated offline")),
    }))
}

/// The gateways of a `match` entry or of a whole resource.
pub(super) fn gateways(value: &Value, request: &Request) -> Verdict {
    let here = request.gateway.as_deref().unwrap_or("mesh");
    let named: Vec<_> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    Verdict::of(named.contains(&here), || format!("it is for {}, not {here}", named.join(", ")))
}

/// Whether any of the values is as wanted.
pub(super) fn compare(what: &str, kind: &str, wanted: &str, values: &[&str]) -> Verdict {
    let holds = match kind {
        "exact" => values.contains(&wanted),
        "prefix" => values.iter().any(|value| value.starts_with(wanted)),
        "regex" => match Regex::new(&format!("^(?:{wanted})$")) {
            Ok(regex) => values.iter().any(|value| regex.is_match(value)),
            Err(_) => return Verdict::Unknown(format!("the regex `{wanted}` can't be read")),
        },
        other => return Verdict::Unknown(format!("`{other}` can't be evaluated offline")),
    };
    Verdict::of(holds, || match values {
        [] => format!("there is no {what}"),
        [value] => format!("{what} is `{value}`, not {kind} `{wanted}`"),
        _ => format!("no {what} is {kind} `{wanted}`"),
    })
}

/// As [`compare`], but a value that is not one a filter sets stays untold: it may be a token (R17).
pub(super) fn compare_header(name: &str, kind: &str, wanted: &str, values: &[&str]) -> Verdict {
    match compare(name, kind, wanted, values) {
        Verdict::No(_) if !values.is_empty() && !values.iter().all(|value| names::version(value).is_ok()) => {
            Verdict::No(vec![format!("no {name} is {kind} `{wanted}`")])
        }
        verdict => verdict,
    }
}

/// Without the query.
pub(super) fn path(request: &Request) -> &str {
    request.path.split(['?', '#']).next().unwrap_or_default()
}

/// The first value of a query parameter.
pub(super) fn query<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let query = request.path.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Exact, prefix, regex, or, empty, mere presence.
fn header(name: &str, condition: &Value, request: &Request) -> Verdict {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Verdict::No(vec![format!("the header's name `{name}` is in upper case: it never matches")]);
    }
    let values: Vec<_> = match name {
        ":authority" => vec![&*request.host],
        ":method" => vec![&*request.method],
        ":path" => vec![&*request.path],
        _ => request.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value).collect(),
    };
    if condition.as_object().is_none_or(Map::is_empty) {
        return Verdict::of(!values.is_empty(), || format!("there is no {name}"));
    }
    let Some((kind, wanted)) = entries(condition).next() else { return Verdict::Yes };
    compare_header(name, kind, wanted.as_str().unwrap_or_default(), &values)
}

/// Istio's `StringMatch` on any of the values.
fn string(what: &str, condition: &Value, values: &[&str]) -> Verdict {
    let Some((kind, wanted)) = entries(condition).next() else { return Verdict::Yes };
    compare(what, kind, wanted.as_str().unwrap_or_default(), values)
}

fn lower_case(condition: &Value) -> Value {
    let lower = |(kind, text): (&str, &Value)| {
        let text = text.as_str().unwrap_or_default();
        (kind.to_owned(), Value::from(if kind == "regex" { format!("(?i){text}") } else { text.to_lowercase() }))
    };
    entries(condition).map(lower).collect()
}

fn source_labels(value: &Value, request: &Request) -> Verdict {
    match (&request.labels, &request.gateway) {
        (_, Some(_)) => Verdict::Unknown("sourceLabels at a gateway can't be evaluated offline".into()),
        (Some(labels), None) => Verdict::all(texts(value).into_iter().map(|(key, value)| {
            Verdict::of(labels.get(&key) == Some(&value), || format!("the sender lacks the label {key}: {value}"))
        })),
        (None, None) => {
            Verdict::Unknown("it depends on the sender's labels, which are not given (--from-labels)".into())
        }
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (&**key, value))
}
