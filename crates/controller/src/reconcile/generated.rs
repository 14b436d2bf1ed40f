//! The routes of a plan, of which a change of a few variants changes few.

use std::{collections::BTreeMap, sync::Arc};

use routing_plan::{
    diagnostic::Location,
    resolve::{ResolvedPlan, ResolvedService},
    resources::{self, Resource},
};

/// The routes that were generated last, by the service's location in the plan.
#[derive(Debug, Clone, Default)]
pub(super) struct Generated(BTreeMap<Location, Arc<Routes>>);

/// The routes of a service, which nothing but its variants can change as long as the plan is the same.
#[derive(Debug)]
struct Routes {
    /// Name and host of each.
    variants: Vec<(String, String)>,
    resources: Vec<Arc<Resource>>,
}

impl Generated {
    /// All resources of the same plan with its variants of now, in order of namespace, kind and name. New ones are finished by
    /// `finish`. Also returns the routes, to be renewed the next time.
    pub(super) fn renew(&self, plan: &ResolvedPlan, finish: impl Fn(&mut Resource)) -> (Vec<Arc<Resource>>, Self) {
        let known = |service: &ResolvedService| self.0.get(&service.location).filter(|routes| routes.are_of(service));
        let mut new: BTreeMap<Location, Vec<Arc<Resource>>> = BTreeMap::new();
        for mut resource in resources::generate_without(plan, |service| known(service).is_some()) {
            finish(&mut resource);
            new.entry(resource.origin.clone()).or_default().push(Arc::new(resource));
        }
        let routes = plan.services.iter().map(|service| {
            let routes = known(service)
                .cloned()
                .unwrap_or_else(|| Arc::new(Routes::new(service, new.remove(&service.location).unwrap_or_default())));
            (service.location.clone(), routes)
        });
        let routes: BTreeMap<_, _> = routes.collect();
        let of_services = routes.values().flat_map(|routes| &routes.resources);
        let mut all: Vec<_> = new.values().flatten().chain(of_services).cloned().collect();
        all.sort_by(|a, b| (&a.namespace, &a.kind, &a.name).cmp(&(&b.namespace, &b.kind, &b.name)));
        (all, Self(routes))
    }
}

impl Routes {
    fn new(service: &ResolvedService, resources: Vec<Arc<Resource>>) -> Self {
        let variants = service.variants.iter().map(|variant| (variant.name.clone(), variant.host.clone()));
        Self { variants: variants.collect(), resources }
    }

    fn are_of(&self, service: &ResolvedService) -> bool {
        let now = service.variants.iter().map(|variant| (&variant.name, &variant.host));
        self.variants.iter().map(|(name, host)| (name, host)).eq(now)
    }
}
