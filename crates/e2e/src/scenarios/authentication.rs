//! The gateway's `RequestAuthentication`, which the plan generates.

use std::fs;

use anyhow::{Result, ensure};
use jiff::{Timestamp, ToSpan as _};
use serde_json::json;

use crate::scene::{Scene, bearer, values};

use super::talk::expect;

/// A token of the issuer routes and reaches A and B. The gateway rejects any other token. No token means main.
pub(super) async fn authentication(scene: &mut Scene<'_>) -> Result<String> {
    let jwks = format!("http://{}/jwks.json", scene.world.jwks);
    scene.plan["spec"]["authentication"] = json!({"issuer": ISSUER, "jwksUri": jwks});
    scene.roll_out().await?;
    fs::write(scene.path("issuer.pem"), scene.world.issuer.serialize_pem())?;
    fs::write(scene.path("other.pem"), rcgen::KeyPair::generate()?.serialize_pem())?;

    let token = mint(scene, "issuer.pem", 1).await?;
    let answer = scene.enter(&[("authorization", &token)]).await?;
    expect(&answer, "PR-1>PR-2", &json!("a token of the issuer"))?;
    for said in [&answer.said, &answer.said["called"]["said"]] {
        ensure!(values(said, "authorization").eq([token.as_str()]), "the token does not arrive: {said}");
    }

    let rejected = [
        ("signed by another", mint(scene, "other.pem", 1).await?),
        ("expired", mint(scene, "issuer.pem", -1).await?),
        ("unsigned", bearer(&json!({"iss": ISSUER, "microservice-A": "PR-1"}))),
    ];
    for (what, token) in &rejected {
        let status = scene.enter(&[("authorization", token)]).await?.status;
        ensure!(status == 401, "expected 401 for a token that is {what}, found {status}");
    }
    expect(&scene.enter(&[]).await?, "main>main", &json!("no token"))?;
    Ok("valid token routed and forwarded, 3 kinds rejected with 401".to_owned())
}

/// A token for two versions, made by `manifest-gen token mint`.
async fn mint(scene: &Scene<'_>, key: &str, expires_in_hours: i64) -> Result<String> {
    let expires = (Timestamp::now() + expires_in_hours.hours()).to_string();
    let claims = ["--claim", "microservice-A=PR-1", "--claim", "microservice-B=PR-2", "--issuer", ISSUER];
    let signature = ["--signature", "ES256", "--key", key, "--key-id", "e2e", "--expires-at", &expires];
    let token = scene.manifest_gen(&[&["token", "mint"][..], &claims, &signature].concat()).await?;
    Ok(format!("Bearer {}", token.trim()))
}

const ISSUER: &str = "https://issuer.example";
