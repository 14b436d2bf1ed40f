//! A mesh of 1,000 services with 20 variants each, from text to text.

use std::{fmt::Write, hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use manifest_gen::{documents::Documents, render, yaml::File};
use routing_plan::{resolve::Expiry, resources};

fn plan_text(services: usize) -> String {
    let mut text = String::from(
        "apiVersion: routing-claims.dev/v1alpha1\nkind: RoutingPlan\nmetadata: {name: qa, namespace: istio-system}\n\
         spec:\n  filter: {engine: lua, istioVersion: '1.24'}\n  services:\n",
    );
    for service in 0..services {
        let _ = writeln!(text, "  - name: service-{service}\n    namespace: n-{service}\n    variants:");
        for variant in 0..20 {
            let _ = writeln!(text, "    - {{name: PR-{variant}}}");
        }
    }
    text
}

fn rendered(file: &Arc<File>) -> Option<String> {
    let mut documents = Documents::default();
    let input = documents.read_plan(std::slice::from_ref(file), &|_| Err(std::io::Error::other("none"))).ok()?;
    Some(render::stream(&resources::generate(&documents.resolve(&input, Expiry::Keep).ok()?)))
}

fn render(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("render");
    group.sample_size(10);
    for services in [10, 100, 1000] {
        let file = Arc::new(File { name: "plan.yaml".into(), text: plan_text(services) });
        assert!(rendered(&file).is_some());
        group.throughput(Throughput::Elements(services as u64 * 20));
        group.bench_with_input(BenchmarkId::from_parameter(services), &file, |bencher, file| {
            bencher.iter(|| rendered(black_box(file)));
        });
    }
    group.finish();
}

criterion_group!(benches, render);
criterion_main!(benches);
