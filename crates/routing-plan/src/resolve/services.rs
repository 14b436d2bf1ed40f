//! The services that have variants, and the kind of resource that routes them.

use std::collections::HashMap;

use routing_claims::{Policy, PolicyConfig};

use super::{ResolvedService, Resolver, raise_version, service, spec};
use crate::{
    diagnostic::{Diagnostic, Location},
    istio::{Capability, IstioVersion},
    names,
    plan::{RouteResource, ServiceSpec},
};

impl Resolver<'_> {
    /// Checks that the plan's kind of route exists, and can do what each service asks for.
    pub(super) fn routes(&mut self, istio: Option<IstioVersion>) {
        let plan = &self.plan.spec;
        if plan.routes.resource != RouteResource::HttpRoute {
            return;
        }
        if let Some(istio) = istio.filter(|istio| !istio.has(Capability::HttpRoutesInMesh)) {
            let since = Capability::HttpRoutesInMesh.since();
            let message = format!("Istio routes the mesh by HTTPRoute since {since}, and `istioVersion` is {istio}");
            let diagnostic = Diagnostic::new(spec().field("routes").field("resource"), message);
            self.report(diagnostic.with_help(raise_version("VirtualService")));
        }
        for (index, written) in plan.services.iter().enumerate() {
            if written.port.is_none() {
                let message = "an HTTPRoute needs the service's `port`";
                let diagnostic = Diagnostic::new(service(index).field("name"), message);
                self.report(diagnostic.with_help("give it, such as `port: 80`"));
            }
            for (field, present) in [
                ("gateways", !written.gateways.is_empty()),
                ("hosts", !written.hosts.is_empty()),
                ("base", written.base.is_some()),
                ("baseRef", written.base_ref.is_some()),
            ] {
                if present {
                    let message = format!("`{field}` has no effect on HTTPRoutes, it is for VirtualServices");
                    self.report(Diagnostic::new(service(index).field(field), message));
                }
            }
        }
    }

    pub(super) fn services(&mut self, policy: Option<&Policy>) -> Vec<ResolvedService> {
        let mut services = Vec::new();
        for ((index, written), variants) in self.plan.spec.services.iter().enumerate().zip(self.written_variants()) {
            let host = self.host(index, written);
            let header = self.header(index, written, policy);
            self.gateways(index, written);
            let base = self.base(index, written, &host, &header);
            self.allowed_namespaces(index, written);
            services.push(ResolvedService {
                claim: written.name.clone(),
                header,
                namespace: written.namespace.clone(),
                host,
                port: written.port,
                gateways: sorted(&written.gateways),
                public_hosts: sorted(&written.hosts),
                base,
                allowed_namespaces: sorted(&written.allowed_namespaces),
                variants: self.variants(index, written, variants),
                location: service(index).field("name"),
            });
        }
        self.unique_hosts(&services);
        services.sort_by(|a, b| a.claim.cmp(&b.claim));
        services
    }

    /// The host of the main version.
    fn host(&mut self, index: usize, written: &ServiceSpec) -> String {
        let namespace_ok = self.check(service(index).field("namespace"), &written.namespace, names::label);
        let claim = written.name.to_ascii_lowercase();
        let (host, location, valid) = if let Some(host) = &written.host {
            let location = service(index).field("host");
            (host.clone(), location.clone(), self.check(location, host, names::host))
        } else {
            let location = service(index).field("name");
            let valid = names::label(&claim).is_ok();
            if !valid {
                let message = format!("`{}` is not a valid Kubernetes Service name", written.name);
                self.report(Diagnostic::new(location.clone(), message).with_help("give the service's `host`"));
            }
            (format!("{claim}.{}.svc.cluster.local", written.namespace), location, valid && namespace_ok)
        };
        if valid {
            self.kubernetes_host(location, &host);
        }
        host
    }

    /// The header that carries the version.
    fn header(&mut self, index: usize, written: &ServiceSpec, policy: Option<&Policy>) -> String {
        let claim = written.name.to_ascii_lowercase();
        match policy.map(Policy::config) {
            Some(PolicyConfig { header_prefix: Some(prefix), .. }) => {
                let header = format!("{prefix}{claim}");
                if written.header.is_some() {
                    let message = format!("with `headerPrefix` the header is always `{header}`");
                    self.report(Diagnostic::new(service(index).field("header"), message).with_help("remove it"));
                }
                header
            }
            _ => written.header.clone().unwrap_or(claim),
        }
    }

    fn gateways(&mut self, index: usize, written: &ServiceSpec) {
        let at = |field| service(index).field(field);
        for (item, gateway) in written.gateways.iter().enumerate() {
            let location = at("gateways").index(item);
            if gateway == "mesh" {
                let diagnostic = Diagnostic::new(location, "the mesh always routes the service");
                self.report(diagnostic.with_help("remove `mesh`"));
            } else {
                self.check(location, gateway, names::gateway_name);
            }
        }
        for (item, public) in written.hosts.iter().enumerate() {
            self.check(at("hosts").index(item), public, names::public_host);
        }
        if written.gateways.is_empty() && !written.hosts.is_empty() {
            let diagnostic = Diagnostic::new(at("hosts"), "`hosts` are reached through `gateways`, and there are none");
            self.report(diagnostic.with_help("give them, such as `gateways: [istio-system/public]`"));
        }
    }

    fn allowed_namespaces(&mut self, index: usize, written: &ServiceSpec) {
        for (item, pattern) in written.allowed_namespaces.iter().enumerate() {
            self.check(service(index).field("allowedNamespaces").index(item), pattern, names::namespace_pattern);
        }
    }

    /// Checks a host that an `HTTPRoute` refers to, if the plan's routes are such.
    pub(super) fn kubernetes_host(&mut self, location: Location, host: &str) {
        let needed = self.plan.spec.routes.resource == RouteResource::HttpRoute;
        if needed && names::kubernetes_service(host).is_none() {
            let message = format!("an HTTPRoute needs a Kubernetes Service, and `{host}` is not one");
            let diagnostic = Diagnostic::new(location, message);
            self.report(diagnostic.with_help("give a host such as `name.namespace.svc.cluster.local`"));
        }
    }

    /// Checks that no host belongs to two services: Istio ignores the second resource for a host.
    fn unique_hosts(&mut self, services: &[ResolvedService]) {
        let mut hosts: HashMap<&str, &ResolvedService> = HashMap::new();
        for service in services {
            for host in std::iter::once(&service.host).chain(&service.public_hosts) {
                let Some(first) = hosts.insert(host, service).filter(|first| first.claim != service.claim) else {
                    continue;
                };
                let message = format!("`{}` and `{}` have the same host `{host}`", first.claim, service.claim);
                self.report(
                    Diagnostic::new(service.location.clone(), message)
                        .with_related(first.location.clone(), "the other service")
                        .with_help("give each its own: Istio follows one VirtualService of a host"),
                );
            }
        }
    }
}

fn sorted(list: &[String]) -> Vec<String> {
    let mut list = list.to_vec();
    list.sort();
    list.dedup();
    list
}
