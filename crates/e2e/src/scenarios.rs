//! The scenarios. Each starts with the column's plan in force, and can change it.

mod agents;
mod authentication;
mod base;
mod browser;
mod changes;
mod monitoring;
mod protocols;
mod proxies;
pub(crate) mod readme;
mod talk;
mod telemetry;

use std::{fmt, pin::Pin};

use anyhow::Result;

use crate::{column::Column, scene::Scene, world::Proxies};

pub(crate) use proxies::examples;

/// One row of the results table.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The columns in which it runs, and why not in others.
    pub(crate) only: Option<(Only, &'static str)>,
    /// Returns what was counted.
    pub(crate) run: for<'s> fn(&'s mut Scene<'_>) -> Running<'s>,
}

/// A kind of columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    VirtualService,
    Agents,
}

impl Scenario {
    /// Whether it runs in a column.
    pub(crate) fn is_for(&self, column: Column) -> bool {
        self.only.is_none_or(|(only, _)| match only {
            Only::VirtualService => column.has_gateway(),
            Only::Agents => column.proxies == Proxies::Agents,
        })
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VirtualService => "only with VirtualService",
            Self::Agents => "only with agents",
        })
    }
}

pub(crate) type Running<'s> = Pin<Box<dyn Future<Output = Result<String>> + 's>>;

pub(crate) const SCENARIOS: &[Scenario] = &[
    everywhere("the talk", |scene| Box::pin(talk::the_talk(scene))),
    everywhere("main for everyone else", |scene| Box::pin(talk::baseline(scene))),
    everywhere("without the label", |scene| Box::pin(talk::without_the_label(scene))),
    everywhere("cookie and baggage", |scene| Box::pin(browser::browser(scene))),
    everywhere("pull request added", |scene| Box::pin(changes::comes(scene))),
    everywhere("pull request removed", |scene| Box::pin(changes::goes(scene))),
    everywhere("the wrong order", |scene| Box::pin(changes::wrong_order(scene))),
    everywhere("the filter changes", |scene| Box::pin(changes::filter_changes(scene))),
    everywhere("gRPC", |scene| Box::pin(protocols::grpc(scene))),
    everywhere("WebSocket", |scene| Box::pin(protocols::websocket(scene))),
    Scenario {
        name: "base",
        only: Some((Only::VirtualService, "because `base` is a VirtualService")),
        run: |scene| Box::pin(base::base(scene)),
    },
    Scenario {
        name: "RequestAuthentication",
        only: Some((Only::VirtualService, "because an HTTPRoute does not bind to a gateway")),
        run: |scene| Box::pin(authentication::authentication(scene)),
    },
    Scenario {
        name: "verify: outbound",
        only: Some((Only::VirtualService, "because what a sidecar verifies does not depend on the kind of the routes")),
        run: |scene| Box::pin(authentication::verify_outbound(scene)),
    },
    Scenario {
        name: "access log",
        only: Some((Only::VirtualService, "because an HTTPRoute does not bind to a gateway")),
        run: |scene| Box::pin(telemetry::access_log(scene)),
    },
    everywhere("position of the filter", |scene| Box::pin(proxies::place(scene))),
    everywhere("lint, validate, analyze", |scene| Box::pin(proxies::checks(scene))),
    Scenario {
        name: "mutual TLS",
        only: Some((Only::Agents, "because bare Envoys have no certificates")),
        run: |scene| Box::pin(agents::mutual_tls(scene)),
    },
    Scenario {
        name: "metrics",
        only: Some((Only::Agents, "because the agent serves what Prometheus scrapes")),
        run: |scene| Box::pin(agents::metrics(scene)),
    },
    Scenario {
        name: "monitoring",
        only: Some((Only::Agents, "because the agent serves what Prometheus scrapes")),
        run: |scene| Box::pin(monitoring::monitoring(scene)),
    },
];

const fn everywhere(name: &'static str, run: for<'s> fn(&'s mut Scene<'_>) -> Running<'s>) -> Scenario {
    Scenario { name, only: None, run }
}
