//! What the controller may do, as rules of Kubernetes' RBAC. `cargo xtask gen` writes them into the chart.

use serde_json::{Value, json};

/// What the controller may do with some kinds of objects.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The API group; the core group is empty.
    pub group: &'static str,
    /// The resources, by their names in URLs.
    pub resources: &'static [&'static str],
    /// The only objects that it is for. Empty is all.
    pub names: &'static [&'static str],
    /// The allowed verbs.
    pub verbs: &'static [&'static str],
    /// Why the controller needs it.
    pub why: &'static str,
}

impl Rule {
    /// The rule as an entry of `rules` in a `Role` or `ClusterRole`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut rule = json!({"apiGroups": [self.group], "resources": self.resources, "verbs": self.verbs});
        if !self.names.is_empty() {
            rule["resourceNames"] = json!(self.names);
        }
        rule
    }
}

/// The `rules` of the controller's `ClusterRole`. Without draining, it writes no Service.
#[must_use]
pub fn cluster_role(drain: bool) -> Value {
    let rules = CLUSTER_ROLE.iter().chain(CLUSTER_ROLE_DRAIN.iter().filter(|_| drain));
    rules.map(Rule::to_json).collect()
}

/// The `rules` of the controller's `Role`, in the namespace that it runs in.
#[must_use]
pub fn role() -> Value {
    ROLE.iter().map(Rule::to_json).collect()
}

/// In all namespaces.
pub const CLUSTER_ROLE: &[Rule] = &[
    Rule {
        group: "routing-claims.dev",
        resources: &["routingplans", "routingvariants"],
        names: &[],
        verbs: READ,
        why: "What to route.",
    },
    Rule {
        group: "routing-claims.dev",
        resources: &["routingplans/status", "routingvariants/status"],
        names: &[],
        verbs: &["patch"],
        why: "Says what became of each plan and variant. Their `spec` is never written.",
    },
    Rule {
        group: "",
        resources: &["services"],
        names: &[],
        verbs: READ,
        why: "Finds the Services that their labels make variants, and the hosts of the others.",
    },
    Rule {
        group: "discovery.k8s.io",
        resources: &["endpointslices"],
        names: &[],
        verbs: READ,
        why: "A Service without a ready endpoint gets no requests.",
    },
    Rule {
        group: "networking.istio.io",
        resources: &["workloadentries"],
        names: &[],
        verbs: READ,
        why: "The endpoints of a Service that selects no pods.",
    },
    Rule {
        group: "networking.istio.io",
        resources: &["envoyfilters", "virtualservices"],
        names: &[],
        verbs: WRITE,
        why: "Filters and routes, and the VirtualService that a plan's `baseRef` names, which is only read.",
    },
    Rule {
        group: "extensions.istio.io",
        resources: &["trafficextensions", "wasmplugins"],
        names: &[],
        verbs: WRITE,
        why: "Filters.",
    },
    Rule {
        group: "security.istio.io",
        resources: &["requestauthentications"],
        names: &[],
        verbs: WRITE,
        why: "A plan's `authentication`.",
    },
    Rule {
        group: "telemetry.istio.io",
        resources: &["telemetries"],
        names: &[],
        verbs: WRITE,
        why: "A plan's `telemetry`.",
    },
    Rule {
        group: "gateway.networking.k8s.io",
        resources: &["httproutes"],
        names: &[],
        verbs: WRITE,
        why: "Routes of plans that use the Gateway API.",
    },
    Rule {
        group: "events.k8s.io",
        resources: &["events"],
        names: &[],
        verbs: &["create", "patch"],
        why: "Says on Services, variants and plans what changed.",
    },
];

/// In all namespaces too, but only for a controller with `--drain-seconds`.
pub const CLUSTER_ROLE_DRAIN: &[Rule] = &[Rule {
    group: "",
    resources: &["services"],
    names: &[],
    verbs: &["patch"],
    why: "Keeps a deleted Service until no request is on the way to it, by a finalizer.",
}];

/// In the controller's own namespace.
pub const ROLE: &[Rule] = &[
    Rule {
        group: LEASES,
        resources: &["leases"],
        names: &[],
        verbs: &["create"],
        why: "The lease of the replica that leads. RBAC cannot limit `create` to a name.",
    },
    Rule {
        group: LEASES,
        resources: &["leases"],
        names: &[LEASE],
        verbs: &["get", "patch"],
        why: "Taking, renewing and releasing that lease.",
    },
];

/// The name of the lease.
pub const LEASE: &str = "routing-claims-controller";
const LEASES: &str = "coordination.k8s.io";
const READ: &[&str] = &["list", "watch"];
const WRITE: &[&str] = &["list", "watch", "create", "patch", "delete"];
