//! No request makes the WASM filter or the native module trap. The SDK panics on a header name that is not UTF-8, but Envoy's codecs reject such a name
//! before any filter sees it.

use std::net::SocketAddr;
use std::time::Duration;

use hostile::health::Health;
use hostile::target::Engine;
use serde_json::json;
use testbed::client::{Http1, Http2};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::scene::{By, Scene, arrived, bearer, filter};

#[tokio::test]
async fn a_header_name_that_is_not_utf_8_reaches_no_filter_by_http_1() {
    let scene = scene(Engine::Wasm).await;
    for name in NAMES {
        let mut connection = scene.connect().await;
        let response = connection.get("a.example", "/", &[(name.to_vec(), b"1".to_vec())]).await.unwrap();
        assert_eq!(response.status, 400, "{name:?}");
    }
    stayed_well(&scene, Engine::Wasm).await;
}

#[tokio::test]
async fn a_header_name_that_is_not_utf_8_reaches_no_filter_by_http_2() {
    let scene = scene(Engine::Wasm).await;
    assert!(is_answered_over_http_2(scene.address, b"x-good").await, "the client itself is sound");
    for name in NAMES {
        assert!(!is_answered_over_http_2(scene.address, name).await, "{name:?}");
    }
    stayed_well(&scene, Engine::Wasm).await;
}

#[tokio::test]
async fn a_header_value_that_is_not_utf_8_passes_the_filter() {
    for engine in [Engine::Wasm, Engine::Module] {
        let scene = scene(engine).await;
        let mut http_1 = Http1::connect(scene.address).await.unwrap();
        let http_2 = Http2::connect(scene.address).await.unwrap();
        let token = bearer(r#"{"microservice-A":"PR-1"}"#);
        for (token, expected) in [(token.as_bytes(), &["PR-1"][..]), (b"Bearer \xff\xfe.\xc3(.\x80", &[])] {
            let lines = [("authorization", token), ("microservice-a", b"\xff"), ("x-other", b"\xc3(")];
            let lines = lines.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
            for response in [
                http_1.get("a.example", "/", &lines).await.unwrap(),
                http_2.get("a.example", "/", &lines).await.unwrap(),
            ] {
                assert_eq!(arrived(&response, "microservice-a"), expected, "{engine:?}");
            }
        }
        stayed_well(&scene, engine).await;
    }
}

async fn scene(engine: Engine) -> Scene {
    Scene::start(By::Listener, &filter(engine, &json!({"services": [{"name": "microservice-A"}]}))).await
}

/// Checks that the filter has not trapped and still strips.
async fn stayed_well(scene: &Scene, engine: Engine) {
    assert_eq!(arrived(&scene.get(&[("microservice-a", "FORGED")]).await, "microservice-a"), [""; 0]);
    assert_eq!(Health::of(&scene.envoy, engine).await.unwrap().failures, [""; 0]);
}

/// Whether a request with a header of this name is answered before Envoy closes the connection. HTTP/2 libraries do not send such
/// a name, so this function writes the frames itself (RFC 9113, RFC 7541).
async fn is_answered_over_http_2(address: SocketAddr, name: &[u8]) -> bool {
    let authority = b"a.example";
    let mut fields = vec![GET, SCHEME_HTTP, ROOT_PATH];
    fields.extend([&[AUTHORITY, length(authority)], &authority[..]].concat());
    fields.extend([&[NEW_NAME, length(name)], name, &[1, b'1']].concat());

    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, length(&fields), HEADERS, END_STREAM | END_HEADERS, 0, 0, 0, 1]);
    bytes.extend(fields);
    stream.write_all(&bytes).await.unwrap();

    tokio::time::timeout(Duration::from_secs(10), async {
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            let [high, middle, low, kind, ..] = head;
            if kind == HEADERS {
                return true;
            }
            let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
            stream.read_exact(&mut payload).await.unwrap();
        }
        false
    })
    .await
    .unwrap()
}

/// The length in one byte.
fn length(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).unwrap()
}

/// Not UTF-8, and UTF-8 that is not ASCII.
const NAMES: [&[u8]; 4] = [b"x-\xff", b"\xc3(", b"x-\x80-y", b"x-\xc3\xa9"];

// Types and flags of frames.
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

// Entries of HPACK's static table, and the start of a field whose name is in neither table.
const GET: u8 = 0x82;
const ROOT_PATH: u8 = 0x84;
const SCHEME_HTTP: u8 = 0x86;
const AUTHORITY: u8 = 0x01;
const NEW_NAME: u8 = 0x00;
