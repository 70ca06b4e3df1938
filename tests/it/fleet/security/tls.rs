//! TLS, with a certificate authority made for the test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use maitred::broker::nats::{Broker, BrokerError};
use maitred::config::NatsSettings;
use maitred_testkit::{Nats, NatsConfig, skipped};

use crate::fleet::topology::settings;

/// A certificate authority, and certificates that it signed, made for one test.
struct Authority(tempfile::TempDir);

impl Authority {
    /// `None`, said on stderr, where there is no openssl.
    fn new() -> Option<Self> {
        let there = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
        if !there.is_ok_and(|status| status.success()) {
            skipped("no openssl");
            return None;
        }
        let authority = Self(tempfile::tempdir().unwrap());
        authority.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem");
        for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
            authority.sign(name, usage);
        }
        Some(authority)
    }

    fn sign(&self, name: &str, usage: &str) {
        let extensions = format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n");
        std::fs::write(self.path("extensions"), extensions).unwrap();
        self.openssl(&format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        self.openssl(&format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"));
    }

    fn openssl(&self, arguments: &str) {
        let made =
            Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A server with a certificate of this authority, which asks clients for one too.
    fn server(&self) -> Option<Nats> {
        let file = |variable: &str, name: &str| (variable.to_owned(), self.path(name).display().to_string());
        Nats::start_with(&NatsConfig {
            includes: vec!["tls.conf"],
            environment: vec![
                file("NATS_TLS_CERT", "server.pem"),
                file("NATS_TLS_KEY", "server.key"),
                file("NATS_TLS_CA", "ca.pem"),
            ],
            ..NatsConfig::default()
        })
    }
}

fn trusting(nats: &Nats, authority: &Path) -> NatsSettings {
    NatsSettings { tls_ca: Some(authority.to_owned()), ..settings(&nats.url()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_show_a_certificate_of_the_authority_or_there_is_no_connection() {
    let Some(authority) = Authority::new() else { return };
    let Some(nats) = authority.server() else { return };
    let identity =
        |name: &str| Some((authority.path(&format!("{name}.pem")), authority.path(&format!("{name}.key"))));
    let good =
        NatsSettings { tls_identity: identity("client"), ..trusting(&nats, &authority.path("ca.pem")) };
    let broker = Broker::connect(&good, "test").await.unwrap();
    broker.round_trip().await.unwrap();

    let stranger = Authority::new().unwrap();
    let untrusted = NatsSettings { tls_ca: Some(stranger.path("ca.pem")), ..good.clone() };
    let none = NatsSettings { tls_ca: None, ..good.clone() };
    let anonymous = NatsSettings { tls_identity: None, ..good.clone() };
    let theirs = Some((stranger.path("client.pem"), stranger.path("client.key")));
    let foreign = NatsSettings { tls_identity: theirs, ..good.clone() };
    for (settings, what) in [
        (untrusted, "invalid peer certificate"),
        (none, "invalid peer certificate"),
        (anonymous, "nats.tls_cert"),
        (foreign, "nats.tls_cert"),
    ] {
        let error = Broker::connect(&settings, "test").await.err().unwrap();
        assert!(matches!(error, BrokerError::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
    let missing = NatsSettings { tls_ca: Some(authority.path("none.pem")), ..good };
    let error = Broker::connect(&missing, "test").await.err().unwrap().to_string();
    assert!(error.contains("none.pem") && error.contains("nats.tls_ca"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_tls_does_not_talk_to_a_server_without_it() {
    let Some(authority) = Authority::new() else { return };
    let Some(nats) = Nats::start() else { return };
    let error = Broker::connect(&trusting(&nats, &authority.path("ca.pem")), "test").await.err().unwrap();
    assert!(matches!(error, BrokerError::Connect { .. } | BrokerError::Tls { .. }), "{error:?}");
}
