//! Who may connect, who may do what, and that no secret is ever told.

use maitred_testkit::{Nats, NatsConfig};
mod credentials;
mod permissions;
mod tls;

/// A server with the users of deploy/nats/permissions.conf.
fn with_users(max_payload: Option<u64>) -> Option<Nats> {
    let users = ["OPERATOR", "PRODUCER", "WORKER", "VIEWER"];
    let password = |user: &str| (format!("NATS_{user}_PASSWORD"), format!("{}pw", user.to_lowercase()));
    Nats::start_with(&NatsConfig {
        includes: vec!["permissions.conf"],
        environment: users.map(password).to_vec(),
        max_payload,
        ..NatsConfig::default()
    })
}

fn url_as(nats: &Nats, user: &str) -> String {
    format!("nats://{user}:{user}pw@{}", nats.address())
}
