//! The custom resource definitions: the types of plans and variant files, as Kubernetes checks them.
