//! `HTTPRoute`: the most specific match of all routes of a Service wins.

use std::cmp::Reverse;

use super::{
    Destination, ExplainRequest, Explanation,
    matching::{Matched, compare, compare_header},
    same_service,
};
use crate::{
    manifests::Manifest,
    names,
    views::{
        HttpRoute, StringMatch,
        http_route::{BackendRef, NamedMatch, PathMatch, Rule, RuleMatch},
        reader::Field,
    },
};

/// All whose parent is the Service of the host.
pub(super) fn find<'m>(manifests: &'m [Manifest], request: &ExplainRequest) -> Vec<(&'m Manifest, &'m HttpRoute)> {
    let asked = request.full_host();
    let routes = manifests.iter().filter_map(|manifest| Some((manifest, manifest.view::<HttpRoute>()?)));
    let is_parent = |manifest: &Manifest, view: &HttpRoute| {
        view.service_parent(&manifest.namespace).is_some_and(|host| same_service(&host, &asked))
    };
    routes.filter(|(manifest, view)| is_parent(manifest, view)).collect()
}

pub(super) fn walk(routes: &[(&Manifest, &HttpRoute)], request: &ExplainRequest, explanation: &mut Explanation) {
    let names: Vec<_> = routes.iter().map(|(manifest, _)| manifest.id()).collect();
    explanation.resource = Some(names.join(" and "));
    for (_, view) in routes {
        explanation.assume_without(view.written.unknown_paths());
        if let Field::Wrong(path) = &view.rules {
            return explanation.unknown.push(format!("where the request goes: `{path}` has the wrong type"));
        }
    }
    for Candidate { manifest, index, rule, condition, .. } in candidates(routes) {
        let matched = match condition {
            Some(condition) => condition.matches(request),
            None => Matched::stated(&rule.matches, |_| Matched::Yes),
        };
        let location = manifest.location(&rule.written.path);
        explanation.tried(format!("{} rule {}", manifest.name, index + 1), location, &matched);
        match matched {
            Matched::Yes => return follow(manifest, rule, explanation),
            Matched::No(_) => {}
            Matched::Unknown(why) => {
                return explanation.unknown.push(format!("where the request goes: {why}"));
            }
        }
    }
    explanation.instead = Some("404: no rule matches".into());
}

fn follow(manifest: &Manifest, rule: &Rule, explanation: &mut Explanation) {
    explanation.assume_without(rule.written.unknown_paths());
    explanation.assume_without(manifest.unknown_under(&rule.written.path.clone().field("backendRefs")).cloned());
    explanation.send_to(&rule.backend_refs, |backend| backend.resolve(&manifest.namespace));
    if rule.filters.items().iter().any(|filter| filter.kind.is("RequestRedirect")) {
        explanation.instead = Some("a redirect".into());
    }
}

struct Candidate<'m> {
    manifest: &'m Manifest,
    index: usize,
    rule: &'m Rule,
    /// None for a rule without `matches`, which takes every request.
    condition: Option<&'m RuleMatch>,
    rank: Rank,
}

/// The Gateway API's precedence, the first that differs decides: an exact path, the longest prefix, a method, the most
/// headers, the most query parameters; then names and order. (Creation times, which come before names, are not known.)
type Rank = (Reverse<bool>, Reverse<usize>, Reverse<bool>, Reverse<usize>, Reverse<usize>);

fn candidates<'m>(routes: &[(&'m Manifest, &'m HttpRoute)]) -> Vec<Candidate<'m>> {
    let mut candidates = Vec::new();
    for (manifest, view) in routes.iter().copied() {
        for (index, rule) in view.rules.items().iter().enumerate() {
            let mut conditions: Vec<_> = rule.matches.items().iter().map(Some).collect();
            if conditions.is_empty() {
                conditions.push(None);
            }
            candidates.extend(conditions.into_iter().map(|condition| {
                let rank = rank(condition);
                Candidate { manifest, index, rule, condition, rank }
            }));
        }
    }
    let id = |one: &Candidate<'m>| (&one.manifest.namespace, &one.manifest.name, one.index);
    candidates.sort_by(|a, b| a.rank.cmp(&b.rank).then_with(|| id(a).cmp(&id(b))));
    candidates
}

fn rank(condition: Option<&RuleMatch>) -> Rank {
    let path = condition.and_then(|condition| condition.path.known());
    (
        Reverse(path.is_some_and(|path| path.kind.is("Exact"))),
        Reverse(path.and_then(|path| path.value.text()).map_or(1, str::len)),
        Reverse(condition.is_some_and(|condition| condition.method.known().is_some())),
        Reverse(condition.map_or(0, |condition| condition.headers.items().len())),
        Reverse(condition.map_or(0, |condition| condition.query_params.items().len())),
    )
}

impl RuleMatch {
    /// Whether all of its conditions hold.
    fn matches(&self, request: &ExplainRequest) -> Matched {
        Matched::all([
            Matched::stated(&self.path, |path| path.matches(request)),
            Matched::stated(&self.method, |method| {
                compare("method", &StringMatch::Exact(method.clone()), &[&request.method])
            }),
            each(&self.headers, |name, wanted| compare_header(&name.to_ascii_lowercase(), wanted, request)),
            each(&self.query_params, |name, wanted| {
                compare(&format!("query parameter {name}"), wanted, &Vec::from_iter(request.query(name)))
            }),
            Matched::unknown_fields(&self.written),
        ])
    }
}

impl PathMatch {
    /// Whether the path is as wanted: a prefix, unless it says otherwise.
    fn matches(&self, request: &ExplainRequest) -> Matched {
        let path = request.path_without_query();
        let kind = self.kind.text().unwrap_or("PathPrefix");
        let value = Matched::stated(&self.value, |value| match kind {
            "PathPrefix" => {
                let prefix = value.trim_end_matches('/');
                let rest = path.strip_prefix(prefix);
                let holds = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                Matched::of(holds, || format!("path is `{path}`, expected one under `{prefix}`"))
            }
            "RegularExpression" => compare("path", &StringMatch::Regex(value.clone()), &[path]),
            _ => compare("path", &StringMatch::Exact(value.clone()), &[path]),
        });
        Matched::all([Matched::stated(&self.kind, |_| Matched::Yes), value, Matched::unknown_fields(&self.written)])
    }
}

impl NamedMatch {
    /// Whether the header or query parameter is as wanted: an exact value, unless it says otherwise.
    fn matches(&self, judge: impl Fn(&str, &StringMatch) -> Matched) -> Matched {
        let matched = match (self.name.required("name"), self.value.required("value")) {
            (Ok(name), Ok(value)) if self.kind.is("RegularExpression") => {
                judge(name, &StringMatch::Regex(value.clone()))
            }
            (Ok(name), Ok(value)) => judge(name, &StringMatch::Exact(value.clone())),
            (Err(why), _) | (_, Err(why)) => Matched::Unknown(why),
        };
        Matched::all([Matched::stated(&self.kind, |_| Matched::Yes), matched, Matched::unknown_fields(&self.written)])
    }
}

impl BackendRef {
    /// Where it goes, as a resource of the namespace means it.
    fn resolve(&self, namespace: &str) -> Result<Destination, String> {
        let own = self.namespace.optional()?.map_or(namespace, String::as_str);
        Ok(Destination {
            host: names::full_host(self.name.required("name")?, own),
            port: self.port.optional()?.copied(),
            subset: None,
            weight: self.weight.optional()?.copied(),
        })
    }
}

fn each(conditions: &Field<Vec<NamedMatch>>, judge: impl Fn(&str, &StringMatch) -> Matched) -> Matched {
    Matched::stated(conditions, |conditions| Matched::all(conditions.iter().map(|one| one.matches(&judge))))
}
