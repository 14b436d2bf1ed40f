//! Resources of others on the way of a request, which may change or refuse it.

use super::{ExplainRequest, Explanation};
use crate::{
    attachment::Attachment,
    diagnostic::FieldPath,
    manifests::Manifest,
    names,
    views::{EnvoyFilter, Gateway, Labels, View, reader::Field, wasm_plugin::TrafficSelector},
};

/// Notes that each of them is assumed to do nothing.
pub(super) fn name(manifests: &[Manifest], request: &ExplainRequest, explanation: &mut Explanation) {
    let labels = request.labels.as_ref().or_else(|| labels_of_gateway(manifests, request));
    let at_gateway = request.gateway.is_some();
    // A Gateway may be in another namespace than the proxies that it is for.
    let namespace = request.namespace.as_deref();
    for manifest in manifests {
        let Some(attachment) = Attachment::of(manifest.any_view(), &manifest.namespace) else { continue };
        let is_here = attachment.selects(namespace, labels);
        let on_the_way = match manifest.any_view() {
            _ if manifest.filter().is_some() => false,
            View::EnvoyFilter(filter) => is_here && patches(filter, at_gateway),
            View::WasmPlugin(plugin) => is_here && sends(&plugin.matches),
            View::TrafficExtension(extension) => is_here && sends(&extension.matches),
            View::AuthorizationPolicy(_) => (is_here && at_gateway) || is_at_destination(&attachment, explanation),
            _ => false,
        };
        if on_the_way {
            let message = format!("{}, which may change this request, does not", manifest.id());
            explanation.assume(message, Some(manifest.location(&FieldPath::default())));
        }
    }
}

fn labels_of_gateway<'m>(manifests: &'m [Manifest], request: &ExplainRequest) -> Option<&'m Labels> {
    let (namespace, name) = request.gateway.as_deref()?.split_once('/')?;
    let gateway =
        manifests.iter().find(|one| one.namespace == namespace && one.name == name && one.view::<Gateway>().is_some());
    gateway?.view::<Gateway>()?.selector.known()
}

/// Whether it patches what requests pass here; Envoy's bootstrap is not part of that.
fn patches(filter: &EnvoyFilter, at_gateway: bool) -> bool {
    let here = if at_gateway { "GATEWAY" } else { "SIDECAR_OUTBOUND" };
    filter.config_patches.items().iter().any(|patch| {
        let context = patch.matches.known().and_then(|matches| matches.context.text()).unwrap_or("ANY");
        !patch.apply_to.is("BOOTSTRAP") && (context == here || context == "ANY")
    })
}

fn sends(matches: &Field<Vec<TrafficSelector>>) -> bool {
    matches.items().is_empty() || matches.items().iter().any(|one| !one.mode.is("SERVER"))
}

/// Whether a workload behind one of the destinations can have the resource.
fn is_at_destination(attachment: &Attachment, explanation: &Explanation) -> bool {
    explanation.destinations.iter().any(|to| {
        let namespace = names::kubernetes_service(&to.host).map(|(_, namespace)| namespace);
        attachment.selects(namespace, None)
    })
}
