//! What becomes of each candidate of a plan, and the objects that follow.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use routing_plan::{
    diagnostic::{Diagnostic, Document},
    plan::{ApiVersion, RoutingVariant, VariantKind, VariantMetadata, VariantSpec},
    resolve::{Expiry, ResolvedBase, ResolvedPlan, resolve},
};

use super::{
    Source, ValidPlan, VariantState,
    candidates::Candidate,
    files,
    readiness::{HostState, Readiness},
    without_variants,
};
use crate::{objects::VariantPhase, observed::ObjectName};

/// A plan with its candidates.
pub(super) struct Judged {
    /// With the variants that have a route.
    pub(super) plan: ResolvedPlan,
    pub(super) variants: Vec<VariantState>,
    pub(super) warnings: Vec<String>,
    /// When the next variant expires.
    pub(super) wake_at: Option<Timestamp>,
}

/// Decides about the candidates of a plan, whose state is valid without any.
pub(super) fn judge(
    valid: &ValidPlan,
    name: &ObjectName,
    mut candidates: Vec<Candidate>,
    readiness: &Readiness<'_>,
    now: Timestamp,
) -> Judged {
    // In the order in which they win against each other.
    candidates.sort_by(|a, b| {
        (&a.service, &a.variant, a.created, &a.source).cmp(&(&b.service, &b.variant, b.created, &b.source))
    });
    let mut verdicts: Vec<Verdict> = candidates.iter().map(|candidate| first_verdict(candidate, now)).collect();
    settle_conflicts(&candidates, &mut verdicts);
    limit(&candidates, &mut verdicts);
    let mut plan = resolved(valid, name, &candidates, &mut verdicts);
    keep_ready(&mut plan, &mut verdicts, readiness);

    let ends = candidates.iter().zip(&verdicts);
    let ends = ends.filter(|(_, verdict)| !matches!(verdict.phase, VariantPhase::Refused | VariantPhase::Expired));
    let wake_at = ends.filter_map(|(candidate, _)| candidate.expires_at).filter(|end| *end > now).min();
    let states = candidates.into_iter().zip(verdicts);
    Judged {
        warnings: warnings(&plan),
        plan,
        variants: states.map(|(candidate, verdict)| state(candidate, verdict)).collect(),
        wake_at,
    }
}

/// What becomes of a candidate.
#[derive(Default)]
struct Verdict {
    phase: VariantPhase,
    host: Option<String>,
    ready_endpoints: Option<u32>,
    problem: Option<String>,
}

impl Verdict {
    fn refused(problem: impl Into<String>) -> Self {
        Self { phase: VariantPhase::Refused, problem: Some(problem.into()), ..Self::default() }
    }

    /// Nothing speaks against its route so far.
    fn is_open(&self) -> bool {
        self.phase == VariantPhase::Routed
    }
}

/// By what the candidate itself says.
fn first_verdict(candidate: &Candidate, now: Timestamp) -> Verdict {
    let phase = match candidate {
        Candidate { refusal: Some(refusal), .. } => return Verdict::refused(refusal),
        Candidate { is_deleting: true, .. } => VariantPhase::Deleting,
        Candidate { expires_at: Some(end), .. } if *end <= now => VariantPhase::Expired,
        _ => VariantPhase::Routed,
    };
    Verdict { phase, ..Verdict::default() }
}

/// Of several that claim the same variant, the first one wins. Both are told.
fn settle_conflicts(candidates: &[Candidate], verdicts: &mut [Verdict]) {
    let mut winners: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        if !verdicts[index].is_open() {
            continue;
        }
        let winner = *winners.entry((&candidate.service, &candidate.variant)).or_insert(index);
        if winner == index {
            continue;
        }
        let older = match candidates[winner].source {
            Source::Plan => "the plan itself has this variant".to_owned(),
            ref source => format!("{source} claims the same variant and is older"),
        };
        verdicts[index] = Verdict { phase: VariantPhase::Conflict, problem: Some(older), ..Verdict::default() };
        let problem = &mut verdicts[winner].problem;
        problem.get_or_insert_with(|| format!("{} claims the same variant; this one wins", candidate.source));
    }
}

/// A service has at most [`MAX_VARIANTS`]; the oldest ones stay.
fn limit(candidates: &[Candidate], verdicts: &mut [Verdict]) {
    let mut of_service: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate().filter(|(index, _)| verdicts[*index].is_open()) {
        of_service.entry(&candidate.service).or_default().push(index);
    }
    for mut open in of_service.into_values().filter(|open| open.len() > MAX_VARIANTS) {
        open.sort_by_key(|index| (candidates[*index].created, *index));
        for index in open.drain(MAX_VARIANTS..) {
            verdicts[index] = Verdict::refused(format!("the service already has {MAX_VARIANTS} variants"));
        }
    }
}

/// The plan with all candidates that are open. What is wrong with one is its own fault, not the plan's.
fn resolved(valid: &ValidPlan, name: &ObjectName, candidates: &[Candidate], verdicts: &mut [Verdict]) -> ResolvedPlan {
    let plan = without_variants(name, &valid.spec);
    let files = files(&valid.bases);
    loop {
        let open: Vec<usize> = (0..candidates.len()).filter(|index| verdicts[*index].is_open()).collect();
        let variants: Vec<_> = open.iter().map(|index| variant(&candidates[*index])).collect();
        let diagnostics = match resolve(&plan, &variants, &files, Expiry::Keep) {
            Ok(plan) => return with_indexes(plan, &open, verdicts),
            Err(diagnostics) => diagnostics,
        };
        let mut progress = false;
        for diagnostic in &diagnostics {
            if let Document::Variant(number) = diagnostic.location.document
                && let Some(index) = open.get(number)
            {
                progress |= verdicts[*index].is_open();
                verdicts[*index] = Verdict::refused(problem(diagnostic, &candidates[*index]));
            }
        }
        assert!(progress, "a plan that is valid without variants has other faults with them: {diagnostics:?}");
    }
}

/// Notes in each variant's verdict where its requests go.
fn with_indexes(mut plan: ResolvedPlan, open: &[usize], verdicts: &mut [Verdict]) -> ResolvedPlan {
    for variant in plan.services.iter_mut().flat_map(|service| &mut service.variants) {
        // Locations refer to the list that was resolved. From here on they refer to the candidates.
        let Document::Variant(number) = variant.location.document else { continue };
        let Some(index) = open.get(number) else { continue };
        variant.location.document = Document::Variant(*index);
        verdicts[*index].host = Some(variant.host.clone());
    }
    plan
}

/// Removes the variants that nobody would answer for.
fn keep_ready(plan: &mut ResolvedPlan, verdicts: &mut [Verdict], readiness: &Readiness<'_>) {
    for service in &mut plan.services {
        let port = service.port;
        service.variants.retain(|variant| {
            let Document::Variant(index) = variant.location.document else { return true };
            let verdict = &mut verdicts[index];
            match readiness.of_host(&variant.host) {
                HostState::Elsewhere => {}
                HostState::NoService => {
                    verdict.phase = VariantPhase::NotReady;
                    verdict.problem = Some(format!("the Service of `{}` does not exist", variant.host));
                }
                HostState::Service(found, _) if found.identity.is_deleting => {
                    verdict.phase = VariantPhase::Deleting;
                }
                HostState::Service(found, _) if port.is_some_and(|port| !found.ports.contains(&port)) => {
                    let port = port.unwrap_or_default();
                    *verdict = Verdict::refused(format!(
                        "spec.ports: expected the port {port}, to which the plan routes, found {:?}",
                        found.ports
                    ));
                }
                HostState::Service(_, ready) => {
                    verdict.ready_endpoints = Some(ready);
                    if ready == 0 {
                        verdict.phase = VariantPhase::NotReady;
                        verdict.problem = None;
                    }
                }
            }
            verdict.is_open()
        });
    }
}

fn variant(candidate: &Candidate) -> RoutingVariant {
    RoutingVariant {
        api_version: ApiVersion::V1Alpha1,
        kind: VariantKind::RoutingVariant,
        metadata: VariantMetadata { name: "variant".into() },
        spec: VariantSpec {
            service: candidate.service.clone(),
            variant: candidate.variant.clone(),
            host: candidate.host.clone(),
            expires_at: None,
        },
    }
}

/// A diagnostic about a candidate, with the path that its author knows.
fn problem(diagnostic: &Diagnostic, candidate: &Candidate) -> String {
    let path = match candidate.source {
        Source::Variant(_) => &diagnostic.location.path,
        Source::Plan | Source::Service(_) => &candidate.path,
    };
    format!("{path}: {}", diagnostic.message)
}

/// What keeps the plan from having an effect.
fn warnings(plan: &ResolvedPlan) -> Vec<String> {
    let in_force =
        plan.services.iter().filter(|service| matches!(service.base, Some(ResolvedBase::Live { in_force: true, .. })));
    in_force
        .map(|service| {
            format!(
                "the VirtualService that `{}` is woven into is itself in force, and Istio follows the older one of a host: give \
                 it an `exportTo` with a namespace that has no proxies",
                service.claim
            )
        })
        .collect()
}

fn state(candidate: Candidate, verdict: Verdict) -> VariantState {
    VariantState {
        service: candidate.service,
        variant: candidate.variant,
        host: verdict.host.or(candidate.host),
        source: candidate.source,
        phase: verdict.phase,
        ready_endpoints: verdict.ready_endpoints,
        expires_at: candidate.expires_at,
        problem: verdict.problem,
        is_allowed: candidate.is_allowed,
    }
}

/// The most variants of one service: a bound for what the authors of Services can make of a route.
const MAX_VARIANTS: usize = 500;
