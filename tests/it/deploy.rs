//! What is deployed around the program: dashboards, alerts, Kubernetes manifests, held against the program itself, and
//! dashboards and rules against a real Prometheus.

mod catalogue;
mod dashboards;
mod file;
mod kubernetes;
mod live;
mod promql;
mod render;
mod rules;
