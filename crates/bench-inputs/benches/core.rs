//! Decisions of the core beside other ways to read a token: `cargo xtask bench core`.

use std::{borrow::Cow, hint::black_box, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bench_inputs::{Input, Line, decide, faults, typical, worst};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use serde::Deserialize;
use serde_json::Value;

fn core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    if let Some(reference) = typical().first() {
        peers(&mut group, reference);
    }
    for input in typical() {
        distinct(&mut group, &input);
        cached(&mut group, &input);
    }
    for input in faults() {
        distinct(&mut group, &input);
    }
    for input in worst(1).iter().filter(|input| TIMED_WORST.contains(&&*input.name)) {
        distinct(&mut group, input);
    }
    group.finish();
}

/// Every token is another one.
fn distinct(group: &mut BenchmarkGroup<'_, WallTime>, input: &Input) {
    let Some(mut decider) = decider(input) else { return };
    let requests = requests(input);
    let mut requests = requests.iter().cycle();
    group.bench_function(&input.name, |bencher| {
        bencher.iter(|| requests.next().map(|request| decide(&mut decider, black_box(request))));
    });
}

/// Every token is the same one.
fn cached(group: &mut BenchmarkGroup<'_, WallTime>, input: &Input) {
    let Some(mut decider) = decider(input) else { return };
    group.bench_function(format!("{}, cached", input.name), |bencher| {
        bencher.iter(|| decide(&mut decider, black_box(&input.lines)));
    });
}

/// What others would do with the token: decode it and read the two versions, verifying and bounding nothing.
fn peers(group: &mut BenchmarkGroup<'_, WallTime>, input: &Input) {
    let requests = requests(input);
    let tokens: Vec<_> = requests.iter().filter_map(|lines| lines.last()?.1.strip_prefix(b"Bearer ")).collect();
    let mut bench = |name: &str, read: fn(&[u8]) -> bool| {
        let mut tokens = tokens.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let versions_are_read = tokens.next().is_some_and(|token| read(black_box(token)));
                assert!(versions_are_read, "{name}");
            });
        });
    };
    bench("base64 + serde_json::Value", |token| payload(token).is_some_and(|payload| has_versions(&payload)));
    bench("base64 + typed serde", |token| {
        let Some(payload) = payload(token) else { return false };
        serde_json::from_slice(&payload).is_ok_and(|Versions { a, b }| black_box(a) == "PR-1" && black_box(b) == "PR-2")
    });
    bench("jsonwebtoken insecure_decode", |token| {
        jsonwebtoken::dangerous::insecure_decode(token).is_ok_and(|data| versions_of(&data.claims))
    });
}

#[derive(Deserialize)]
struct Versions<'p> {
    #[serde(rename = "microservice-A", borrow)]
    a: Cow<'p, str>,
    #[serde(rename = "microservice-B", borrow)]
    b: Cow<'p, str>,
}

fn payload(token: &[u8]) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(token.split(|byte| *byte == b'.').nth(1)?).ok()
}

fn has_versions(payload: &[u8]) -> bool {
    serde_json::from_slice(payload).is_ok_and(|claims| versions_of(&claims))
}

fn versions_of(claims: &Value) -> bool {
    black_box(&claims["microservice-A"]) == "PR-1" && black_box(&claims["microservice-B"]) == "PR-2"
}

fn decider(input: &Input) -> Option<routing_claims::Decider> {
    input.decider().inspect_err(|error| eprintln!("left out: {error:#}")).ok()
}

/// So many variants that none is still in the cache when its turn comes again.
fn requests(input: &Input) -> Vec<Vec<Line>> {
    let token = input.lines.last().map_or(1, |(_, value)| value.len());
    (1..2 + CACHE_BYTES / token).map(|number| input.variant(number)).collect()
}

/// What a decider's cache holds, and half as much again.
const CACHE_BYTES: usize = 384 * 1024;

/// The most expensive of the worst inputs, by instructions per byte.
const TIMED_WORST: [&str; 2] = ["short numbers", "prefix mode, 128 keys, then numbers"];

criterion_group!(benches, core);
criterion_main!(benches);
