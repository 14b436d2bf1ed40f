//! Makes a set on which `explain` and the mesh disagree as small as it can be: drops one part after the other.

use serde_json::Value;

use super::generate::{Request, Set};

/// All sets that lack one part of this one, the largest parts first. Each has one request.
pub(super) fn smaller(set: &Set, request: &Request) -> Vec<Set> {
    let mut all = Vec::new();
    let mut add = |objects: Vec<Value>, request: Request| {
        all.push(Set { tag: set.tag.clone(), objects, requests: vec![request] });
    };
    for index in 0..set.objects.len() {
        let mut objects = set.objects.clone();
        objects.remove(index);
        add(objects, request.clone());
    }
    for index in 0..request.headers.len() {
        let mut request = request.clone();
        request.headers.remove(index);
        add(set.objects.clone(), request);
    }
    for (index, object) in set.objects.iter().enumerate() {
        for spec in without_a_part(&object["spec"]) {
            let mut objects = set.objects.clone();
            objects[index]["spec"] = spec;
            add(objects, request.clone());
        }
    }
    all
}

/// The value without each of its parts, outer ones first.
fn without_a_part(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    match value {
        Value::Array(items) => {
            for index in 0..items.len() {
                let mut fewer = items.clone();
                fewer.remove(index);
                all.push(fewer.into());
            }
            for (index, item) in items.iter().enumerate() {
                for smaller in without_a_part(item) {
                    let mut items = items.clone();
                    items[index] = smaller;
                    all.push(items.into());
                }
            }
        }
        Value::Object(members) => {
            // Without its group, a reference is to something else.
            for key in members.keys().filter(|key| *key != "group") {
                let mut fewer = members.clone();
                fewer.remove(key);
                all.push(fewer.into());
            }
            for (key, member) in members {
                for smaller in without_a_part(member) {
                    let mut members = members.clone();
                    members.insert(key.clone(), smaller);
                    all.push(members.into());
                }
            }
        }
        _ => {}
    }
    all
}
