//! Passwords, keys and credentials: never told, and taken up anew when they are rotated.

use maitred::broker::nats::{Broker, BrokerError};
use maitred::broker::topology::Topology;
use maitred::config::{NatsSettings, Secret};
use maitred_testkit::{Nats, NatsConfig};
use nkeys::KeyPair;

use super::{url_as, with_users};
use crate::common::fleet::maitred;
use crate::fleet::topology::{settings, wait_link};

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_in_no_message_and_in_no_log_right_or_wrong() {
    let Some(nats) = with_users(None) else { return };
    let wrong = format!("nats://operator:S3CRET@{}", nats.address());
    let right = url_as(&nats, "operator");
    for (url, secret, code) in [(wrong, "S3CRET", 1), (right, "operatorpw", 0)] {
        let maitred = maitred(nats.folder()).set("nats.url", url);
        for arguments in [&["-vvv", "init"][..], &["-vvv", "config", "show"]] {
            let ran = maitred.run(arguments);
            let said = ran.stdout.clone() + &ran.stderr;
            assert!(said.contains(&format!("***@{}", nats.address())) || code == 0, "{said}");
            assert!(!said.contains(secret), "{said}");
            if arguments[1] == "init" {
                let ran = ran.ended(code);
                if code == 1 {
                    ran.told(&["refuses the credentials", "authorization violation"]);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_file_is_taken_up_when_the_connection_comes_back() {
    let (old, new) = (KeyPair::new_user(), KeyPair::new_user());
    let lines = format!("authorization {{ users = [ {{ nkey: {} }} ] }}\n", old.public_key());
    let Some(mut nats) = Nats::start_with(&NatsConfig { lines, ..NatsConfig::default() }) else { return };
    let path = nats.folder().join("user.nk");
    std::fs::write(&path, old.seed().unwrap()).unwrap();
    let settings = NatsSettings { nkey_file: Some(path.clone()), ..settings(&nats.url()) };
    let broker = Broker::connect(&settings, "test").await.unwrap();

    swap(&nats, &old.public_key(), &new.public_key());
    nats.restart();
    let mut link = broker.link();
    wait_link(&mut link, |link| !link.connected).await;
    let refused = Broker::connect(&settings, "test").await.err().unwrap();
    assert!(matches!(refused, BrokerError::Refused { .. }), "{refused}");
    std::fs::write(&path, new.seed().unwrap()).unwrap();
    wait_link(&mut link, |link| link.connected).await;
    broker.round_trip().await.unwrap();
}

/// A signed claim, as the server's operator mode wants it.
fn jwt(issuer: &KeyPair, subject: &KeyPair, claims: &str) -> String {
    let head = unpadded_base64(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let (issuer_key, subject_key) = (issuer.public_key(), subject.public_key());
    let body = format!(
        r#"{{"jti":"{subject_key}","iat":1700000000,"iss":"{issuer_key}","name":"test","sub":"{subject_key}","nats":{{{claims},"version":2}}}}"#
    );
    let signed = format!("{head}.{}", unpadded_base64(body.as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", unpadded_base64(&signature))
}

/// With the alphabet for URLs.
fn unpadded_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let of_three = |three: &[u8]| {
        let bits = (0..3).fold(0u32, |bits, n| bits << 8 | u32::from(three.get(n).copied().unwrap_or(0)));
        let letter = move |n: usize| char::from(LETTERS[(bits >> (18 - 6 * n)) as usize & 63]);
        (0..=three.len()).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(of_three).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_opens_a_server_that_knows_only_its_operator() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let limits = r#""subs":-1,"data":-1,"payload":-1"#;
    let connections = format!(
        r#""type":"account","limits":{{{limits},"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1"#
    );
    let streams = r#","mem_storage":-1,"disk_storage":-1,"streams":-1,"consumer":-1"#;
    let system = KeyPair::new_account();
    let preloaded = [(&account, streams), (&system, "")].map(|(account, streams)| {
        format!("{}: {}", account.public_key(), jwt(&operator, account, &format!("{connections}{streams}}}")))
    });
    let lines = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {} }}\n",
        jwt(&operator, &operator, r#""type":"operator""#),
        system.public_key(),
        preloaded.join(", "),
    );
    let Some(nats) = Nats::start_with(&NatsConfig { lines, ..NatsConfig::default() }) else { return };
    let path = nats.folder().join("user.creds");
    let settings = NatsSettings { creds_file: Some(path.clone()), ..settings(&nats.url()) };
    let issue = |issuer: &KeyPair| {
        let user_jwt = jwt(issuer, &user, &format!(r#"{limits},"type":"user""#));
        let seed = user.seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&path, text).unwrap();
    };
    issue(&KeyPair::new_account());
    let refused = Broker::connect(&settings, "test").await.err().unwrap();
    assert!(matches!(refused, BrokerError::Refused { .. }), "{refused}");
    issue(&account);
    let broker = Broker::connect(&settings, "test").await.unwrap();
    broker.init(&Topology::desired(&settings)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_in_a_mounted_url_is_taken_up_when_the_connection_comes_back() {
    let lines = "authorization { user: me, password: 0ldpw }\n".to_owned();
    let Some(mut nats) = Nats::start_with(&NatsConfig { lines, ..NatsConfig::default() }) else { return };
    let path = nats.folder().join("url");
    let mount = |password: &str| std::fs::write(&path, format!("nats://me:{password}@{}\n", nats.address()));
    mount("0ldpw").unwrap();
    let settings = NatsSettings { url: Secret::File(path.clone()), ..settings(&nats.url()) };
    let broker = Broker::connect(&settings, "test").await.unwrap();

    swap(&nats, "0ldpw", "n3wpw");
    mount("n3wpw").unwrap();
    nats.restart();
    wait_link(&mut broker.link(), |link| link.connected && link.reconnects >= 1).await;
    broker.round_trip().await.unwrap();
}

/// Changes the server's configuration for its next start.
fn swap(nats: &Nats, old: &str, new: &str) {
    let file = nats.folder().join("nats.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(old));
    std::fs::write(file, text.replace(old, new)).unwrap();
}
