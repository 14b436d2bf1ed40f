//! Which proxies a resource is for: by its namespace and labels, or by the gateways that it names.
//!
//! As `ShouldAttachPolicy` of Istio decides it (`pilot/pkg/model/policyattachment.go`, read).

use crate::views::{Labels, View, reader::Field, selector::LabelSelector};

/// The proxies that a resource is for.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    namespace: String,
    labels: Labels,
    /// Names of `Gateway`s of the Gateway API. If there are any, no other proxy has the resource.
    gateways: Vec<String>,
}

impl Attachment {
    /// Of a resource in a namespace, if its kind is for proxies. A selector of a wrong type counts as none.
    pub(crate) fn of(view: &View, namespace: &str) -> Option<Self> {
        let none = Field::Absent;
        let (labels, refs, one_ref) = match view {
            View::EnvoyFilter(filter) => (filter.labels(), &filter.target_refs, &none),
            View::WasmPlugin(plugin) => (labels_of(&plugin.selector), &plugin.target_refs, &plugin.target_ref),
            View::TrafficExtension(extension) => (labels_of(&extension.selector), &extension.target_refs, &none),
            View::RequestAuthentication(one) => (labels_of(&one.selector), &one.target_refs, &one.target_ref),
            View::AuthorizationPolicy(one) => (labels_of(&one.selector), &one.target_refs, &one.target_ref),
            _ => return None,
        };
        let refs = refs.items().iter().chain(one_ref.known());
        Some(Self {
            namespace: namespace.to_owned(),
            labels: labels.cloned().unwrap_or_default(),
            gateways: refs.map(|one| one.name.text().unwrap_or_default().to_owned()).collect(),
        })
    }

    /// Whether a proxy in this namespace with these labels has the resource; what is not known may be anything.
    pub(crate) fn selects(&self, namespace: Option<&str>, labels: Option<&Labels>) -> bool {
        let is_own = namespace.is_none_or(|namespace| namespace == self.namespace);
        if !self.gateways.is_empty() {
            let is_named = |labels: &Labels| labels.get(GATEWAY_NAME).is_some_and(|name| self.gateways.contains(name));
            return is_own && labels.is_none_or(is_named);
        }
        let has_labels = |labels: &Labels| self.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        (is_own || self.namespace == ROOT_NAMESPACE) && labels.is_none_or(has_labels)
    }

    /// Whether one proxy can have both resources.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let in_scope =
            self.namespace == other.namespace || [self, other].iter().any(|one| one.namespace == ROOT_NAMESPACE);
        let agree = self.labels.iter().all(|(key, value)| other.labels.get(key).is_none_or(|other| other == value));
        in_scope && agree && self.gateways.is_empty() == other.gateways.is_empty()
    }

    /// Whether every proxy that has the other resource has this one too.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let in_scope = self.namespace == other.namespace || self.namespace == ROOT_NAMESPACE;
        let all = self.labels.iter().all(|(key, value)| other.labels.get(key) == Some(value));
        in_scope && all && (self.gateways.is_empty() || self.gateways == other.gateways)
    }

    /// Whether it is for all proxies of its namespace, or of the mesh.
    pub(crate) fn has_all(&self) -> bool {
        self.labels.is_empty() && self.gateways.is_empty()
    }

    /// Whether it is in the namespace whose resources are for the whole mesh.
    pub(crate) fn is_root(&self) -> bool {
        self.namespace == ROOT_NAMESPACE
    }
}

fn labels_of(selector: &Field<LabelSelector>) -> Option<&Labels> {
    selector.known()?.match_labels.known()
}

/// Istio's root namespace, whose resources are for the whole mesh.
pub(crate) const ROOT_NAMESPACE: &str = "istio-system";
/// The label of the proxies of a `Gateway` of the Gateway API.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
