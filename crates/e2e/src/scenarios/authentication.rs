//! Tokens that Envoy verifies: at the gateway by the `RequestAuthentication` of the plan, in sidecars with `verify: outbound`.

use std::fs;

use anyhow::{Result, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use testbed::client::Http1;

use crate::{
    scene::{From, PUBLIC_HOST, Scene, bearer, values},
    world::{A, PORT, host, key_set},
};

use super::talk::expect;

/// A token of an issuer routes, in a header or a cookie, and reaches A and B. The gateway rejects any other token, and what it does
/// not see as a token routes nowhere. No token means main.
pub(super) async fn authentication(scene: &mut Scene<'_>) -> Result<String> {
    let jwks = format!("http://{}/jwks.json", scene.world.jwks);
    let second = issuers(scene)?;
    scene.plan["spec"]["authentication"] = json!([
        {"issuer": ISSUER, "jwksUri": jwks},
        {"issuer": SECOND, "audiences": ["qa"], "jwks": second},
    ]);
    scene.plan["spec"]["policy"]["fromCookies"] = json!(["qa"]);
    scene.plan["spec"]["policy"]["fromBaggage"] = json!(["qa"]);
    scene.plan["spec"]["policy"]["carry"] = json!({"baggage": "qa"});
    scene.roll_out().await?;

    let good = mint(scene, "issuer.pem", ISSUER, &[]).await?;
    let of_second = mint(scene, "second.pem", SECOND, &["--claim", "aud=qa"]).await?;
    for token in [&good, &of_second] {
        let token = format!("Bearer {token}");
        let answer = scene.enter(&[("authorization", &token)]).await?;
        expect(&answer, "PR-1>PR-2", &json!("a token in the header"))?;
        for said in [&answer.said, &answer.said["called"]["said"]] {
            ensure!(values(said, "authorization").eq([token.as_str()]), "the token does not arrive: {said}");
        }
    }
    // The service forwards no cookie.
    let answer = scene.enter(&[("cookie", &format!("theme=dark; qa={good}"))]).await?;
    expect(&answer, "PR-1>main", &json!("a token in the cookie"))?;
    ensure!(values(&answer.said, "baggage").count() == 1, "the choice is not carried: {}", answer.said);

    let unknown = mint(scene, "issuer.pem", "https://unknown.example", &[]).await?;
    let wrong_audience = mint(scene, "second.pem", SECOND, &["--claim", "aud=others"]).await?;
    let other = mint(scene, "other.pem", ISSUER, &[]).await?;
    let unsigned = bearer(&json!({"iss": ISSUER, "microservice-A": "PR-1"}));
    let rejected = [
        ("signed by another", format!("Bearer {other}")),
        ("signed with the key of another issuer", format!("Bearer {}", mint(scene, "second.pem", ISSUER, &[]).await?)),
        ("expired", format!("Bearer {}", mint(scene, "issuer.pem", ISSUER, &EXPIRED).await?)),
        ("unsigned", unsigned.clone()),
        ("of an unknown issuer", format!("Bearer {unknown}")),
    ];
    let in_cookie = [("of an unknown issuer", &unknown), ("signed by another", &other)];
    let rejected = rejected.map(|(what, value)| (what, "authorization", value)).into_iter();
    let rejected = rejected.chain(in_cookie.map(|(what, token)| (what, "cookie", format!("qa={token}"))));
    for (what, name, value) in rejected.clone() {
        let status = scene.enter(&[(name, &value)]).await?.status;
        ensure!(status == 401, "expected 401 for a token in `{name}` that is {what}, found {status}");
    }
    let status = scene.enter(&[("authorization", &format!("Bearer {wrong_audience}"))]).await?.status;
    ensure!(status == 403, "expected 403 for a token for another audience, found {status}");
    // Istio sees no token in these. The filter would, if it read the same places.
    let payload = BASE64.encode(json!({"microservice-A": "PR-1"}).to_string());
    let ignored = [
        ("a forged token after `bearer`", "authorization", unsigned.replace("Bearer", "bearer")),
        ("a forged payload", PAYLOAD, payload.clone()),
        ("a forged choice", "baggage", format!("qa={payload}")),
    ];
    for (what, name, value) in &ignored {
        let answer = scene.enter(&[(*name, value)]).await?;
        expect(&answer, "main>main", &json!(what))?;
        let arrives = *name != "authorization" && values(&answer.said, name).next().is_some();
        ensure!(!arrives, "{what} arrives: {}", answer.said);
    }
    // Istio verifies no preflight (`bypass_cors_preflight`).
    let preflight = preflight(scene, From::Outside, PUBLIC_HOST, &payload).await?;
    expect_main(&preflight)?;
    expect(&scene.enter(&[]).await?, "main>main", &json!("no token"))?;
    Ok(format!(
        "2 issuers, header and cookie; {} tokens rejected with 401, {} ignored",
        rejected.count(),
        ignored.len()
    ))
}

/// In a sidecar a good token routes. A forged one, or a forged payload, routes nowhere, and the request is not refused.
pub(super) async fn verify_outbound(scene: &mut Scene<'_>) -> Result<String> {
    let second = issuers(scene)?;
    let jwks = format!("http://{KEYS}:{PORT}/jwks.json");
    scene.brought.push(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "keys", "namespace": "istio-system"},
        "spec": {
            "hosts": [KEYS],
            "ports": [{"number": PORT, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": scene.world.jwks.ip().to_string()}],
        },
    }));
    scene.plan["spec"]["authentication"] = json!([
        {"issuer": ISSUER, "jwksUri": jwks, "cluster": format!("outbound|{PORT}||{KEYS}")},
        {"issuer": SECOND, "audiences": ["qa"], "jwks": second},
    ]);
    scene.plan["spec"]["filter"]["verify"] = json!("outbound");
    scene.plan["spec"]["policy"]["fromCookies"] = json!(["qa"]);
    scene.roll_out().await?;

    let good = mint(scene, "issuer.pem", ISSUER, &[]).await?;
    let of_second = mint(scene, "second.pem", SECOND, &["--claim", "aud=qa"]).await?;
    let forged = mint(scene, "other.pem", ISSUER, &[]).await?;
    let unknown = mint(scene, "issuer.pem", "https://unknown.example", &[]).await?;
    let payload = BASE64.encode(json!({"microservice-A": "PR-1", "microservice-B": "PR-2"}).to_string());
    let in_header = |token: &str| ("authorization", format!("Bearer {token}"));
    let in_cookie = |token: &str| ("cookie", format!("qa={token}"));
    let forged_payload = (PAYLOAD, payload);
    // How many payloads the first service receives. `explain` does not know the keys, so it takes any signature for good.
    let requests = [
        ("a good token", vec![in_header(&good)], "PR-1>PR-2", 1, true),
        ("a good token of the other issuer", vec![in_header(&of_second)], "PR-1>PR-2", 1, true),
        ("a good token in the cookie", vec![in_cookie(&good)], "PR-1>main", 1, true),
        ("a good token and a forged payload", vec![forged_payload.clone(), in_header(&good)], "PR-1>PR-2", 1, true),
        ("two good tokens", vec![in_header(&good), in_cookie(&good)], "main>PR-2", 2, true),
        ("tokens of two issuers", vec![in_header(&of_second), in_cookie(&good)], "main>PR-2", 0, true),
        ("the same in other places", vec![in_header(&good), in_cookie(&of_second)], "PR-1>PR-2", 1, true),
        ("a forged token", vec![in_header(&forged)], "main>main", 0, false),
        ("a forged token in the cookie", vec![in_cookie(&forged)], "main>main", 0, false),
        ("a forged token and a good one", vec![in_header(&forged), in_cookie(&good)], "main>main", 0, false),
        ("a token of an unknown issuer", vec![in_header(&unknown)], "main>main", 0, true),
        ("a forged payload", vec![forged_payload.clone()], "main>main", 0, true),
        ("a forged token and payload", vec![in_header(&forged), forged_payload.clone()], "main>main", 0, false),
        ("no token", vec![], "main>main", 0, true),
    ];
    for (what, headers, path, payloads, is_explained) in &requests {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = if *is_explained {
            scene.ask(From::Client, &host(A, A), "/", &headers).await?
        } else {
            scene.send(From::Client, &host(A, A), "/", &headers).await?
        };
        expect(&answer, path, &json!(what))?;
        let arrive = values(&answer.said, PAYLOAD).count();
        ensure!(arrive == *payloads, "{what}: {arrive} payloads arrive: {}", answer.said);
    }
    let preflight = preflight(scene, From::Client, &host(A, A), &forged_payload.1).await?;
    expect_main(&preflight)?;
    Ok(format!("{} kinds of requests, and a preflight", requests.len()))
}

fn expect_main(preflight: &Value) -> Result<()> {
    ensure!(preflight["version"] == "main", "a preflight with a forged payload: {preflight}");
    ensure!(values(preflight, PAYLOAD).next().is_none(), "a forged payload passes with a preflight: {preflight}");
    Ok(())
}

/// What a service receives of a CORS preflight with a forged payload.
async fn preflight(scene: &Scene<'_>, from: From, host: &str, payload: &str) -> Result<Value> {
    let mut client = Http1::connect(scene.proxy(from).addr(PORT)).await?;
    let request = format!(
        "OPTIONS / HTTP/1.1\r\nhost: {host}\r\norigin: https://{PUBLIC_HOST}\r\naccess-control-request-method: GET\r\n{PAYLOAD}: {payload}\r\n\r\n"
    );
    client.write(request.as_bytes()).await?;
    Ok(serde_json::from_slice(&client.read().await?.body)?)
}

/// Writes the keys of both issuers, and one of neither. Returns the key set of the second.
fn issuers(scene: &Scene<'_>) -> Result<String> {
    let second = rcgen::KeyPair::generate()?;
    fs::write(scene.path("issuer.pem"), scene.world.issuer.serialize_pem())?;
    fs::write(scene.path("second.pem"), second.serialize_pem())?;
    fs::write(scene.path("other.pem"), rcgen::KeyPair::generate()?.serialize_pem())?;
    Ok(key_set(&second).to_string())
}

/// A token for two versions, made by `manifest-gen token mint`.
async fn mint(scene: &Scene<'_>, key: &str, issuer: &str, more: &[&str]) -> Result<String> {
    let expires = (Timestamp::now() + 1.hours()).to_string();
    let claims = ["--claim", "microservice-A=PR-1", "--claim", "microservice-B=PR-2", "--issuer", issuer];
    let mut arguments =
        [&["token", "mint"][..], &claims, &["--signature", "ES256", "--key", key, "--key-id", "e2e"]].concat();
    arguments.extend(more);
    if !more.contains(&"--expires-at") {
        arguments.extend(["--expires-at", &expires]);
    }
    Ok(scene.manifest_gen(&arguments).await?.trim().to_owned())
}

const ISSUER: &str = "https://issuer.example";
const SECOND: &str = "https://second.example";
/// The host with the keys of the first issuer.
const KEYS: &str = "keys.example";
const EXPIRED: [&str; 2] = ["--expires-at", "2026-01-01T00:00:00Z"];
/// Where Envoy writes the payload of a token that it has verified.
const PAYLOAD: &str = routing_plan::token_source::VERIFIED_PAYLOAD;
