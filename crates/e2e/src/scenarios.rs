//! The scenarios. Each starts with the column's plan in force, and can change it.

mod authentication;
mod base;
mod changes;
mod protocols;
mod proxies;
mod talk;
mod telemetry;

use std::pin::Pin;

use anyhow::Result;

use crate::scene::Scene;

pub(crate) use proxies::examples;

/// One row of the results table.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Why it runs only with `VirtualService`s, if so.
    pub(crate) only_virtual_service: Option<&'static str>,
    /// Returns what was counted.
    pub(crate) run: for<'s> fn(&'s mut Scene<'_>) -> Running<'s>,
}

type Running<'s> = Pin<Box<dyn Future<Output = Result<String>> + 's>>;

pub(crate) const SCENARIOS: [Scenario; 14] = [
    everywhere("the talk", |scene| Box::pin(talk::the_talk(scene))),
    everywhere("main for everyone else", |scene| Box::pin(talk::baseline(scene))),
    everywhere("without the label", |scene| Box::pin(talk::without_the_label(scene))),
    everywhere("pull request added", |scene| Box::pin(changes::comes(scene))),
    everywhere("pull request removed", |scene| Box::pin(changes::goes(scene))),
    everywhere("the wrong order", |scene| Box::pin(changes::wrong_order(scene))),
    everywhere("the filter changes", |scene| Box::pin(changes::filter_changes(scene))),
    everywhere("gRPC", |scene| Box::pin(protocols::grpc(scene))),
    everywhere("WebSocket", |scene| Box::pin(protocols::websocket(scene))),
    Scenario {
        name: "base",
        only_virtual_service: Some("because `base` is a VirtualService"),
        run: |scene| Box::pin(base::base(scene)),
    },
    Scenario {
        name: "RequestAuthentication",
        only_virtual_service: Some("because it does not bind to a gateway"),
        run: |scene| Box::pin(authentication::authentication(scene)),
    },
    Scenario {
        name: "access log",
        only_virtual_service: Some("because it does not bind to a gateway"),
        run: |scene| Box::pin(telemetry::access_log(scene)),
    },
    everywhere("position of the filter", |scene| Box::pin(proxies::place(scene))),
    everywhere("lint, validate, analyze", |scene| Box::pin(proxies::checks(scene))),
];

const fn everywhere(name: &'static str, run: for<'s> fn(&'s mut Scene<'_>) -> Running<'s>) -> Scenario {
    Scenario { name, only_virtual_service: None, run }
}
