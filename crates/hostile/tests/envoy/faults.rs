//! Faults around the filters, on a real Envoy. The table in docs/robustness.md lists them.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hostile::envoy;
use hostile::health::resident_bytes;
use hostile::target::Engine;
use serde_json::{Value, json};
use testbed::client::Http1;
use testbed::{Acknowledgement, Envoy, Options, config};

use crate::scene::{self, By, Scene, arrived, bearer, filter, headers, module};

const ENGINES: [Engine; 3] = [Engine::Wasm, Engine::Lua, Engine::Module];
const WAYS: [By; 2] = [By::Listener, By::Filter];

#[tokio::test]
async fn a_bad_policy_is_refused_and_the_old_one_stays() {
    let token = bearer(r#"{"microservice-A":"PR-1"}"#);
    let request = [("authorization", token.as_str()), ("microservice-a", "FORGED")];
    for (engine, by) in [Engine::Wasm, Engine::Module].into_iter().flat_map(|engine| WAYS.map(|by| (engine, by))) {
        let good = policy("microservice-A");
        let scene = Scene::start(by, &filter(engine, &good)).await;
        let mut kept = scene.connect().await;
        for (bad, reason) in [
            (
                json!({"services": [{"name": "a", "header": "x-envoy-a"}]}),
                "services[0].header: expected a header that a policy may manage, found `x-envoy-a`",
            ),
            (json!({"service": []}), "found unknown field `service`"),
            (json!("{"), "policy: expected "),
        ] {
            let before = scene.envoy.log().unwrap().len();
            assert_eq!(scene.offer(&filter(engine, &bad)).await, Acknowledgement::Nack, "{engine:?} {bad} {by:?}");
            scene.logs(before, reason).await;
            for response in [kept.get("a.example", "/", &headers(&request)).await.unwrap(), scene.get(&request).await] {
                assert_eq!(arrived(&response, "microservice-a"), ["PR-1"], "{engine:?} {bad} {by:?}");
            }
        }
    }
}

/// The policy of the Lua filter is checked when the script is written. Envoy checks only that it is a script.
#[tokio::test]
async fn a_broken_script_is_refused_and_the_old_one_stays() {
    let token = bearer(r#"{"microservice-A":"PR-1"}"#);
    for by in WAYS {
        let scene = Scene::start(by, &filter(Engine::Lua, &policy("microservice-A"))).await;
        assert_eq!(scene.offer(&config::lua_filter("function envoy_on_request(")).await, Acknowledgement::Nack);
        let response = scene.get(&[("authorization", &token), ("microservice-a", "FORGED")]).await;
        assert_eq!(arrived(&response, "microservice-a"), ["PR-1"]);
        scene.logs(0, "script load error").await;
    }
}

#[tokio::test]
async fn a_policy_is_swapped_under_load_without_a_failed_request() {
    for (engine, by) in ENGINES.into_iter().flat_map(|engine| WAYS.map(|by| (engine, by))) {
        // The two filters manage different headers. Each request forges both.
        let filters = ["microservice-A", "microservice-B"].map(|name| filter(engine, &policy(name)));
        let scene = Scene::start_as(by, &filters[0], TWO_WORKERS).await;
        let load = Load::start(&scene);
        for round in 1..=20 {
            assert_eq!(scene.offer(&filters[round % 2]).await, Acknowledgement::Ack, "{engine:?} {by:?}");
            load.more(20).await;
        }
        let [first, second] = load.stop().await;
        assert!(
            first > 50 && second > 50,
            "{engine:?} {by:?}: {first} requests by the one policy, {second} by the other"
        );
    }
}

#[tokio::test]
async fn a_module_that_cannot_be_loaded_is_refused_with_the_reason_and_the_old_one_stays() {
    let token = bearer(r#"{"microservice-A":"PR-1"}"#);
    let good = filter(Engine::Wasm, &policy("microservice-A"));
    let whole = fs::read(module()).unwrap();
    for by in WAYS {
        let scene = Scene::start(by, &good).await;
        for (what, bytes, reason) in [
            ("missing", None, "Invalid path: "),
            ("empty", Some(&[][..]), "Unable to create Wasm plugin"),
            ("truncated", Some(&whole[..whole.len() / 2]), "Failed to load Wasm"),
            ("script", Some(&b"#!/bin/sh\n"[..]), "Failed to load Wasm"),
        ] {
            let file = scene.folder().join(what);
            if let Some(bytes) = bytes {
                fs::write(&file, bytes).unwrap();
            }
            let mut bad = good.clone();
            bad["typed_config"]["config"]["vm_config"]["code"] = json!({"local": {"filename": file}});
            let before = scene.envoy.log().unwrap().len();
            assert_eq!(scene.offer(&bad).await, Acknowledgement::Nack, "{what} {by:?}");
            scene.logs(before, reason).await;
            let response = scene.get(&[("authorization", &token), ("microservice-a", "FORGED")]).await;
            assert_eq!(arrived(&response, "microservice-a"), ["PR-1"]);
        }
    }
}

/// Envoy can fetch a module itself, but accepts the configuration first. If the module does not match its checksum, the
/// old policy is gone and the fail strategy decides what happens to requests.
#[tokio::test]
async fn a_module_that_envoy_fetches_runs_only_with_its_checksum() {
    let server = scene::serve_file(fs::read(module()).unwrap()).await;
    let right = scene::sha256(&module());
    for (sum, strategy, expected) in [
        (&*right, "FAIL_RELOAD", "PR-1"),
        (SHA_OF_NOTHING, "FAIL_RELOAD", "503"),
        (SHA_OF_NOTHING, "FAIL_CLOSED", "503"),
        (SHA_OF_NOTHING, "FAIL_OPEN", "FORGED"),
    ] {
        let (scene, fetched) = fetched(By::Listener, server, sum, strategy).await;
        // Until the fetch ends, the old listener answers, with another policy.
        settles(&scene, expected).await;
        let log = scene.envoy.log().unwrap();
        assert_eq!(log.contains("Retry limit exceeded for fetching data"), sum != right, "{fetched}:\n{log}");
    }
}

/// Envoy 1.40 never fetches a module whose configuration it receives over ECDS, and requests pass as they came, with every
/// fail strategy. Istio is not affected: its agent fetches the module and gives Envoy a file.
#[tokio::test]
async fn a_module_of_a_discovered_filter_is_never_fetched_by_envoy() {
    let server = scene::serve_file(fs::read(module()).unwrap()).await;
    let right = scene::sha256(&module());
    let (scene, _) = fetched(By::Filter, server, &right, "FAIL_CLOSED").await;
    settles(&scene, "FORGED").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    settles(&scene, "FORGED").await;
    let fetches = scene.envoy.counters("cluster.modules.upstream_rq_total").await.unwrap();
    assert_eq!(fetches.into_values().sum::<u64>(), 0);
}

/// An Envoy that ran with one policy and then received another, with a module to fetch.
async fn fetched(by: By, server: SocketAddr, sum: &str, strategy: &str) -> (Scene, Value) {
    let mut fetched = filter(Engine::Wasm, &policy("microservice-A"));
    fetched["typed_config"]["config"]["failure_policy"] = strategy.into();
    fetched["typed_config"]["config"]["vm_config"]["code"] = json!({"remote": {
        "http_uri": {"uri": format!("http://{server}/routing-claims.wasm"), "cluster": "modules", "timeout": "5s"},
        "sha256": sum,
        "retry_policy": {"num_retries": 0},
    }});
    let scene = Scene::start_serving(by, &filter(Engine::Wasm, &policy("microservice-B")), server).await;
    assert_eq!(scene.offer(&fetched).await, Acknowledgement::Ack);
    (scene, fetched)
}

/// Waits for this result of requests: the header that arrives, or a status.
async fn settles(scene: &Scene, expected: &str) {
    let token = bearer(r#"{"microservice-A":"PR-1"}"#);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let response = scene.get(&[("authorization", &token), ("microservice-a", "FORGED")]).await;
        let found = match response.status {
            // The previous policy still answers.
            200 if arrived(&response, "x-routing-report") == ["no-routes"] => "before".to_owned(),
            200 => arrived(&response, "microservice-a").join(","),
            status => status.to_string(),
        };
        if found == expected {
            return;
        }
        assert!(found == "before" && Instant::now() < deadline, "expected {expected}, found {found}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_each_fail_strategy_does() {
    let folder = tempfile::tempdir().unwrap();
    let trap = folder.path().join("trap.wasm");
    fs::write(&trap, wat::parse_str(include_str!("trap.wat")).unwrap()).unwrap();
    for (strategy, passes_forged, recovers) in
        [("FAIL_CLOSED", false, false), ("FAIL_OPEN", true, false), ("FAIL_RELOAD", false, true)]
    {
        let mut filter = config::wasm_filter(&trap, &Value::Null);
        filter["typed_config"]["config"]["failure_policy"] = strategy.into();
        let scene = Scene::start(By::Listener, &filter).await;
        let forged = [("microservice-a", "FORGED")];
        assert_eq!(arrived(&scene.get(&forged).await, "microservice-a"), [""; 0], "{strategy}");
        assert_eq!(scene.get(&[("x-trap", "1")]).await.status, 503, "{strategy}");
        scene.logs(0, "Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable").await;

        let after = scene.get(&forged).await;
        if passes_forged {
            assert_eq!(arrived(&after, "microservice-a"), ["FORGED"], "{strategy}");
        } else {
            assert_eq!(after.status, 503, "{strategy}");
        }
        let deadline = Instant::now() + if recovers { Duration::from_secs(30) } else { Duration::from_secs(4) };
        let recovered = loop {
            let response = scene.get(&forged).await;
            if response.status == 200 && arrived(&response, "microservice-a").is_empty() {
                break true;
            } else if Instant::now() > deadline {
                break false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(recovered, recovers, "{strategy}");
        let reloads = scene.envoy.counters("wasm.routing-claims.vm_reload_success").await.unwrap();
        assert_eq!(reloads.into_values().sum::<u64>() > 0, recovers, "{strategy}");
    }
}

#[tokio::test]
async fn a_restart_lets_no_request_pass_as_it_came() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let (_upstreams, clusters) = envoy::upstreams().await.unwrap();
        // The port is known before Envoy runs, so that the first request that it accepts is one of ours.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut listener = envoy::listener(
            "in",
            &[filter(engine, &policy("microservice-A"))],
            &config::route_all(hostile::target::MAIN),
        );
        listener["address"]["socket_address"]["port_value"] = port.into();
        let bootstrap = config::bootstrap(&[listener], &clusters);

        let answered = Arc::new(AtomicU64::new(0));
        let hammer = tokio::spawn(hammer(port, Arc::clone(&answered)));
        for round in 1..=3 {
            let envoy =
                Envoy::start(&scene::binary().await, "restart", bootstrap.clone(), folder.path()).await.unwrap();
            let until = answered.load(Ordering::Relaxed) + 50;
            while answered.load(Ordering::Relaxed) < until {
                assert!(!hammer.is_finished(), "{engine:?}, start {round}: a request passed as it came");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            envoy.stop();
        }
        hammer.abort();
    }
}

/// Sends requests whenever someone accepts connections.
async fn hammer(port: u16, answered: Arc<AtomicU64>) {
    let token = bearer(r#"{"microservice-A":"PR-1"}"#);
    let request = headers(&[("authorization", &token), ("microservice-a", "FORGED")]);
    loop {
        let address = ([127, 0, 0, 1], port).into();
        // While Envoy is down, a request gets no answer or only half of one.
        if let Ok(mut connection) = Http1::connect(address).await
            && let Ok(response) = connection.get("a.example", "/", &request).await
        {
            assert_eq!(arrived(&response, "microservice-a"), ["PR-1"]);
            answered.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Each policy is a new one. One request uses it, then the next policy replaces it.
#[tokio::test]
async fn thousands_of_policies_leave_nothing_behind() {
    const POLICIES: u32 = 2000;
    const WARM: u32 = 400;
    const BOUND: u64 = 16 << 20;
    for engine in ENGINES {
        let scene = Scene::start(By::Filter, &filter(engine, &policy("first"))).await;
        let mut connection = scene.connect().await;
        let mut warm = 0;
        for n in 0..POLICIES {
            let (name, payload) = (format!("service-{n}"), format!(r#"{{"service-{n}":"PR-1"}}"#));
            assert_eq!(scene.offer(&filter(engine, &policy(&name))).await, Acknowledgement::Ack);
            let request = [("authorization", &*bearer(&payload)), (&name, "FORGED")];
            let response = connection.get("a.example", "/", &headers(&request)).await.unwrap();
            assert_eq!(arrived(&response, &name), ["PR-1"], "{engine:?} {n}");
            let bytes = resident_bytes(scene.envoy.pid()).unwrap();
            if n == WARM {
                warm = bytes;
            } else if n > WARM {
                assert!(bytes <= warm + BOUND, "{engine:?}: {warm} bytes after {WARM} policies, {bytes} after {n}");
            }
        }
        println!(
            "{engine:?}: {} MiB more after {POLICIES} policies than after {WARM}",
            (resident_bytes(scene.envoy.pid()).unwrap().saturating_sub(warm)) >> 20
        );
    }
}

/// Sends requests over kept and new connections until it is stopped.
struct Load {
    state: Arc<State>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    /// The number of requests that each of the two policies decided.
    seen: [AtomicU64; 2],
}

impl Load {
    fn start(scene: &Scene) -> Self {
        let state = Arc::new(State::default());
        let workers = (0..4).map(|worker| tokio::spawn(load(Arc::clone(&state), scene.address, worker % 2 == 0)));
        Self { workers: workers.collect(), state }
    }

    /// Waits until `count` more requests were answered.
    async fn more(&self, count: u64) {
        let until = self.answered() + count;
        while self.answered() < until && !self.workers.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn answered(&self) -> u64 {
        self.state.seen.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    async fn stop(self) -> [u64; 2] {
        self.state.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.unwrap();
        }
        [0, 1].map(|at| self.state.seen[at].load(Ordering::Relaxed))
    }
}

async fn load(state: Arc<State>, address: SocketAddr, kept: bool) {
    let token = bearer(r#"{"microservice-A":"PR-1","microservice-B":"PR-1"}"#);
    let request = headers(&[("authorization", &token), ("microservice-a", "FORGED"), ("microservice-b", "FORGED")]);
    let mut connection = Http1::connect(address).await.unwrap();
    while !state.stop.load(Ordering::Relaxed) {
        let response = connection.get("a.example", "/", &request).await.unwrap();
        let seen = ["microservice-a", "microservice-b"].map(|header| arrived(&response, header).join(","));
        let policy = [["PR-1", "FORGED"], ["FORGED", "PR-1"]].iter().position(|policy| *policy == seen);
        assert!(policy.is_some(), "decided by neither policy, or by both: {seen:?}");
        state.seen[policy.unwrap()].fetch_add(1, Ordering::Relaxed);
        if !kept || response.header("connection") == Some(b"close") {
            connection = Http1::connect(address).await.unwrap();
        }
    }
}

fn policy(service: &str) -> Value {
    json!({"services": [{"name": service}], "reportHeader": "x-routing-report"})
}

/// Workers share the native module's configuration.
const TWO_WORKERS: Options = Options { concurrency: 2, log_level: "info", args: &[] };

const SHA_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
