//! Faults of the native module, on a real Envoy: it runs in Envoy's process, so what it does wrong can be Envoy's end.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hostile::target::Engine;
use serde_json::{Value, json};
use testbed::{Acknowledgement, Envoy, Options, cargo, config, module_path, target_dir};

use crate::scene::{self, By, Scene, arrived, bearer, filter, headers};

/// A panic answers its own request with status 500, and harms no other. It is counted, and logged once in ten seconds without
/// any part of the request (R17).
#[tokio::test]
async fn a_panic_fails_its_request_and_envoy_lives_on() {
    let panics = config::module_filter(&panics_on_purpose().await, &policy());
    let scene = Scene::start_as(By::Listener, &panics, Options { concurrency: 2, ..Options::default() }).await;
    let token = bearer(r#"{"microservice-A":"PR-1"}"#);
    let forged = [("authorization", token.as_str()), ("microservice-a", "FORGED")];
    let mut kept = scene.connect().await;
    for round in 1..=20 {
        let mut lines = headers(&forged);
        lines.push((b"x-panic".to_vec(), SECRET.as_bytes().to_vec()));
        let response = kept.get("a.example", "/", &lines).await.unwrap();
        assert_eq!((response.status, response.header("x-upstream")), (500, None), "{round}");
        kept = scene.connect().await;
        assert_eq!(arrived(&kept.get("a.example", "/", &headers(&forged)).await.unwrap(), "microservice-a"), ["PR-1"]);
        let counters = scene.envoy.counters("wasmcustom.routing_claims.").await.unwrap();
        assert_eq!(counters["wasmcustom.routing_claims.traps"], round);
        assert_eq!(counters["wasmcustom.routing_claims.applied"], round);
    }
    scene.logs(0, "routing-claims: trap at crates/module-filter/src/").await;
    let log = scene.envoy.log().unwrap();
    assert!(!log.contains(SECRET) && !log.contains("panicked at"), "{log}");
    assert!((1..=6).contains(&log.matches("trap at").count()), "{log}");
}

/// A request that another filter holds back while the policy is replaced is handled by its old policy.
#[tokio::test]
async fn a_request_keeps_the_policy_that_it_began_with() {
    let token = bearer(r#"{"microservice-A":"PR-1","microservice-B":"PR-1"}"#);
    let request = headers(&[("authorization", &token), ("microservice-a", "FORGED"), ("microservice-b", "FORGED")]);
    let of = |service: &str| filter(Engine::Module, &json!({"services": [{"name": service}]}));
    let scene = Scene::start_after(&delay(), &of("microservice-A")).await;
    let mut connection = scene.connect().await;
    let slow = tokio::spawn(async move { connection.get("a.example", "/", &request).await.unwrap() });
    tokio::time::sleep(DELAY / 4).await;
    for round in 0..10 {
        let service = ["microservice-B", "microservice-C"][round % 2];
        assert_eq!(scene.offer(&of(service)).await, Acknowledgement::Ack);
    }
    assert!(!slow.is_finished(), "the policy was replaced after the request");
    let response = slow.await.unwrap();
    assert_eq!(arrived(&response, "microservice-a"), ["PR-1"]);
    assert_eq!(arrived(&response, "microservice-b"), ["FORGED"]);
}

#[tokio::test]
async fn a_native_module_that_cannot_be_loaded_is_refused_with_the_reason_and_the_old_one_stays() {
    let whole = fs::read(module_path().unwrap()).unwrap();
    let good = filter(Engine::Module, &policy());
    for by in [By::Listener, By::Filter] {
        let scene = Scene::start(by, &good).await;
        for (what, bytes) in [
            ("missing.so", None),
            ("empty.so", Some(&[][..])),
            ("header.so", Some(&whole[..40])),
            ("script.so", Some(&b"#!/bin/sh\n"[..])),
        ] {
            let file = scene.folder().join(what);
            if let Some(bytes) = bytes {
                fs::write(&file, bytes).unwrap();
            }
            let before = scene.envoy.log().unwrap().len();
            assert_eq!(
                scene.offer(&config::module_filter(&file, &policy())).await,
                Acknowledgement::Nack,
                "{what} {by:?}"
            );
            scene.logs(before, "Failed to load dynamic module").await;
            assert_stripped(&scene).await;
        }
    }
}

/// The dynamic linker maps a file that is cut off and reads beyond its end. So a file must be complete before it has its name.
#[tokio::test]
async fn a_native_module_that_is_cut_off_ends_envoy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cut-off.so");
    fs::write(&file, &fs::read(module_path().unwrap()).unwrap()[..4096]).unwrap();
    let filters = [config::module_filter(&file, &policy())];
    let cluster = config::cluster("main", ([127, 0, 0, 1], 9).into());
    let bootstrap = config::bootstrap(&[config::listener("in", &filters, &config::route_all("main"))], &[cluster]);
    let started = Envoy::start(&scene::binary().await, "cut-off", bootstrap, folder.path()).await;
    let error = started.unwrap_err().to_string();
    assert!(error.contains("exited with signal: 7"), "{error}");
}

/// Envoy can fetch the module itself. With `nack_on_cache_miss`, it refuses the configuration until it has the module. Without,
/// it accepts the configuration and runs it **without the filter** until it has the module, which may be never.
#[tokio::test]
async fn a_native_module_that_envoy_fetches_fails_open_unless_it_nacks() {
    let server = scene::serve_file(fs::read(module_path().unwrap()).unwrap()).await;
    let right = scene::sha256(&module_path().unwrap());
    let scene = Scene::start_serving(By::Listener, &filter(Engine::Module, &policy()), server).await;

    // A wrong checksum: refused, again and again, and the old filter strips.
    for _ in 0..3 {
        assert_eq!(scene.offer(&fetched(server, SHA_OF_NOTHING, true)).await, Acknowledgement::Nack);
        assert_stripped(&scene).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // The right checksum: refused until it is fetched, and then accepted.
    let deadline = Instant::now() + Duration::from_secs(20);
    while scene.offer(&fetched(server, &right, true)).await == Acknowledgement::Nack {
        assert!(Instant::now() < deadline, "Envoy never accepts the module:\n{}", scene.envoy.log().unwrap());
        assert_stripped(&scene).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_stripped(&scene).await;

    // Fails open.
    assert_eq!(scene.offer(&fetched(server, SHA_OF_NOTHING, false)).await, Acknowledgement::Ack);
    let deadline = Instant::now() + Duration::from_secs(20);
    while arrived(&scene.get(&[("microservice-a", "FORGED")]).await, "microservice-a") != ["FORGED"] {
        assert!(Instant::now() < deadline, "the forged header never passes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn fetched(server: SocketAddr, sum: &str, nack: bool) -> Value {
    let mut filter = filter(Engine::Module, &policy());
    let module = &mut filter["typed_config"]["dynamic_module_config"];
    module["module"] = json!({"remote": {
        "http_uri": {"uri": format!("http://{server}/module.so"), "cluster": "modules", "timeout": "5s"},
        "sha256": sum,
    }});
    module["nack_on_cache_miss"] = nack.into();
    filter
}

async fn assert_stripped(scene: &Scene) {
    let token = bearer(r#"{"microservice-A":"PR-1"}"#);
    let response = scene.get(&[("authorization", &token), ("microservice-a", "FORGED")]).await;
    assert_eq!(arrived(&response, "microservice-a"), ["PR-1"]);
}

/// The module with the feature that makes a request panic. It never ships.
async fn panics_on_purpose() -> PathBuf {
    let target = target_dir().join("panic-on-purpose");
    let build = ["build", "--quiet", "--locked", "--package", "module-filter", "--features", "panic-on-purpose"];
    let status = cargo(&build).arg("--target-dir").arg(&target).status().await.unwrap();
    assert!(status.success(), "`cargo {}` failed", build.join(" "));
    target.join("debug/libmodule_filter.so")
}

/// A filter that holds each request back.
fn delay() -> Value {
    json!({
        "name": "delay",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "delay": {"fixed_delay": format!("{}s", DELAY.as_secs()), "percentage": {"numerator": 100}},
        },
    })
}

fn policy() -> Value {
    json!({"services": [{"name": "microservice-A"}]})
}

const DELAY: Duration = Duration::from_secs(8);

const SECRET: &str = "Canary7Secret9Canary";

const SHA_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
