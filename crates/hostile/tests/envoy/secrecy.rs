//! R17 on a real Envoy at log level debug: no part of a token is in what the filters log, or in what anyone logs at info or
//! above. (At debug, Envoy itself logs the headers of requests.)

use hostile::target::Engine;
use serde_json::{Value, json};
use testbed::{Acknowledgement, Options};

use crate::scene::{By, Scene, bearer, filter};

#[tokio::test]
async fn no_part_of_a_token_is_logged() {
    for engine in [Engine::Wasm, Engine::Lua, Engine::Module] {
        let scene = Scene::start_as(By::Filter, &filter(engine, &policy()), DEBUG).await;
        attack(&scene).await;
        if engine != Engine::Lua {
            // The filter's error for a policy contains only parts of the policy.
            let bad = filter(engine, &json!({"services": [{"name": "a", "header": "host"}]}));
            assert_eq!(scene.offer(&bad).await, Acknowledgement::Nack);
            attack(&scene).await;
            scene.logs(0, "services[0].header: expected a header that a policy may manage, found `host`").await;
        }
        let log = scene.envoy.log().unwrap();
        assert_eq!(leaks(&log), Vec::<&str>::new(), "{engine:?}");
        // Envoy itself logs the tokens at debug, so the requests arrived and the log level is in force.
        assert!(log.contains(CANARY), "{engine:?}");
    }
}

/// The check finds a filter that logs its token.
#[tokio::test]
async fn a_leak_would_be_seen() {
    for call in ["logDebug", "logWarn"] {
        let mut leaky = filter(Engine::Lua, &policy());
        let script = leaky["typed_config"]["default_source_code"]["inline_string"].as_str().unwrap();
        let leak = format!("local headers = handle:headers() handle:{call}(headers:get('authorization') or '')");
        leaky["typed_config"]["default_source_code"]["inline_string"] =
            script.replace("local headers = handle:headers()", &leak).into();
        let scene = Scene::start_as(By::Filter, &leaky, DEBUG).await;
        attack(&scene).await;
        assert!(!leaks(&scene.envoy.log().unwrap()).is_empty(), "{call}");
    }
}

/// Sends requests with every kind of token. Each contains the canary, which must not be logged.
async fn attack(scene: &Scene) {
    let long = "x".repeat(9000);
    let tokens = [
        bearer(&format!(r#"{{"microservice-A":"PR-1","sub":"{CANARY}"}}"#)),
        bearer(&format!(r#"{{"microservice-A":"{CANARY}"}}"#)),
        bearer(&format!(r#"{{"microservice-A":"{CANARY} ","microservice-B":["{CANARY}"]}}"#)),
        bearer(&format!(r#"{{"{CANARY}":"{CANARY}"}}"#)),
        bearer(&format!(r#"{{"exp":1,"sub":"{CANARY}"}}"#)),
        bearer(&format!(r#"{{"nbf":99999999999,"sub":"{CANARY}"}}"#)),
        bearer(&format!(r#"{{"sub":"{CANARY}","sub":"#)),
        bearer(&format!(r#"{{"microservice-A":"{CANARY}","microservice-A":"{CANARY}"}}"#)),
        bearer(&format!("{}\"{CANARY}\"", "[".repeat(40))),
        format!("Bearer {CANARY}"),
        format!("Bearer {CANARY}.{CANARY}.{CANARY}"),
        format!("Bearer {CANARY}{long}"),
        format!("Bearer {CANARY}, Bearer {CANARY}"),
        "Bearer ".to_owned(),
    ];
    for token in &tokens {
        let response =
            scene.get(&[("authorization", token), ("microservice-a", CANARY), ("x-routing-report", CANARY)]).await;
        assert_eq!(response.status, 200);
    }
}

/// The log records that contain a part of a token and that a filter wrote, or anyone at info or above.
fn leaks(log: &str) -> Vec<&str> {
    // A record can have several lines. It begins with `[time][thread][level][component]`.
    let starts = log.match_indices("[20").map(|(at, _)| at).filter(|at| *at == 0 || log[..*at].ends_with('\n'));
    let mut bounds: Vec<_> = starts.chain([log.len()]).collect();
    bounds.dedup();
    let records = bounds.windows(2).map(|bound| &log[bound[0]..bound[1]]);
    records
        .filter(|record| {
            let mut head = record.split(']').skip(2).map(|field| field.trim_start_matches('['));
            let (level, component) = (head.next().unwrap_or_default(), head.next().unwrap_or_default());
            let talks = level != "debug" && level != "trace";
            (talks || ["wasm", "lua"].contains(&component)) && secrets().iter().any(|secret| record.contains(secret))
        })
        .collect()
}

/// The canary in plain text, and in the three forms that base64 gives it, depending on its offset.
fn secrets() -> Vec<String> {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    let shifted = (0..3).map(|shift| {
        let encoded = BASE64_URL_SAFE_NO_PAD.encode(format!("{}{CANARY}", " ".repeat(shift)));
        // Without the ends, which depend on the bytes around the canary.
        encoded[4..encoded.len() - 4].to_owned()
    });
    shifted.chain([CANARY.to_owned()]).collect()
}

fn policy() -> Value {
    json!({"services": [{"name": "microservice-A"}, {"name": "microservice-B"}], "reportHeader": "x-routing-report"})
}

const CANARY: &str = "Canary7Secret9Canary";
const DEBUG: Options = Options { concurrency: 1, log_level: "debug", args: &[] };
