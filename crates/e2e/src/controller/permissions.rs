//! What the controller asked the API for over all parts is what its roles grant.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use controller::rbac;
use e2e::{Call, Entry};
use serde_json::Value;

use super::stage::Stage;

/// No request was refused, and no permission was left unused.
pub(super) fn permissions(stage: &Stage) -> Result<String> {
    let entries = stage.audit.since(0)?;
    let forbidden: BTreeSet<_> = entries
        .iter()
        .filter(|entry| !entry.allowed || entry.code == 403)
        .filter(|entry| !is_of_the_policy(entry))
        .map(|entry| entry.call.to_string())
        .collect();
    ensure!(forbidden.is_empty(), "forbidden: {forbidden:?}");
    let granted: BTreeSet<_> = granted(&rbac::cluster_role(true)).chain(granted(&rbac::role())).collect();
    let used: BTreeSet<_> = entries.iter().flat_map(used).collect();
    ensure!(used.is_subset(&granted), "used without a rule: {:?}", shown(used.difference(&granted)));
    if !stage.all_parts {
        return Ok(format!(
            "{} requests, none forbidden; unused permissions are found only after all parts",
            entries.len()
        ));
    }
    let unused = shown(granted.difference(&used));
    ensure!(unused.is_empty(), "granted but never used: {unused:?}");
    Ok(format!("{} requests used each of {} permissions, none was forbidden", entries.len(), granted.len()))
}

/// A refusal by an admission policy is not one of RBAC.
fn is_of_the_policy(entry: &Entry) -> bool {
    entry.allowed && matches!(&*entry.call.verb, "patch" | "create")
}

/// The permissions that a request needs.
fn used(entry: &Entry) -> Vec<Call> {
    let call = &entry.call;
    if call.resource.is_empty() {
        return Vec::new();
    }
    // An apply that creates an object needs both permissions, and the log names one.
    let is_new = call.verb == "patch" && entry.code == 201;
    let created = is_new.then(|| Call { verb: "create".to_owned(), ..call.clone() });
    [call.clone()].into_iter().chain(created).collect()
}

/// The permissions of rules.
fn granted(rules: &Value) -> impl Iterator<Item = Call> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut calls = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    calls.push(Call { group: group.clone(), resource: resource.clone(), verb });
                }
            }
        }
    }
    calls.into_iter()
}

fn shown<'c>(calls: impl Iterator<Item = &'c Call>) -> Vec<String> {
    calls.map(ToString::to_string).collect()
}
