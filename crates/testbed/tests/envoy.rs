//! All parts together, with a real Envoy.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use testbed::client::{Http1, Http2};
use testbed::echo::{self, Seen};
use testbed::{Envoy, Headers, config};

#[tokio::test]
async fn header_bytes_survive_both_protocols() {
    let dir = tempfile::tempdir().unwrap();
    let echo = echo::serve("upstream").await.unwrap();
    let listener = config::listener("in", &[], &config::route_all("echo"));
    let bootstrap = config::bootstrap(&[listener], &[config::cluster("echo", echo.addr())]);
    let envoy = start(bootstrap, dir.path()).await.unwrap();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, envoy.listener_port("in").await.unwrap()));

    let lines: Headers = vec![
        (b"X-Bytes".to_vec(), b"\xff\x80\xc3(".to_vec()),
        (b"x-twice".to_vec(), b"one".to_vec()),
        (b"x-twice".to_vec(), b"two".to_vec()),
    ];
    let mut http1 = Http1::connect(addr).await.unwrap();
    let http2 = Http2::connect(addr).await.unwrap();
    for round in 0..2 {
        let answers = [
            http1.get("a.example", "/p?q", &lines).await.unwrap(),
            http2.get("a.example", "/p?q", &lines).await.unwrap(),
        ];
        for answer in answers {
            assert_eq!((answer.status, answer.header("x-upstream")), (200, Some(&b"upstream"[..])), "{round}");
            let seen = Seen::from_body(&answer.body).unwrap();
            assert_eq!(seen.path, "/p?q");
            assert_eq!(seen.values("host"), [b"a.example"]);
            assert_eq!(seen.values("x-bytes"), [b"\xff\x80\xc3("]);
            assert_eq!(seen.values("x-twice"), [b"one", b"two"]);
        }
    }

    let counted = envoy.counters("http.in.downstream_rq_2xx").await.unwrap();
    assert_eq!(counted, BTreeMap::from([("http.in.downstream_rq_2xx".to_owned(), 4)]));
    assert!(envoy.listener_port("out").await.unwrap_err().to_string().contains("no listener out"));
    assert!(envoy.log().unwrap().contains("starting main dispatch loop"));
}

#[tokio::test]
async fn a_rejected_configuration_shows_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let error = start(json!({"static_resources": {"no_such_field": 1}}), dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("no_such_field"), "{error}");
}

#[tokio::test]
async fn stopping_ends_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let envoy = start(json!({}), dir.path()).await.unwrap();
    let pid = envoy.pid().to_string();
    let alive = || std::process::Command::new("kill").args(["-0", &pid]).output().unwrap().status.success();
    assert!(alive());
    envoy.stop();
    assert!(!alive());
}

async fn start(bootstrap: Value, dir: &Path) -> anyhow::Result<Envoy> {
    let binary = testbed::locate(|line| println!("{line}")).await?;
    Envoy::start(&binary, "test", bootstrap, dir).await
}
