//! The access logs, which the plan adds the report to.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use e2e::{ACCESS_LOG_PROVIDER, Readiness, until};
use serde_json::json;

use crate::{
    scene::{PUBLIC_HOST, Scene, bearer},
    world::{B, host},
};

use super::talk::expect;

/// The gateway and the sidecar of A log the report, and nobody logs the token.
pub(super) async fn access_log(scene: &mut Scene<'_>) -> Result<String> {
    let path = scene.world.access_log.clone();
    let read = || fs::read_to_string(&path).unwrap_or_default();
    // Earlier columns have written to it, but never without telemetry.
    let before = read().len();
    scene.plan["spec"]["telemetry"] = json!({"accessLogProvider": ACCESS_LOG_PROVIDER});
    scene.roll_out().await?;

    let token = bearer(&json!({"microservice-A": "PR-1", "microservice-B": "PR-2"}));
    expect(&scene.enter(&[("authorization", &token)]).await?, "PR-1>PR-2", &json!("a token"))?;
    let report = "applied microservice-a=PR-1 microservice-b=PR-2";
    let wanted = [PUBLIC_HOST, &host(B, B)].map(|host| format!("{host} {report}"));
    until("the report in the access log", LOGGED, async || {
        let log = read();
        let lines: Vec<_> = log[before..].lines().collect();
        let missing = wanted.iter().find(|line| !lines.contains(&line.as_str()));
        Ok(Readiness::of(missing.is_none(), || format!("expected {missing:?} in {lines:?}")))
    })
    .await?;
    ensure!(!read().contains(token.trim_start_matches("Bearer ")), "the token is in the access log");
    Ok("the gateway and the sidecar of A".to_owned())
}

/// Proxies flush their logs ten times a second.
const LOGGED: Duration = Duration::from_secs(30);
