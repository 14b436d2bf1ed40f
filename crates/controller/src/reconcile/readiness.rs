//! Which Services have somebody who answers.

use std::collections::{BTreeMap, HashMap};

use crate::observed::{Observed, Service, Workload};

/// The Services, with the endpoints of each.
pub(super) struct Readiness<'o> {
    services: HashMap<(&'o str, &'o str), &'o Service>,
    /// Endpoints in slices, and those of them that are ready, by namespace and Service.
    endpoints: HashMap<(&'o str, &'o str), (u32, u32)>,
    workloads: BTreeMap<&'o str, Vec<&'o Workload>>,
}

/// What is known about a host.
pub(super) enum HostState<'o> {
    /// Not of Kubernetes: nothing is known, so it counts as ready.
    Elsewhere,
    /// It names a Service that does not exist.
    NoService,
    /// A Service with so many ready endpoints.
    Service(&'o Service, u32),
}

impl<'o> Readiness<'o> {
    pub(super) fn of(observed: &'o Observed) -> Self {
        let mut endpoints: HashMap<_, (u32, u32)> = HashMap::new();
        for (name, slice) in observed.slices.iter() {
            let (all, ready) = endpoints.entry((&*name.namespace, &*slice.service)).or_default();
            *all += slice.endpoints;
            *ready += slice.ready;
        }
        let mut workloads: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (name, workload) in observed.workloads.iter() {
            workloads.entry(&*name.namespace).or_default().push(workload);
        }
        let services = observed.services.iter();
        let services = services.map(|(name, service)| ((&*name.namespace, &*name.name), service)).collect();
        Self { services, endpoints, workloads }
    }

    /// What is known about a host of the mesh.
    pub(super) fn of_host(&self, host: &str) -> HostState<'o> {
        let Some((name, namespace)) = routing_plan::kubernetes_service(host) else { return HostState::Elsewhere };
        match self.services.get(&(namespace, name)) {
            Some(service) => HostState::Service(service, self.ready_endpoints((namespace, name), service)),
            None => HostState::NoService,
        }
    }

    /// Endpoints of slices count; without any, the `WorkloadEntries` that Istio selects by the Service's labels.
    fn ready_endpoints(&self, (namespace, name): (&str, &str), service: &Service) -> u32 {
        match self.endpoints.get(&(namespace, name)) {
            Some((1.., ready)) => return *ready,
            _ if service.is_external_name => return 1,
            _ if service.selector.is_empty() => return 0,
            _ => {}
        }
        let workloads = self.workloads.get(namespace).into_iter().flatten();
        let selected = workloads.filter(|workload| {
            workload.is_healthy && service.selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
        });
        u32::try_from(selected.count()).unwrap_or(u32::MAX)
    }
}
