//! Tokens choose versions at two hops. Everyone else gets main.

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    scene::{From, MeshResponse, Scene, bearer, values},
    world::{B, host},
};

/// Three pull requests of A and two of B at the same time. Each token takes its own path.
pub(super) async fn the_talk(scene: &mut Scene<'_>) -> Result<String> {
    let paths = [
        (json!({"microservice-A": "PR-1", "microservice-B": "PR-1"}), "PR-1>PR-1"),
        (json!({"microservice-A": "PR-2", "microservice-B": "PR-2"}), "PR-2>PR-2"),
        (json!({"microservice-A": "PR-3"}), "PR-3>main"),
        (json!({"microservice-B": "PR-1"}), "main>PR-1"),
        (json!({"microservice-A": "PR-1", "microservice-B": "PR-2"}), "PR-1>PR-2"),
    ];
    for _ in 0..ROUNDS {
        for (claims, path) in &paths {
            let token = bearer(claims);
            let answer = scene.enter(&[("authorization", &token)]).await?;
            expect(&answer, path, claims)?;
            let second = &answer.said["called"]["said"];
            ensure!(values(second, "authorization").eq([token.as_str()]), "A does not forward the token: {second}");
        }
    }
    Ok(format!("{} requests, {} paths", ROUNDS * paths.len(), paths.len()))
}

/// No token, an expired token, headers forged outside and inside, and an unknown version.
pub(super) async fn baseline(scene: &mut Scene<'_>) -> Result<String> {
    let answer = scene.enter(&[]).await?;
    expect(&answer, "main>main", &json!("no token"))?;

    let expired =
        json!({"microservice-A": "PR-1", "microservice-B": "PR-1", "exp": Timestamp::now().as_second() - 3600});
    let answer = scene.enter(&[("authorization", &bearer(&expired))]).await?;
    expect(&answer, "main>main", &expired)?;

    let unknown = json!({"microservice-A": "PR-99", "microservice-B": "PR-99"});
    let answer = scene.enter(&[("authorization", &bearer(&unknown))]).await?;
    expect(&answer, "main>main", &unknown)?;

    for forged in [vec!["PR-1"], vec!["PR-1", "PR-2"]] {
        let lines: Vec<_> = forged.iter().map(|value| ("microservice-a", *value)).collect();
        let answer = scene.enter(&lines).await?;
        expect(&answer, "main>main", &json!({"forged": forged}))?;
        ensure!(values(&answer.said, "microservice-a").next().is_none(), "the forged header is not stripped");
    }
    let token = bearer(&json!({"microservice-A": "PR-2"}));
    let answer = scene.enter(&[("microservice-a", "PR-1"), ("authorization", &token)]).await?;
    expect(&answer, "PR-2>main", &json!("a forged header beside a token"))?;

    // A workload of the mesh that forges what its own sidecar manages.
    let answer = scene.ask(From::Client, &host(B, B), "/", &[("microservice-b", "PR-2")]).await?;
    expect(&answer, "main", &json!("forged inside"))?;
    ensure!(values(&answer.said, "microservice-b").next().is_none(), "the forged header is not stripped inside");
    Ok("no token, expired, unknown, forged outside, forged inside".to_owned())
}

/// Requests of a workload without the label pass as it sends them.
pub(super) async fn without_the_label(scene: &mut Scene<'_>) -> Result<String> {
    let token = bearer(&json!({"microservice-B": "PR-1"}));
    let answer = scene.ask(From::Plain, &host(B, B), "/", &[("authorization", &token)]).await?;
    expect(&answer, "main", &json!("a token"))?;
    let answer = scene.ask(From::Plain, &host(B, B), "/", &[("microservice-b", "none of ours")]).await?;
    expect(&answer, "main", &json!("a header"))?;
    ensure!(values(&answer.said, "microservice-b").eq(["none of ours"]), "a header was changed: {}", answer.said);
    // This is why every caller needs the label: routes follow the header, whoever wrote it.
    let answer = scene.ask(From::Plain, &host(B, B), "/", &[("microservice-b", "PR-1")]).await?;
    expect(&answer, "PR-1", &json!("a forged header"))?;
    Ok("a token does nothing, headers pass untouched".to_owned())
}

pub(super) fn expect(answer: &MeshResponse, versions: &str, about: &Value) -> Result<()> {
    let MeshResponse { status, said, versions: answered } = answer;
    ensure!(*status == 200, "{about}: status {status}: {said}");
    ensure!(answered == versions, "{about}: {answered} answered instead of {versions}");
    Ok(())
}

const ROUNDS: usize = 4;
