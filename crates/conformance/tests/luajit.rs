//! Runs the corpus on the Lua filter in LuaJIT.

use conformance::{Clock, Corpus, LuaJit, run};

#[tokio::test]
async fn luajit_passes_the_corpus() {
    let corpus = Corpus::load().unwrap();
    run(&corpus, "LuaJIT", &mut LuaJit::default(), Clock::Told).await.into_result().unwrap();
}
