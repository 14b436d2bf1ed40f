//! A user's own `VirtualService`, merged with the variants.

use std::{collections::BTreeMap, fs, time::Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    scene::{From, Scene, bearer},
    world::{B, PORT, host},
};

use super::talk::expect;

/// Timeout, retries, path rewrite and canary split apply to requests without a token. A token gets its version, with the
/// same timeout, retries and rewrite.
pub(super) async fn base(scene: &mut Scene<'_>) -> Result<String> {
    fs::write(scene.path("base.yaml"), virtual_service().to_string())?;
    scene.plan["spec"]["services"][1]["base"] = json!("base.yaml");
    scene.roll_out().await?;
    let host = host(B, B);
    let token = bearer(&json!({"microservice-B": "PR-1"}));
    let with_token = [("authorization", token.as_str())];

    for (headers, version) in [(&[][..], "main"), (&with_token[..], "PR-1")] {
        let begin = Instant::now();
        let answer = scene.ask(From::Client, &host, "/slow", headers).await?;
        ensure!(answer.status == 504, "expected 504 for /slow, found {} after {:?}", answer.status, begin.elapsed());

        let answer = scene.ask(From::Client, &host, &format!("/flaky?{}", unique()), headers).await?;
        expect(&answer, version, &json!("/flaky is tried again"))?;

        let answer = scene.send(From::Client, &host, "/old/page", headers).await?;
        expect(&answer, version, &json!("/old is rewritten"))?;
        ensure!(answer.said["path"] == "/new/page", "/old/page arrives as {}", answer.said["path"]);
    }

    let mut split = BTreeMap::<_, u32>::new();
    for _ in 0..100 {
        let answer = scene.ask(From::Client, &host, "/", &[]).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        *split.entry(answer.versions).or_default() += 1;
    }
    let shares = (split.get("main").copied().unwrap_or(0), split.get("canary").copied().unwrap_or(0));
    // 60 to 40 in the long run. One run in a million exceeds these bounds.
    ensure!(shares.0 + shares.1 == 100 && shares.0 >= 35 && shares.1 >= 15, "the split is {split:?}");
    for _ in 0..10 {
        expect(&scene.ask(From::Client, &host, "/", &with_token).await?, "PR-1", &json!("a token is not split"))?;
    }
    Ok(format!("timeout, retry, rewrite; main {} to canary {}", shares.0, shares.1))
}

fn virtual_service() -> Value {
    let to = |name: &str| json!({"host": host(B, name), "port": {"number": PORT}});
    let main = json!([{"destination": to(B)}]);
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "own", "namespace": B},
        "spec": {
            "hosts": [host(B, B)],
            "http": [
                {"match": [{"uri": {"prefix": "/slow"}}], "timeout": "0.5s", "route": main},
                {
                    "match": [{"uri": {"prefix": "/flaky"}}],
                    "retries": {"attempts": 2, "retryOn": "5xx", "perTryTimeout": "2s"},
                    "route": main,
                },
                {"match": [{"uri": {"prefix": "/old/"}}], "rewrite": {"uri": "/new/"}, "route": main},
                {"route": [{"destination": to(B), "weight": 60}, {"destination": to("canary"), "weight": 40}]},
            ],
        },
    })
}

/// `/flaky` fails once for each query.
fn unique() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos()
}
