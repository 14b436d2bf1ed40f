//! What the controller counts and measures, for Prometheus.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{objects::VariantPhase, observed::ObjectName};

/// The metrics, and the registry that they are in. Clones are the same metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    variants: Family<VariantLabels, Gauge>,
    accepted: Family<PlanLabels, Gauge>,
    applied: Family<PlanLabels, Gauge>,
    writes: Family<WriteLabels, Counter>,
    reconcile: Histogram,
    leader: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VariantLabels {
    plan: String,
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlanLabels {
    plan: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    verb: &'static str,
    result: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("routing_claims_controller");
        let variants = Family::default();
        registry.register("variants", "Variants by plan and state", variants.clone());
        let accepted = Family::default();
        registry.register("plan_accepted", "1 if the plan is valid, else 0", accepted.clone());
        let applied = Family::default();
        registry.register("plan_applied", "1 if all objects of the plan are in the cluster, else 0", applied.clone());
        let writes = Family::default();
        registry.register("apply", "Objects written, by kind, verb and result", writes.clone());
        let reconcile = Histogram::new(SECONDS);
        registry.register("reconcile_seconds", "Time to compute what should be in the cluster", reconcile.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 if this replica writes, else 0", leader.clone());
        Self { registry: Arc::new(registry), variants, accepted, applied, writes, reconcile, leader }
    }

    pub(crate) fn plan(&self, plan: &ObjectName, is_accepted: bool, is_applied: bool, phases: &[VariantPhase]) {
        let labels = PlanLabels { plan: plan.to_string() };
        self.accepted.get_or_create(&labels).set(i64::from(is_accepted));
        self.applied.get_or_create(&labels).set(i64::from(is_applied));
        for phase in PHASES {
            let labels = VariantLabels { plan: plan.to_string(), state: format!("{phase:?}") };
            let count = phases.iter().filter(|one| **one == phase).count();
            self.variants.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A plan is gone.
    pub(crate) fn forget(&self, plan: &ObjectName) {
        let labels = PlanLabels { plan: plan.to_string() };
        self.accepted.remove(&labels);
        self.applied.remove(&labels);
        for phase in PHASES {
            self.variants.remove(&VariantLabels { plan: plan.to_string(), state: format!("{phase:?}") });
        }
    }

    pub(crate) fn wrote(&self, kind: &'static str, verb: &'static str, is_ok: bool) {
        let result = if is_ok { "ok" } else { "error" };
        self.writes.get_or_create(&WriteLabels { kind, verb, result }).inc();
    }

    pub(crate) fn reconciled(&self, seconds: f64) {
        self.reconcile.observe(seconds);
    }

    pub(crate) fn leads(&self, is_leader: bool) {
        self.leader.set(i64::from(is_leader));
    }

    /// All metrics as text, in the format of `OpenMetrics`.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

const PHASES: [VariantPhase; 6] = [
    VariantPhase::Routed,
    VariantPhase::NotReady,
    VariantPhase::Expired,
    VariantPhase::Deleting,
    VariantPhase::Conflict,
    VariantPhase::Refused,
];
/// Upper bounds of the histogram's buckets.
const SECONDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
