//! What the controller may do, as roles of Kubernetes.
