//! A browser sends a cookie, and the services forward only what OpenTelemetry's SDKs forward.

use std::sync::Arc;

use anyhow::{Result, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use e2e::{Propagator, Sdk};
use serde_json::{Value, json};
use testbed::client::Http1;

use crate::{
    scene::{KEY, REPORT, Scene, bearer, values},
    world::PORT,
};

use super::talk::expect;

/// The choice of the cookie reaches the second hop in `baggage`, whatever the SDK does to the members of others.
pub(super) async fn browser(scene: &mut Scene<'_>) -> Result<String> {
    let sdks = scene.world.sdks.clone();
    let result = with_sdks(scene, &sdks).await;
    // The next scenario forwards `Authorization` again.
    scene.world.forwarding.set(None);
    result?;
    preflight(scene).await?;
    Ok("Python, JavaScript, and a preflight".to_owned())
}

async fn with_sdks(scene: &mut Scene<'_>, sdks: &[(Sdk, Arc<Propagator>)]) -> Result<()> {
    for (sdk, running) in sdks {
        scene.world.forwarding.set(Some(Arc::clone(running)));
        cookie(scene, *sdk).await?;
        property(scene, *sdk).await?;
    }
    Ok(())
}

/// Members of others arrive at A byte for byte, and at B as the SDK writes them. The choice routes at both hops.
async fn cookie(scene: &mut Scene<'_>, sdk: Sdk) -> Result<()> {
    // The token ends in 2100.
    let claims = json!({"sub": "tester", "exp": 4_102_444_800.5, "microservice-A": "PR-1", "microservice-B": "PR-2"});
    let token = bearer(&claims);
    let cookie = format!("theme=dark; {KEY}={}", token.trim_start_matches("Bearer "));
    let choice = BASE64
        .encode(json!({"exp": 4_102_444_800_i64, "microservice-A": "PR-1", "microservice-B": "PR-2"}).to_string());
    // A member of the carrier's key is a leftover of an earlier choice.
    let forged = format!("{KEY}={}", BASE64.encode(r#"{"microservice-A":"PR-3"}"#));
    let lines = [
        ("cookie", &*cookie),
        ("baggage", "vendor=1;ttl=30 , user=J%C3%BCrgen"),
        ("baggage", &*format!("{forged}, note=a%20b,total=1%2B1")),
    ];
    let answer = scene.enter(&lines).await?;
    expect(&answer, "PR-1>PR-2", &json!({"sdk": format!("{sdk:?}")}))?;

    let others = "vendor=1;ttl=30,user=J%C3%BCrgen,note=a%20b,total=1%2B1";
    received(&answer.said, &format!("{others},{KEY}={choice}"))?;
    let others = match sdk {
        // The property is a part of the value, and white space becomes `+`.
        Sdk::Python => "vendor=1%3Bttl%3D30,user=J%C3%BCrgen,note=a+b,total=1%2B1",
        Sdk::JavaScript => others,
    };
    let second = &answer.said["called"]["said"];
    received(second, &format!("{others},{KEY}={choice}"))?;
    for name in ["cookie", "authorization"] {
        ensure!(values(second, name).next().is_none(), "A forwards {name}: {second}");
    }
    Ok(())
}

/// A choice that was set by hand with a property. The SDK for Python encodes the property into the value, which is then malformed.
async fn property(scene: &mut Scene<'_>, sdk: Sdk) -> Result<()> {
    let member = format!("{KEY}={};ttl=30", BASE64.encode(r#"{"microservice-A":"PR-1","microservice-B":"PR-2"}"#));
    let answer = scene.enter(&[("baggage", &member)]).await?;
    let (versions, report) = match sdk {
        Sdk::Python => ("PR-1>main", "malformed-token"),
        Sdk::JavaScript => ("PR-1>PR-2", "applied microservice-a=PR-1 microservice-b=PR-2"),
    };
    expect(&answer, versions, &json!({"sdk": format!("{sdk:?}"), "member": member}))?;
    let second = &answer.said["called"]["said"];
    ensure!(values(second, REPORT).eq([report]), "the second filter reports something else: {second}");
    Ok(())
}

/// A CORS preflight has neither cookie nor token: main answers it.
async fn preflight(scene: &Scene<'_>) -> Result<()> {
    let (from, host) = scene.entry();
    let mut client = Http1::connect(scene.proxy(from).addr(PORT)).await?;
    let asked =
        "origin: https://app.example\r\naccess-control-request-method: GET\r\naccess-control-request-headers: baggage";
    client.write(format!("OPTIONS / HTTP/1.1\r\nhost: {host}\r\n{asked}\r\n\r\n").as_bytes()).await?;
    let said: Value = serde_json::from_slice(&client.read().await?.body)?;
    let answered = e2e::load::versions(&said);
    ensure!(answered == "main>main", "{answered} answered a preflight");
    ensure!(values(&said, REPORT).eq(["no-token"]), "the filter reports something else: {said}");
    Ok(())
}

fn received(said: &Value, baggage: &str) -> Result<()> {
    let lines: Vec<_> = values(said, "baggage").collect();
    ensure!(lines == [baggage], "expected baggage {baggage:?}, found {lines:?}");
    Ok(())
}
