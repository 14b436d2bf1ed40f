//! Who wants to be a variant of which plan.

use std::collections::{BTreeMap, HashMap};

use jiff::{SpanRelativeTo, Timestamp};
use routing_plan::{
    diagnostic::FieldPath,
    plan::PlanSpec,
    resolve::{ResolvedService, parse_timestamp},
};

use super::{Source, ValidPlan, VariantState};
use crate::{
    objects::VariantPhase,
    observed::{
        EXPIRES_AT_ANNOTATION, ObjectName, Observed, Service, ServiceClaim, TTL_ANNOTATION, VARIANT_LABEL, Variant,
    },
};

/// Something that wants to be a variant of a plan's service.
#[derive(Clone)]
pub(super) struct Candidate {
    /// The plan's name of the service.
    pub(super) service: String,
    pub(super) variant: String,
    pub(super) host: Option<String>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) source: Source,
    /// The oldest of several wins; what the plan itself contains has no age, and wins.
    pub(super) created: Option<Timestamp>,
    pub(super) is_deleting: bool,
    /// Whether the plan lets its namespace serve the service.
    pub(super) is_allowed: bool,
    /// Why it can't be a variant.
    pub(super) refusal: Option<String>,
    /// The field with its version.
    pub(super) path: FieldPath,
}

/// The candidates of each plan.
#[derive(Default)]
pub(super) struct Assignment<'o> {
    pub(super) of_plans: BTreeMap<&'o ObjectName, Vec<Candidate>>,
    /// Those that no plan has a service for.
    pub(super) strays: Vec<VariantState>,
}

/// Gives each candidate to the plans that have its service and let its namespace serve it. If there is none, it is refused in
/// those that have the service.
pub(super) fn assign<'o>(
    observed: &'o Observed,
    plans: impl Iterator<Item = (&'o ObjectName, &'o ValidPlan)>,
) -> Assignment<'o> {
    let mut assignment = Assignment::default();
    let mut homes: HashMap<&str, Vec<Home<'_>>> = HashMap::new();
    for (plan, valid) in plans {
        for service in &valid.without_variants.services {
            homes.entry(&service.claim).or_default().push(Home { plan, service });
        }
        assignment.of_plans.insert(plan, inline(&valid.spec));
    }
    for Claimant { namespace, plan, candidate } in claimants(observed) {
        let homes = homes.get(&*candidate.service).into_iter().flatten();
        let homes: Vec<_> = homes.filter(|home| plan.is_none_or(|plan| plan == home.plan.name)).collect();
        if homes.is_empty() {
            assignment.strays.push(stray(plan, candidate));
            continue;
        }
        let is_welcome = homes.iter().any(|home| home.allows(namespace, &candidate.source));
        for home in homes {
            let is_allowed = home.allows(namespace, &candidate.source);
            if is_welcome && !is_allowed {
                continue;
            }
            let mut candidate = Candidate { is_allowed, ..candidate.clone() };
            candidate.refusal = home.refusal(namespace, &candidate).or(candidate.refusal);
            assignment.of_plans.entry(home.plan).or_default().push(candidate);
        }
    }
    assignment
}

/// A service of a plan.
struct Home<'o> {
    plan: &'o ObjectName,
    service: &'o ResolvedService,
}

impl Home<'_> {
    /// Who writes `RoutingVariant` objects into the plan's namespace may change the plan too.
    fn allows(&self, namespace: &str, source: &Source) -> bool {
        self.service.allows(namespace) || self.is_trusted(namespace, source)
    }

    fn is_trusted(&self, namespace: &str, source: &Source) -> bool {
        matches!(source, Source::Variant(_)) && namespace == self.plan.namespace
    }

    fn refusal(&self, namespace: &str, candidate: &Candidate) -> Option<String> {
        if !candidate.is_allowed {
            return Some(format!(
                "the plan {} does not let the namespace `{namespace}` serve `{}`: its `allowedNamespaces` decide",
                self.plan, self.service.claim
            ));
        }
        let host = candidate.host.as_ref()?;
        let is_own = routing_plan::kubernetes_service(host).is_some_and(|(_, of)| of == namespace);
        (!is_own && !self.is_trusted(namespace, &candidate.source)).then(|| {
            format!(
                "spec.host: expected a Service of the namespace `{namespace}`, found `{host}`: only a RoutingVariant in the \
                 plan's namespace may name other hosts"
            )
        })
    }
}

/// The variants in the plan itself.
fn inline(spec: &PlanSpec) -> Vec<Candidate> {
    let services = spec.services.iter().enumerate();
    let variants = services.flat_map(|(index, service)| {
        service.variants.iter().enumerate().map(move |(number, variant)| {
            let path =
                FieldPath::default().field("spec").field("services").index(index).field("variants").index(number);
            let (expires_at, refusal) = timestamp(variant.expires_at.as_deref(), &path.clone().field("expiresAt"));
            Candidate {
                service: service.name.clone(),
                variant: variant.name.clone(),
                host: variant.host.clone(),
                expires_at,
                source: Source::Plan,
                created: None,
                is_deleting: false,
                is_allowed: true,
                refusal,
                path: path.field("name"),
            }
        })
    });
    variants.collect()
}

/// An object that wants to be a variant.
struct Claimant<'o> {
    namespace: &'o str,
    /// The only plan that it is for.
    plan: Option<&'o str>,
    candidate: Candidate,
}

fn claimants(observed: &Observed) -> impl Iterator<Item = Claimant<'_>> {
    let variants = observed.variants.iter().filter_map(|(name, variant)| of_variant(name, variant));
    let services = observed.services.iter();
    let services = services.filter_map(|(name, service)| Some(of_service(name, service, service.claim.as_deref()?)));
    variants.chain(services)
}

/// None if it can't be read: then nobody knows the service.
fn of_variant<'o>(name: &'o ObjectName, variant: &'o Variant) -> Option<Claimant<'o>> {
    let spec = variant.spec.as_ref().ok()?;
    let path = FieldPath::default().field("spec");
    let (expires_at, refusal) = timestamp(spec.expires_at.as_deref(), &path.clone().field("expiresAt"));
    let candidate = Candidate {
        service: spec.service.clone(),
        variant: spec.variant.clone(),
        host: spec.host.clone(),
        expires_at,
        source: Source::Variant(name.clone()),
        created: Some(variant.identity.created),
        is_deleting: variant.identity.is_deleting,
        is_allowed: true,
        refusal,
        path: path.field("variant"),
    };
    Some(Claimant { namespace: &name.namespace, plan: variant.plan.as_deref(), candidate })
}

fn of_service<'o>(name: &'o ObjectName, service: &'o Service, claim: &'o ServiceClaim) -> Claimant<'o> {
    let (expires_at, mut refusal) = end_of(service, claim);
    if claim.variant.is_none() {
        refusal =
            Some(format!("the Service has the label `{}`, but not `{VARIANT_LABEL}`", crate::observed::SERVICE_LABEL));
    } else if service.is_external_name {
        refusal =
            Some("spec.type: expected a Service with endpoints, found `ExternalName`, which names another host".into());
    }
    let candidate = Candidate {
        service: claim.service.clone(),
        variant: claim.variant.clone().unwrap_or_default(),
        host: Some(format!("{}.{}.svc.cluster.local", name.name, name.namespace)),
        expires_at,
        source: Source::Service(name.clone()),
        created: Some(service.identity.created),
        is_deleting: service.identity.is_deleting,
        is_allowed: true,
        refusal,
        path: FieldPath::default().field("metadata").field("labels").field(VARIANT_LABEL),
    };
    Claimant { namespace: &name.namespace, plan: claim.plan.as_deref(), candidate }
}

/// When the variant of a Service ends: at the earlier of what its annotations say.
fn end_of(service: &Service, claim: &ServiceClaim) -> (Option<Timestamp>, Option<String>) {
    let at = |key| FieldPath::default().field("metadata").field("annotations").field(key);
    let (expires_at, refusal) = timestamp(claim.expires_at.as_deref(), &at(EXPIRES_AT_ANNOTATION));
    let Some(ttl) = &claim.ttl else { return (expires_at, refusal) };
    if let Some(end) = after(service.identity.created, ttl) {
        return (expires_at.into_iter().chain([end]).min(), refusal);
    }
    let fault = || {
        let found = shortened(ttl);
        format!("{}: expected a duration such as `72h` or `3d`, found `{found}`", at(TTL_ANNOTATION))
    };
    (None, refusal.or_else(|| Some(fault())))
}

/// The time after a positive duration. A day has 24 hours.
fn after(start: Timestamp, duration: &str) -> Option<Timestamp> {
    let span: jiff::Span = duration.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    start.checked_add(duration).ok().filter(|end| *end > start)
}

fn timestamp(text: Option<&str>, path: &FieldPath) -> (Option<Timestamp>, Option<String>) {
    let Some(text) = text else { return (None, None) };
    let time = parse_timestamp(text).ok();
    let expected = "an RFC 3339 timestamp such as 2026-12-01T00:00:00Z";
    let refusal = time.is_none().then(|| format!("{path}: expected {expected}, found `{}`", shortened(text)));
    (time, refusal)
}

/// What somebody else wrote, fit for one line of a message.
fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn stray(plan: Option<&str>, candidate: Candidate) -> VariantState {
    let which = plan.map_or_else(|| "no plan".into(), |plan| format!("no plan `{plan}`"));
    VariantState {
        problem: Some(format!("{which} has a service `{}`", candidate.service)),
        service: candidate.service,
        variant: candidate.variant,
        host: candidate.host,
        source: candidate.source,
        phase: VariantPhase::Refused,
        ready_endpoints: None,
        expires_at: candidate.expires_at,
        is_allowed: false,
    }
}

/// Characters of a text of others that a message shows.
const MAX_SHOWN: usize = 60;
