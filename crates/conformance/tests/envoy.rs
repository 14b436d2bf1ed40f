//! Runs the corpus on the built filters in a real Envoy. `cargo xtask test` builds and finds what this needs.

use conformance::{
    Clock, Corpus,
    envoy::{
        PolicyListeners, Protocol, bad_module_filter, bad_wasm_filter, lua_filter, module_filter, refuses_bad_policies,
        wasm_filter,
    },
    run,
};
use testbed::EnvoyBinary;

#[tokio::test]
async fn wasm_passes_the_corpus_over_http1_and_http2() {
    let corpus = Corpus::load().unwrap();
    let binary = testbed::locate(|progress| println!("{progress}")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let listeners = PolicyListeners::start(&binary, &corpus, folder.path(), wasm_filter).await.unwrap();
    let http1 = run(&corpus, "WASM over HTTP/1.1", &mut listeners.over(Protocol::Http1), Clock::Machine).await;
    let http2 = run(&corpus, "WASM over HTTP/2", &mut listeners.over(Protocol::Http2), Clock::Machine).await;
    http1.into_result().and(http2.into_result()).unwrap();
    listeners.counts_every_request().await.unwrap();
}

#[tokio::test]
async fn lua_passes_the_corpus_over_http1_and_http2() {
    let corpus = Corpus::load().unwrap();
    let binary = testbed::locate(|progress| println!("{progress}")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let listeners = PolicyListeners::start(&binary, &corpus, folder.path(), lua_filter).await.unwrap();
    let http1 = run(&corpus, "Lua over HTTP/1.1", &mut listeners.over(Protocol::Http1), Clock::Machine).await;
    let http2 = run(&corpus, "Lua over HTTP/2", &mut listeners.over(Protocol::Http2), Clock::Machine).await;
    http1.into_result().and(http2.into_result()).unwrap();
}

#[tokio::test]
async fn module_passes_the_corpus_over_http1_and_http2() {
    module_passes(&testbed::locate(|progress| println!("{progress}")).await.unwrap()).await;
}

/// The same file, on an Envoy with an older version of the ABI.
#[tokio::test]
async fn module_passes_the_corpus_on_the_previous_envoy() {
    module_passes(&testbed::locate_previous(|progress| println!("{progress}")).await.unwrap()).await;
}

async fn module_passes(binary: &EnvoyBinary) {
    let corpus = Corpus::load().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let listeners = PolicyListeners::start(binary, &corpus, folder.path(), module_filter).await.unwrap();
    let name = |protocol| format!("module over {protocol} in Envoy {}", binary.version);
    let http1 = run(&corpus, &name("HTTP/1.1"), &mut listeners.over(Protocol::Http1), Clock::Machine).await;
    let http2 = run(&corpus, &name("HTTP/2"), &mut listeners.over(Protocol::Http2), Clock::Machine).await;
    http1.into_result().and(http2.into_result()).unwrap();
    listeners.counts_every_request().await.unwrap();
}

#[tokio::test]
async fn module_with_a_bad_policy_is_refused_with_the_reason() {
    let corpus = Corpus::load().unwrap();
    let binary = testbed::locate(|progress| println!("{progress}")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    refuses_bad_policies(&binary, &corpus, folder.path(), bad_module_filter).await.unwrap();
}

#[tokio::test]
async fn wasm_with_a_bad_policy_is_refused_with_the_reason() {
    let corpus = Corpus::load().unwrap();
    let binary = testbed::locate(|progress| println!("{progress}")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    refuses_bad_policies(&binary, &corpus, folder.path(), bad_wasm_filter).await.unwrap();
}
