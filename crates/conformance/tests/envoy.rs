//! Runs the corpus on the built filters in a real Envoy. `cargo xtask test` builds and finds what this needs.

use conformance::{
    Clock, Corpus,
    envoy::{PolicyListeners, Protocol, lua_filter, refuses_bad_policies, wasm_filter},
    run,
};

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
async fn wasm_with_a_bad_policy_is_refused_with_the_reason() {
    let corpus = Corpus::load().unwrap();
    let binary = testbed::locate(|progress| println!("{progress}")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    refuses_bad_policies(&binary, &corpus, folder.path()).await.unwrap();
}
