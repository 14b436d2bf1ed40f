//! What Envoy's `jwt_authn` does with a request before the filter sees it: at a gateway as a `RequestAuthentication` wants it, in a
//! sidecar as an `EnvoyFilter` does. Signatures are taken for valid: the keys are not known.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use routing_claims::PolicyConfig;
use serde_json::{Value, json};

use super::{ExplainRequest, Explanation, hosts};
use crate::{
    attachment::Attachment,
    manifests::Manifest,
    views::{EnvoyFilter, RequestAuthentication, request_authentication::JwtRule},
};

/// Gives the filter the payloads that the check writes, and nothing else in their places. Returns whether the request gets that far.
pub(super) fn verify(
    manifests: &[Manifest],
    request: &mut ExplainRequest,
    now: i64,
    explanation: &mut Explanation,
) -> bool {
    if request.gateway.is_some() {
        at_gateway(manifests, request, now, explanation)
    } else {
        in_sidecar(manifests, request, now, explanation);
        true
    }
}

/// A rule that writes the payload which the policy reads.
pub(super) fn before<'m>(manifests: &'m [Manifest], policy: &PolicyConfig) -> Option<&'m JwtRule> {
    let of_istio = manifests.iter().filter_map(Manifest::view::<RequestAuthentication>);
    let of_istio = of_istio.flat_map(|one| one.jwt_rules.items());
    let of_envoy = manifests.iter().filter_map(Manifest::view::<EnvoyFilter>);
    let of_envoy = of_envoy.flat_map(EnvoyFilter::verifications).filter_map(|(_, check)| check.lenient_rules());
    of_istio.chain(of_envoy.flatten()).find(|rule| rule.writes_for(policy))
}

/// The header line (name, value) that carries a token where a rule looks first.
pub(super) fn header_line(rule: &JwtRule, token: &str) -> Option<(String, String)> {
    if let Some((name, prefix)) = rule.headers().into_iter().next() {
        return Some((name, format!("{prefix}{token}")));
    }
    rule.from_cookies.items().first().map(|name| ("cookie".to_owned(), format!("{name}={token}")))
}

/// The payload with an issuer and audience that the rule accepts, where it says nothing of them itself.
pub(super) fn acceptable(rule: &JwtRule, payload: &str) -> String {
    let (Ok(Value::Object(members)), Some((_, rest))) = (serde_json::from_str(payload), payload.split_once('{')) else {
        return payload.to_owned();
    };
    let issuer = rule.issuer.text().filter(|issuer| !issuer.is_empty()).map(|issuer| ("iss", issuer));
    let audience = rule.audiences.items().first().map(|audience| ("aud", audience.as_str()));
    let missing = [issuer, audience].into_iter().flatten().filter(|(name, _)| !members.contains_key(*name));
    let mut added: Vec<_> = missing.map(|(name, value)| format!("{}:{}", json!(name), json!(value))).collect();
    if !members.is_empty() {
        added.push(rest.to_owned());
        return format!("{{{}", added.join(","));
    }
    format!("{{{}}}", added.join(","))
}

/// One rule after the other, any of which can accept the tokens (`convertToEnvoyJwtConfig` in Istio's
/// `pilot/pkg/security/authn/policy_applier.go`).
fn at_gateway(manifests: &[Manifest], request: &mut ExplainRequest, now: i64, explanation: &mut Explanation) -> bool {
    let labels = request.labels.as_ref().or_else(|| hosts::gateway_labels(manifests, request)).cloned();
    let here = manifests.iter().filter_map(|manifest| {
        let attachment = Attachment::of(manifest.any_view(), &manifest.namespace)?;
        let view = manifest.view::<RequestAuthentication>()?;
        attachment.selects(request.namespace.as_deref(), labels.as_ref()).then_some((manifest, view))
    });
    let mut rules: Vec<_> =
        here.flat_map(|(manifest, view)| view.jwt_rules.items().iter().map(move |rule| (manifest, rule))).collect();
    rules.sort_by_key(|(_, rule)| rule.issuer.text());
    if rules.iter().any(|(_, rule)| rule.is_unclear()) {
        return true;
    }
    remove_payloads(rules.iter().map(|(_, rule)| *rule), request);
    if is_preflight(request) {
        return true;
    }
    let verdicts: Vec<_> = rules.iter().map(|(_, rule)| Verdict::of(rule, request, now)).collect();
    let both = rules.iter().zip(&verdicts);
    if let Some(((_, rule), Verdict::Accepted(payloads))) =
        both.clone().find(|(_, verdict)| matches!(verdict, Verdict::Accepted(_)))
    {
        write_payloads(rule, payloads.iter(), request);
        return true;
    }
    // The rule of the token's issuer has more to say than the others.
    let refused = both
        .filter_map(|((manifest, _), verdict)| Some((manifest, verdict.refused()?)))
        .min_by_key(|(_, why)| **why == OTHER_ISSUER);
    let Some((manifest, why)) = refused.filter(|_| labels.is_some()) else { return true };
    let status = if *why == OTHER_AUDIENCE { 403 } else { 401 };
    explanation.instead = Some(format!("{status}: {} accepts no token that {why}", manifest.id()));
    false
}

/// A token that is not accepted counts as none.
fn in_sidecar(manifests: &[Manifest], request: &mut ExplainRequest, now: i64, explanation: &mut Explanation) {
    for manifest in manifests {
        let (Some(view), Some(attachment)) =
            (manifest.view::<EnvoyFilter>(), Attachment::of(manifest.any_view(), &manifest.namespace))
        else {
            continue;
        };
        if !attachment.selects(request.namespace.as_deref(), request.labels.as_ref()) {
            continue;
        }
        let checks = view.verifications().filter_map(|(_, check)| check.lenient_rules());
        for rules in checks.filter(|rules| !rules.iter().any(|rule| rule.is_unclear())) {
            let mut refused = Vec::new();
            for rule in rules {
                remove_payloads(std::iter::once(rule), request);
                let tokens = tokens(rule, request);
                // What a rule accepts before it finds a bad token stays, until the next rule removes it (Envoy 1.40, run).
                let judged: Vec<_> = tokens.into_iter().rev().map(|token| judge(rule, token, now)).collect();
                write_payloads(rule, judged.iter().map_while(|one| one.as_ref().ok()), request);
                match judged.iter().find_map(|one| one.as_ref().err()) {
                    Some(why) => refused.push(*why),
                    None if judged.is_empty() => {}
                    None => {
                        let message = format!("{} accepts the token (it takes any other for none)", manifest.id());
                        explanation.assume(message, Some(manifest.location(&rule.path)));
                        refused.clear();
                        break;
                    }
                }
            }
            // The rule of the token's issuer has more to say than the others.
            let why = refused.into_iter().min_by_key(|why| *why == OTHER_ISSUER);
            explanation.causes.extend(why.map(|why| format!("{} accepts no token that {why}", manifest.id())));
        }
    }
}

/// What a rule says of the tokens where it looks for them.
enum Verdict {
    Missing,
    /// The payloads as the tokens have them.
    Accepted(Vec<String>),
    /// Why one is not accepted.
    Refused(&'static str),
}

impl Verdict {
    fn of(rule: &JwtRule, request: &ExplainRequest, now: i64) -> Self {
        let tokens = tokens(rule, request);
        if tokens.is_empty() {
            return Self::Missing;
        }
        let payloads: Result<_, _> = tokens.into_iter().map(|token| judge(rule, token, now)).collect();
        payloads.map_or_else(Self::Refused, Self::Accepted)
    }

    fn refused(&self) -> Option<&&'static str> {
        if let Self::Refused(why) = self { Some(why) } else { None }
    }
}

/// The tokens in the places of a rule, as `extract` of Envoy's `jwt_authn/extractor.cc`.
pub(super) fn tokens<'r>(rule: &JwtRule, request: &'r ExplainRequest) -> Vec<&'r str> {
    let mut tokens = Vec::new();
    for (name, prefix) in rule.headers() {
        let values = request.header(&name).into_iter();
        tokens.extend(values.filter_map(|value| Some(value.get(value.find(prefix)? + prefix.len()..)?.trim())));
    }
    tokens.extend(rule.params().into_iter().filter_map(|name| request.query(name)));
    for name in rule.from_cookies.items() {
        let mut pairs = request.header("cookie").into_iter().flat_map(|line| line.split(';'));
        tokens.extend(pairs.find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key.trim() == name).then(|| value.trim())
        }));
    }
    tokens
}

/// The payload of a token as it is written, or what is wrong with the token. (`startVerify` in Envoy's `jwt_authn/authenticator.cc`.)
fn judge(rule: &JwtRule, token: &str, now: i64) -> Result<String, &'static str> {
    let [_, written, _] = token.split('.').collect::<Vec<_>>()[..] else { return Err("is not a JWT") };
    let bytes = BASE64.decode(written.trim_end_matches('=')).map_err(|_| "is not a JWT")?;
    let payload: Value = serde_json::from_slice(&bytes).map_err(|_| "is not a JWT")?;
    let issuer = rule.issuer.text().unwrap_or_default();
    if !issuer.is_empty() && payload["iss"] != issuer {
        return Err(OTHER_ISSUER);
    }
    let audiences = rule.audiences.items();
    let is_meant = |audience: &Value| audience.as_str().is_some_and(|one| audiences.iter().any(|other| other == one));
    let is_for = match &payload["aud"] {
        Value::Array(several) => several.iter().any(is_meant),
        one => is_meant(one),
    };
    if !audiences.is_empty() && !is_for {
        return Err(OTHER_AUDIENCE);
    }
    if payload["exp"].as_f64().is_some_and(|exp| as_f64(now) > exp + CLOCK_SKEW_SECONDS) {
        return Err("has expired");
    }
    if payload["nbf"].as_f64().is_some_and(|nbf| as_f64(now) < nbf - CLOCK_SKEW_SECONDS) {
        return Err("is not valid yet");
    }
    Ok(written.to_owned())
}

/// Istio lets it pass without looking for a token in it.
fn is_preflight(request: &ExplainRequest) -> bool {
    let has = |name| !request.header(name).is_empty();
    request.method == "OPTIONS" && has("origin") && has("access-control-request-method")
}

fn remove_payloads<'m>(rules: impl Iterator<Item = &'m JwtRule>, request: &mut ExplainRequest) {
    for header in rules.filter_map(|rule| rule.output_payload_to_header.text()) {
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(header));
    }
}

fn write_payloads<'p>(rule: &JwtRule, payloads: impl Iterator<Item = &'p String>, request: &mut ExplainRequest) {
    if let Some(header) = rule.output_payload_to_header.text().filter(|header| !header.is_empty()) {
        request.headers.extend(payloads.map(|payload| (header.to_ascii_lowercase(), payload.clone())));
    }
}

#[expect(clippy::cast_precision_loss, reason = "times are far below 2^53")]
fn as_f64(seconds: i64) -> f64 {
    seconds as f64
}

const OTHER_ISSUER: &str = "has another issuer";
/// Envoy answers 403, not 401.
const OTHER_AUDIENCE: &str = "is for another audience";
/// Envoy's default, which Istio does not change.
const CLOCK_SKEW_SECONDS: f64 = 60.0;
