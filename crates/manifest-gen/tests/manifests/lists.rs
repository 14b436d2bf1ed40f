//! Lists of resources, as `kubectl get` and the API server write them.

use routing_plan::diagnostic::FieldPath;

use crate::read;

fn ids(text: &str) -> Vec<String> {
    read(text)
        .iter()
        .map(|manifest| format!("{} {}", manifest.id(), manifest.location(&FieldPath::default()).path))
        .collect()
}

#[test]
fn every_kind_of_list_is_opened() {
    let item = "{apiVersion: v1, kind: Service, metadata: {name: x, namespace: a}}";
    for kind in ["List", "ServiceList", "ConfigMapList"] {
        assert_eq!(ids(&format!("kind: {kind}\nitems: [{item}]\n")), ["Service a/x items[0]"]);
    }
    let nested = format!("kind: List\nitems: [{{kind: List, items: [{item}]}}]\n");
    assert_eq!(ids(&nested), ["Service a/x items[0].items[0]"]);
}

#[test]
fn items_have_the_kind_of_their_list() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualServiceList\nitems: [{metadata: {name: x}}, {}]\n";
    assert_eq!(ids(text), ["VirtualService default/x items[0]"]);
    assert_eq!(ids("kind: List\nitems: [{metadata: {name: x}}]\n"), Vec::<String>::new());
}

#[test]
fn a_kind_that_only_ends_as_lists_do_is_no_list() {
    assert_eq!(ids("kind: AllowList\nmetadata: {name: x}\nspec: {items: []}\n"), ["AllowList default/x "]);
}
