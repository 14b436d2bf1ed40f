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
        reader::{Field, UnusableField},
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
    for (manifest, view) in routes {
        explanation.assume_without(manifest, view.written.unknown_paths());
        if let Err(field) = view.rules.optional() {
            return explanation.leave_open_at(manifest, "where the request goes", &field.into());
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
            Matched::Unknown(doubt) => {
                let what =
                    format!("whether rule {} of {} matches, so where the request goes", index + 1, manifest.name);
                return explanation.leave_open_at(manifest, &what, &doubt);
            }
        }
    }
    explanation.instead = Some("404: no rule matches".into());
}

fn follow(manifest: &Manifest, rule: &Rule, explanation: &mut Explanation) {
    explanation.assume_without(manifest, rule.written.unknown_paths());
    let backends = rule.written.path.clone().field("backendRefs");
    explanation.assume_without(manifest, manifest.unknown_under(&backends).cloned());
    explanation.send_to(manifest, &rule.backend_refs, |backend| backend.resolve(&manifest.namespace));
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
        let object = &self.written.path;
        let matched = match (self.name.required(object, "name"), self.value.required(object, "value")) {
            (Ok(name), Ok(value)) if self.kind.is("RegularExpression") => {
                judge(name, &StringMatch::Regex(value.clone()))
            }
            (Ok(name), Ok(value)) => judge(name, &StringMatch::Exact(value.clone())),
            (Err(field), _) | (_, Err(field)) => Matched::Unknown(field.into()),
        };
        Matched::all([Matched::stated(&self.kind, |_| Matched::Yes), matched, Matched::unknown_fields(&self.written)])
    }
}

impl BackendRef {
    /// Where it goes, as a resource of the namespace means it.
    fn resolve(&self, namespace: &str) -> Result<Destination, UnusableField> {
        let own = self.namespace.optional()?.map_or(namespace, String::as_str);
        Ok(Destination {
            host: names::full_host(self.name.required(&self.path, "name")?, own),
            port: self.port.optional()?.copied(),
            subset: None,
            weight: self.weight.optional()?.copied(),
        })
    }
}

fn each(conditions: &Field<Vec<NamedMatch>>, judge: impl Fn(&str, &StringMatch) -> Matched) -> Matched {
    Matched::stated(conditions, |conditions| Matched::all(conditions.iter().map(|one| one.matches(&judge))))
}
