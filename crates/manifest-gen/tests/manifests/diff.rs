//! What changes between two renders.

use routing_plan::diff::diff;

use crate::read;

fn routes(rules: &str) -> String {
    format!("kind: VirtualService\nmetadata: {{name: v, namespace: a}}\nspec: {{hosts: [a], http: [{rules}]}}\n---\n")
}

const PR_1: &str = "{match: [{headers: {a: {exact: PR-1}}}], route: [{destination: {host: pr-1}}]}";
const PR_2: &str = "{match: [{headers: {a: {exact: PR-2}}}], route: [{destination: {host: pr-2}}]}";
const MAIN: &str = "{route: [{destination: {host: a}}]}";
const SERVICE: &str = "kind: Service\nmetadata: {name: pr-2, namespace: a}\n---\n";

#[test]
fn a_service_comes_before_its_route() {
    let diff = diff(&read(&routes(MAIN)), &read(&(routes(&format!("{PR_2}, {MAIN}")) + SERVICE)));
    assert_eq!(
        diff.to_text(),
        "a.a.svc.cluster.local\n  + a: PR-2 -> pr-2.a.svc.cluster.local\n\nin this order:\n  \
         1. apply Service a/pr-2   # a destination must exist before the routes to it\n  \
         2. wait for every proxy   # a route without its Service answers 503 or 500, and without the filter clients can forge its header\n  \
         3. apply VirtualService a/v   # its destinations exist by now\n"
    );
}

#[test]
fn a_route_goes_before_its_service() {
    let diff = diff(&read(&(routes(&format!("{PR_2}, {MAIN}")) + SERVICE)), &read(&routes(MAIN)));
    let verbs: Vec<_> = diff.steps.iter().map(|step| format!("{} {}", step.verb, step.resource)).collect();
    assert_eq!(verbs, ["apply VirtualService a/v", "wait for every proxy", "delete Service a/pr-2"]);
}

#[test]
fn order_of_fields_is_no_change() {
    let with = |fields: &str| routes(&format!("{{{fields}, route: [{{destination: {{host: a}}}}]}}"));
    let (one, other) = (
        with("timeout: 1s, retries: {attempts: 1, perTryTimeout: 1s}"),
        with("retries: {perTryTimeout: 1s, attempts: 1}, timeout: 1s"),
    );
    assert!(diff(&read(&one), &read(&other)).is_empty());
}

#[test]
fn order_of_variants_is_no_change() {
    let (one, other) = (routes(&format!("{PR_1}, {PR_2}, {MAIN}")), routes(&format!("{PR_2}, {PR_1}, {MAIN}")));
    assert!(diff(&read(&one), &read(&other)).changes.is_empty());
    assert!(diff(&read(&one), &read(&one)).is_empty());
}

/// Found by fuzzing: each of two resources with one name was compared with the first of them.
#[test]
fn of_two_with_one_name_the_last_counts() {
    let twice = routes(PR_1) + &routes(PR_2);
    assert!(diff(&read(&twice), &read(&twice)).is_empty());
    assert_eq!(diff(&read(&routes(PR_2)), &read(&twice)).steps.len(), 0);
    assert_eq!(diff(&read(&routes(PR_1)), &read(&twice)).steps.len(), 1);
}

/// What can't be read is shown as it is written, never as a default.
#[test]
fn a_condition_of_the_wrong_type_is_no_default() {
    let wrong = routes("{match: PR-2, route: [{destination: {host: pr-2}}]}");
    let diff = diff(&read(&routes(MAIN)), &read(&wrong));
    let shown: Vec<_> = diff.changes.iter().map(|change| (&*change.condition, change.to.is_some())).collect();
    assert_eq!(shown, [("\"PR-2\"", true), ("default", false)]);
}

/// A filter that reads verified payloads must never be without the check.
#[test]
fn the_check_of_tokens_comes_before_the_filter_and_goes_after_it() {
    let fixture = |name| std::fs::read_to_string(format!("tests/lints/source-not-verified/{name}.yaml")).unwrap();
    let (none, both) = (fixture("good"), fixture("good-sidecar"));
    let steps = |old: &str, new: &str| -> Vec<_> {
        let steps = diff(&read(old), &read(new)).steps.into_iter();
        steps
            .map(|step| format!("{} {}", step.verb, step.resource.replace("istio-system/routing-claims-", "")))
            .collect()
    };
    let (check, filter, wait) = ("EnvoyFilter qa-verification", "EnvoyFilter qa", "wait for every proxy");
    let (gateway, authentication) = ("EnvoyFilter qa-gateway", "RequestAuthentication istio-system/testers");
    assert_eq!(
        steps(&none, &both),
        [
            format!("apply {check}"),
            wait.into(),
            format!("apply {filter}"),
            format!("delete {gateway}"),
            wait.into(),
            format!("delete {authentication}"),
        ]
    );
}
