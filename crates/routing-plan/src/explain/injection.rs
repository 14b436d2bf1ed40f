//! `fault` of a `VirtualService`'s routes. (`TranslateFault` in Istio's `route.go`, and Envoy's filter `fault`.)

use super::{ExplainRequest, Explanation, choose_route};
use crate::{
    diagnostic::Location,
    manifests::Manifest,
    views::{
        VirtualService,
        reader::Field,
        virtual_service::{Abort, FaultInjection, IstioRoute},
    },
};

/// What the `fault` of a route does to requests. A delay does not change where they go.
#[derive(Debug, Clone, Default)]
pub(super) struct Injection {
    aborts: Aborts,
    place: Option<Location>,
}

/// Which requests are answered by the fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Aborts {
    #[default]
    None,
    /// All, with this status.
    All(u64),
    /// Some, or it can't be told.
    Unclear,
}

/// What happens to the request before any filter has changed it, if a manifest has faults at all. Envoy looks at the route
/// once, when the request passes its filter `fault`.
pub(super) fn of_unchanged(
    manifests: &[Manifest],
    request: &ExplainRequest,
    explanation: &mut Explanation,
) -> Option<Injection> {
    let mut views = manifests.iter().filter_map(Manifest::view::<VirtualService>);
    if !views.any(|view| view.http.items().iter().any(|route| Aborts::of(&route.fault) != Aborts::None)) {
        return None;
    }
    let mut first = Explanation::default();
    choose_route(manifests, request, &mut first);
    for caveat in first.assumed {
        explanation.assume(caveat.message, caveat.location);
    }
    if let Some(caveat) = first.unknown.into_iter().next() {
        return Some(Injection { aborts: Aborts::Unclear, place: caveat.location });
    }
    Some(first.injection.unwrap_or_default())
}

impl Injection {
    /// The one of a route.
    pub(super) fn of(manifest: &Manifest, route: &IstioRoute) -> Self {
        let path = route.written.path.clone().field("fault");
        Self { aborts: Aborts::of(&route.fault), place: Some(manifest.location(&path)) }
    }

    /// Notes what it does to the request. Says whether the request ends here.
    pub(super) fn inject(self, explanation: &mut Explanation) -> bool {
        match self.aborts {
            Aborts::None => {}
            Aborts::All(status) => {
                explanation.instead = Some(format!("{status}: the `fault` of the route aborts every request"));
                explanation.destinations.clear();
            }
            Aborts::Unclear => explanation.leave_open("which requests the `fault` of a route aborts", self.place),
        }
        matches!(self.aborts, Aborts::All(_))
    }
}

impl Aborts {
    fn of(fault: &Field<FaultInjection>) -> Self {
        match fault {
            Field::Absent => Self::None,
            Field::Known(fault) if fault.written.unknown.is_empty() => match &fault.abort {
                Field::Absent => Self::None,
                Field::Known(abort) => Self::of_abort(abort),
                Field::Wrong(_) => Self::Unclear,
            },
            Field::Known(_) | Field::Wrong(_) => Self::Unclear,
        }
    }

    /// Without a percentage it aborts nothing. Istio counts in millionths.
    fn of_abort(abort: &Abort) -> Self {
        let percentage = match &abort.percentage {
            Field::Absent => 0.0,
            Field::Known(percentage) => match percentage.value {
                Field::Absent => 0.0,
                Field::Known(value) => value,
                Field::Wrong(_) => return Self::Unclear,
            },
            Field::Wrong(_) => return Self::Unclear,
        };
        if !abort.written.unknown.is_empty() {
            return Self::Unclear;
        }
        match abort.http_status {
            _ if percentage < 0.0001 => Self::None,
            Field::Known(status) if percentage >= 100.0 => Self::All(status),
            _ => Self::Unclear,
        }
    }
}
