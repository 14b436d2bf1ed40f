//! From the objects of the cluster to the objects that should be there: a pure function.

mod candidates;
mod generated;
mod judge;
mod readiness;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use routing_plan::{
    diagnostic::{Diagnostic, Document},
    plan::{ApiVersion, PlanKind, PlanMetadata, PlanSpec, RoutingPlan},
    resolve::{Expiry, PlanFiles, ResolvedPlan, resolve},
    resources::Resource,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    kinds::WRITTEN,
    objects::VariantPhase,
    observed::{OWNER_LABEL, ObjectName, Observed, Plan},
};
use candidates::{Assignment, assign};
use generated::Generated;
use judge::{Judged, judge};
use readiness::Readiness;

/// The state in which a plan was valid.
#[derive(Debug, Clone)]
pub struct ValidPlan {
    /// The UID and the generation of the plan.
    version: (String, i64),
    /// The plan's `spec`.
    pub spec: Arc<PlanSpec>,
    /// The `VirtualServices` that it is woven into.
    pub bases: Arc<Bases>,
    /// What it means.
    pub without_variants: Arc<ResolvedPlan>,
    /// The routes that were generated from it last.
    generated: Generated,
}

/// The objects that plans name with `baseRef`, by namespace and name.
pub type Bases = BTreeMap<(String, String), Value>;

/// What follows from the objects of the cluster.
#[derive(Debug)]
pub struct Reconciled {
    /// Each plan.
    pub plans: BTreeMap<ObjectName, PlanOutcome>,
    /// Variants that no plan has a service for.
    pub strays: Vec<VariantState>,
    /// When a variant expires next.
    pub wake_at: Option<Timestamp>,
}

/// What follows from one plan.
#[derive(Debug, Default)]
pub struct PlanOutcome {
    /// The state that is in force: today's, or the last valid one.
    pub valid: Option<ValidPlan>,
    /// What is wrong with today's, if it is not in force.
    pub faults: Vec<String>,
    /// What does not keep the plan from being in force, but from having an effect.
    pub warnings: Vec<String>,
    /// The objects that should be there; none if no valid state is known: then nothing is changed.
    pub wanted: Option<Vec<Arc<Resource>>>,
    /// Its variants, in order of service, variant and source.
    pub variants: Vec<VariantState>,
}

/// A variant, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantState {
    /// The service in the plan.
    pub service: String,
    /// The version, as tokens name it.
    pub variant: String,
    /// Where its requests go, if that is known.
    pub host: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// What becomes of it.
    pub phase: VariantPhase,
    /// How many of its endpoints are ready, if that is known.
    pub ready_endpoints: Option<u32>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Why it is not routed, with the path of the field; or, if it is routed, who else claims the variant.
    pub problem: Option<String>,
    /// Whether the plan lets its namespace serve the service.
    pub is_allowed: bool,
}

/// Where a variant comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The plan itself.
    Plan,
    /// A `RoutingVariant`.
    Variant(ObjectName),
    /// A labelled Service.
    Service(ObjectName),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan => f.write_str("RoutingPlan"),
            Self::Variant(name) => write!(f, "RoutingVariant {name}"),
            Self::Service(name) => write!(f, "Service {name}"),
        }
    }
}

/// Decides what should be in the cluster, from what is there now.
///
/// `last_valid` has the last valid state of each plan, as an earlier call returned it.
#[must_use]
pub fn reconcile(observed: &Observed, last_valid: &BTreeMap<ObjectName, ValidPlan>, now: Timestamp) -> Reconciled {
    let mut plans = BTreeMap::new();
    // In force, and why today's state is not, if an earlier one is.
    let mut in_force: BTreeMap<&ObjectName, (ValidPlan, Vec<String>)> = BTreeMap::new();
    for (name, plan) in observed.plans.iter() {
        let last = last_valid.get(name);
        match (today(name, plan, observed, last), last) {
            (Ok(valid), _) => {
                in_force.insert(name, (valid, Vec::new()));
            }
            (Err(faults), Some(valid)) => {
                in_force.insert(name, (valid.clone(), faults));
            }
            (Err(faults), None) => {
                plans.insert(name.clone(), PlanOutcome { faults, ..PlanOutcome::default() });
            }
        }
    }
    let valid = in_force.iter().map(|(name, (valid, _))| (*name, valid));
    let Assignment { mut of_plans, mut strays } = assign(observed, valid);
    // A plan that can't be read may have the services of strays.
    if !plans.is_empty() {
        strays.clear();
    }
    let readiness = Readiness::of(observed);
    let mut wake_at = None;
    for (name, (valid, faults)) in &in_force {
        let candidates = of_plans.remove(name).unwrap_or_default();
        let Judged { plan, variants, warnings, wake_at: end } = judge(valid, name, candidates, &readiness, now);
        wake_at = wake_at.into_iter().chain(end).min();
        let (wanted, generated) = valid.generated.renew(&plan, |resource| own(resource, name));
        let (valid, faults) = (Some(ValidPlan { generated, ..valid.clone() }), faults.clone());
        let outcome = PlanOutcome { valid, faults, warnings, wanted: Some(wanted), variants };
        plans.insert((*name).clone(), outcome);
    }
    Reconciled { plans, strays, wake_at }
}

/// Today's state of a plan, if it is valid: the last one while neither the plan nor what it is woven into has changed.
fn today(
    name: &ObjectName,
    plan: &Plan,
    observed: &Observed,
    last: Option<&ValidPlan>,
) -> Result<ValidPlan, Vec<String>> {
    let spec = plan.spec.as_ref().map_err(|fault| vec![fault.clone()])?;
    let bases = bases(spec, observed);
    let version = (plan.identity.uid.clone(), plan.generation);
    if let Some(last) = last.filter(|last| last.version == version && *last.bases == bases) {
        return Ok(last.clone());
    }
    let plan = without_variants(name, spec);
    match resolve(&plan, &[], &files(&bases), Expiry::Keep) {
        Ok(resolved) => Ok(ValidPlan {
            version,
            spec: Arc::clone(spec),
            bases: Arc::new(bases),
            without_variants: Arc::new(resolved),
            generated: Generated::default(),
        }),
        Err(diagnostics) => Err(diagnostics.iter().map(|one| text(one, &plan)).collect()),
    }
}

/// The plan with its services, but without their variants.
fn without_variants(name: &ObjectName, spec: &PlanSpec) -> RoutingPlan {
    let mut spec = spec.clone();
    for service in &mut spec.services {
        service.variants.clear();
    }
    RoutingPlan {
        api_version: ApiVersion::V1Alpha1,
        kind: PlanKind::RoutingPlan,
        metadata: PlanMetadata { name: name.name.clone(), namespace: name.namespace.clone() },
        spec,
    }
}

/// The objects that a plan is woven into, as far as they exist.
fn bases(spec: &PlanSpec, observed: &Observed) -> Bases {
    let virtual_services = WRITTEN.iter().find(|kind| kind.kind == "VirtualService");
    let Some(all) = virtual_services.and_then(|kind| observed.resources.get(kind)) else { return Bases::new() };
    let named = spec.services.iter().filter_map(|service| Some((&service.namespace, &service.base_ref.as_ref()?.name)));
    named
        .filter_map(|(namespace, name)| {
            let base = all.get(&ObjectName::new(namespace, name)).filter(|base| base.plan.is_none())?;
            Some(((namespace.clone(), name.clone()), base.value.clone()))
        })
        .collect()
}

fn files(bases: &Bases) -> PlanFiles {
    PlanFiles { base_refs: Some(bases.clone()), ..PlanFiles::default() }
}

/// A diagnostic as one line of a status.
fn text(diagnostic: &Diagnostic, plan: &RoutingPlan) -> String {
    let of = match diagnostic.location.document {
        Document::Base(index) => {
            let service = plan.spec.services.get(index);
            let base = service.and_then(|service| Some((&service.namespace, &service.base_ref.as_ref()?.name)));
            base.map(|(namespace, name)| format!("VirtualService {namespace}/{name}: ")).unwrap_or_default()
        }
        _ => String::new(),
    };
    let help = diagnostic.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{of}{diagnostic}{help}")
}

/// Marks a resource as the controller's, and notes what it is, so that a restart needs to write nothing.
fn own(resource: &mut Resource, plan: &ObjectName) {
    let metadata = &mut resource.value["metadata"];
    metadata["labels"][OWNER_LABEL] = json!(plan.namespace);
    let digest = Sha256::digest(resource.value.to_string());
    resource.value["metadata"]["annotations"][APPLIED_ANNOTATION] =
        json!(URL_SAFE_NO_PAD.encode(&digest[..HASH_BYTES]));
}

/// The plans that owned objects name, but that do not exist: their objects are no longer wanted.
#[must_use]
pub fn deleted_plans(observed: &Observed) -> BTreeSet<ObjectName> {
    let owners =
        observed.resources.values().flat_map(|objects| objects.iter().filter_map(|(_, object)| object.plan.as_ref()));
    owners.filter(|plan| observed.plans.get(plan).is_none()).cloned().collect()
}

/// Bytes of the hash: enough to tell apart what one plan has been.
const HASH_BYTES: usize = 16;
/// Annotation of what the controller writes, with the hash of what it has applied.
pub const APPLIED_ANNOTATION: &str = "routing-claims.dev/applied";
