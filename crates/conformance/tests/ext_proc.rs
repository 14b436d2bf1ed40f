//! A real Envoy calls the core's example of an external processor.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testbed::{Envoy, client::Http1, config, echo};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};

#[tokio::test]
async fn a_token_routes_and_a_forged_header_does_not() {
    let binary = testbed::locate(|progress| println!("{progress}")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut processor, address) = start_processor().await.unwrap();
    let upstreams = [echo::serve("baseline").await.unwrap(), echo::serve("PR-1").await.unwrap()];
    let clusters = [
        config::cluster("baseline", upstreams[0].addr()),
        config::cluster("PR-1", upstreams[1].addr()),
        http2(config::cluster("routing-claims", address)),
    ];
    let listener = config::listener("in", &[ext_proc()], &routes());
    let envoy =
        Envoy::start(&binary, "ext-proc", config::bootstrap(&[listener], &clusters), folder.path()).await.unwrap();
    let port = envoy.listener_port("in").await.unwrap();

    // The payload is {"microservice-A":"PR-1"}.
    let token = ("authorization", "Bearer e30.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ.");
    for (request, upstream, report) in [
        (vec![token], "PR-1", "applied microservice-a=PR-1"),
        (vec![("microservice-a", "PR-1")], "baseline", "no-token"),
        (vec![("microservice-a", "PR-9"), token, ("Microservice-B", "PR-9")], "PR-1", "applied microservice-a=PR-1"),
    ] {
        let lines: Vec<_> =
            request.iter().map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into())).collect();
        let mut client = Http1::connect((Ipv4Addr::LOCALHOST, port).into()).await.unwrap();
        let response = client.get("shop.example", "/", &lines).await.unwrap();
        assert_eq!(response.header("x-upstream"), Some(upstream.as_bytes()), "{request:?}: {}", response.text());
        let seen = echo::Seen::from_body(&response.body).unwrap();
        let values = |name: &str| -> Vec<_> {
            let lines = seen.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()));
            lines.map(|(_, value)| String::from_utf8_lossy(value)).collect()
        };
        assert_eq!(values("x-routing-report"), [report], "{request:?}");
        assert_eq!(values("microservice-a"), vec!["PR-1"; usize::from(upstream == "PR-1")], "{request:?}");
        assert!(values("microservice-b").is_empty(), "{request:?}");
    }

    // Without its processor, no request passes as it came.
    processor.kill().await.unwrap();
    let mut client = Http1::connect((Ipv4Addr::LOCALHOST, port).into()).await.unwrap();
    let response = client.get("shop.example", "/", &[("microservice-a".into(), "PR-1".into())]).await.unwrap();
    assert!(response.status >= 500 && response.header("x-upstream").is_none(), "{}", response.status);
}

/// The running example and its address. Dropping it stops it. On Unix, `cargo run` becomes the example.
async fn start_processor() -> Result<(Child, SocketAddr)> {
    let mut cargo = testbed::cargo(&["run", "--quiet", "--package", "routing-claims", "--example", "ext-proc"]);
    let mut processor = cargo.args(["--", "127.0.0.1:0"]).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut line = String::new();
    BufReader::new(processor.stdout.take().context("its output")?).read_line(&mut line).await?;
    let address = line.trim().strip_prefix("listening on ").context("no address")?.parse()?;
    Ok((processor, address))
}

/// The configuration in the example's documentation.
fn ext_proc() -> Value {
    json!({
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": "routing-claims"}},
            "failure_mode_allow": false,
            "processing_mode": {"request_header_mode": "SEND", "response_header_mode": "SKIP"},
        },
    })
}

fn routes() -> Value {
    let exact = json!([{"name": "microservice-a", "string_match": {"exact": "PR-1"}}]);
    json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/", "headers": exact}, "route": {"cluster": "PR-1"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "baseline"}},
    ]}]})
}

fn http2(mut cluster: Value) -> Value {
    cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
    cluster
}
