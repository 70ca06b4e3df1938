//! Who we are to the servers. Read anew at each connect, so that a rotated secret is taken up without a new start.
//!
//! Logins are taken out of the URL before the client library sees it, because that one shows URLs in its logs.

use std::path::{Path, PathBuf};

use async_nats::{Auth, ServerAddr};
use nkeys::KeyPair;

use super::BrokerError;
use crate::config::{NatsSettings, Secret, SecretError, SecretUrl};

/// Where our secret stands.
pub(super) enum Identity {
    /// A user and password, or a token, in the URL; or nothing at all.
    Url(Secret),
    /// A credentials file: a JWT and a seed.
    Credentials(PathBuf),
    /// A file with the seed of an nkey.
    Nkey(PathBuf),
}

/// What stands before the `@` of a URL.
#[derive(PartialEq, Eq)]
struct Login {
    user: String,
    password: Option<String>,
}

/// The servers, and the first part of the subjects on which we want replies.
pub(super) struct Address {
    /// Without logins.
    pub(super) servers: Vec<ServerAddr>,
    /// Replies come to the user's own subjects, so that permissions can keep users from reading each other's.
    pub(super) inbox: String,
}

impl Identity {
    pub(super) fn new(settings: &NatsSettings) -> Self {
        match (&settings.creds_file, &settings.nkey_file) {
            (Some(path), _) => Self::Credentials(path.clone()),
            (None, Some(path)) => Self::Nkey(path.clone()),
            (None, None) => Self::Url(settings.url.clone()),
        }
    }

    /// The answer to a server's `nonce`. Reads a file of a few hundred bytes.
    pub(super) fn answer(&self, nonce: &[u8]) -> Result<Auth, BrokerError> {
        match self {
            Self::Url(secret) => Ok(of_login(parse(&secret.read(URL_FILE)?)?.1)),
            Self::Credentials(path) => {
                const KEY: &str = "nats.creds_file";
                let text = read(KEY, path)?;
                let broken = || BrokerError::Credentials { key: KEY, path: path.clone() };
                let jwt = after(&text, "BEGIN NATS USER JWT").ok_or_else(broken)?;
                let seed = after(&text, "BEGIN USER NKEY SEED").ok_or_else(broken)?;
                let signature = sign(seed, nonce).ok_or_else(broken)?.1;
                Ok(auth(|auth| (auth.jwt, auth.signature) = (Some(jwt.to_owned()), Some(signature))))
            }
            Self::Nkey(path) => {
                const KEY: &str = "nats.nkey_file";
                let (key, signature) = sign(read(KEY, path)?.trim(), nonce)
                    .ok_or_else(|| BrokerError::Credentials { key: KEY, path: path.clone() })?;
                Ok(auth(|auth| (auth.nkey, auth.signature) = (Some(key), Some(signature))))
            }
        }
    }
}

const URL_FILE: &str = "nats.url_file";

/// The servers that the settings name. Their addresses are read once, at the start.
pub(super) fn address(settings: &NatsSettings) -> Result<Address, BrokerError> {
    let (servers, login) = parse(&settings.url.read(URL_FILE)?)?;
    let user = login.filter(|login| login.password.is_some()).map(|login| login.user);
    let inbox = match user.filter(|user| is_token(user)) {
        Some(user) => format!("_INBOX.{user}"),
        None => "_INBOX".to_owned(),
    };
    Ok(Address { servers, inbox })
}

/// Servers without their logins, and the login that they share.
fn parse(url: &SecretUrl) -> Result<(Vec<ServerAddr>, Option<Login>), BrokerError> {
    let wrong = |what: String| BrokerError::Url { url: url.to_string(), what };
    let mut servers = Vec::new();
    let mut logins: Vec<Login> = Vec::new();
    for part in url.expose().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let address: ServerAddr = part.parse().map_err(|error: std::io::Error| wrong(error.to_string()))?;
        logins.extend(login(&address));
        let mut bare = address.into_inner();
        // Fails for addresses that cannot have a login, and then there is none to take out.
        let _ = bare.set_username("");
        let _ = bare.set_password(None);
        servers.push(ServerAddr::from_url(bare).map_err(|error| wrong(error.to_string()))?);
    }
    if servers.is_empty() {
        return Err(wrong("it names no server".to_owned()));
    }
    if logins.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(wrong("all servers of a cluster take the same login, but it holds several".to_owned()));
    }
    Ok((servers, logins.pop()))
}

fn login(address: &ServerAddr) -> Option<Login> {
    let user = unescaped(address.username()?);
    Some(Login { user, password: address.password().map(unescaped) })
}

/// A name alone is a token.
fn of_login(login: Option<Login>) -> Auth {
    auth(|auth| match login {
        Some(Login { user, password: Some(password) }) => {
            (auth.username, auth.password) = (Some(user), Some(password));
        }
        Some(Login { user, password: None }) => auth.token = Some(user),
        None => {}
    })
}

fn auth(fill: impl FnOnce(&mut Auth)) -> Auth {
    let mut auth = Auth::new();
    fill(&mut auth);
    auth
}

fn read(key: &'static str, path: &Path) -> Result<String, SecretError> {
    std::fs::read_to_string(path).map_err(|cause| SecretError::Read { key, path: path.to_owned(), cause })
}

/// The line after the one that holds `mark`.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let mut lines = text.lines().skip_while(|line| !line.contains(mark)).skip(1);
    lines.next().map(str::trim).filter(|line| !line.is_empty())
}

/// The public key of a seed, and what it makes of the nonce.
fn sign(seed: &str, nonce: &[u8]) -> Option<(String, Vec<u8>)> {
    let pair = KeyPair::from_seed(seed).ok()?;
    Some((pair.public_key(), pair.sign(nonce).ok()?))
}

/// Whether it can be one part of a subject.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// Undoes the `%` escapes of a URL; what is no escape stays as it is.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let escaped = others.get(..2).filter(|_| *first == b'%').and_then(|digits| {
            let digits =
                std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(escaped.unwrap_or(*first));
        rest = &others[if escaped.is_some() { 2 } else { 0 }..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use proptest::prelude::*;

    fn parsed(url: &str) -> (Vec<String>, Auth, String) {
        let settings = NatsSettings { url: Secret::Value(SecretUrl::new(url)), ..Settings::default().nats };
        let Address { servers, inbox } = address(&settings).unwrap();
        let servers = servers.iter().map(|server| server.as_url_str().to_owned()).collect();
        (servers, Identity::new(&settings).answer(b"").unwrap(), inbox)
    }

    #[test]
    fn a_login_is_taken_out_of_the_servers_urls() {
        let (servers, auth, inbox) = parsed("nats://me:p%40ss@a:1, tls://me:p%40ss@b,c:3");
        assert_eq!(servers, ["nats://a:1", "tls://b", "nats://c:3"]);
        assert_eq!((auth.username.as_deref(), auth.password.as_deref()), (Some("me"), Some("p@ss")));
        assert_eq!((auth.token, inbox.as_str()), (None, "_INBOX.me"));
    }

    #[test]
    fn a_name_alone_is_a_token_and_is_never_seen_in_a_subject() {
        let (servers, auth, inbox) = parsed("nats://s3cret@a:1");
        assert_eq!(servers, ["nats://a:1"]);
        assert_eq!((auth.username, auth.token.as_deref()), (None, Some("s3cret")));
        assert_eq!(inbox, "_INBOX");
    }

    #[test]
    fn a_user_that_is_no_token_of_a_subject_has_the_common_inbox() {
        assert_eq!(parsed("nats://a.b:p@host").2, "_INBOX");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for url in [
            "",
            " , ",
            "http://me:s3cret@a",
            "nats://me:s3cret@a:port",
            "nats://me:s3cret@a,nats://you:s3cret@b",
        ] {
            let settings =
                NatsSettings { url: Secret::Value(SecretUrl::new(url)), ..Settings::default().nats };
            let error = address(&settings).err().unwrap();
            assert!(matches!(error, BrokerError::Url { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_key_file_is_read_anew_at_each_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("user.nk");
        let identity = Identity::Nkey(path.clone());
        assert!(matches!(identity.answer(b"n"), Err(BrokerError::Secret(SecretError::Read { .. }))));
        std::fs::write(&path, "not a seed").unwrap();
        assert!(matches!(identity.answer(b"n"), Err(BrokerError::Credentials { .. })));
        for pair in [KeyPair::new_user(), KeyPair::new_user()] {
            std::fs::write(&path, format!("{}\n", pair.seed().unwrap())).unwrap();
            let auth = identity.answer(b"a nonce").unwrap();
            assert_eq!(auth.nkey, Some(pair.public_key()));
            pair.verify(b"a nonce", &auth.signature.unwrap()).unwrap();
        }
    }

    #[test]
    fn a_credentials_file_gives_its_jwt_and_signs_with_its_seed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("user.creds");
        let pair = KeyPair::new_user();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\r\neyJ0.abc.d_-\r\n------END NATS USER JWT------\r\n\r\n*** IMPORTANT ***\r\n\
             -----BEGIN USER NKEY SEED-----\r\n{}\r\n------END USER NKEY SEED------\r\n",
            pair.seed().unwrap()
        );
        std::fs::write(&path, text).unwrap();
        let auth = Identity::Credentials(path.clone()).answer(b"a nonce").unwrap();
        assert_eq!((auth.jwt.as_deref(), auth.nkey), (Some("eyJ0.abc.d_-"), None));
        pair.verify(b"a nonce", &auth.signature.unwrap()).unwrap();
        std::fs::write(&path, "-----BEGIN NATS USER JWT-----\n").unwrap();
        let error = Identity::Credentials(path).answer(b"").err().unwrap();
        assert!(matches!(error, BrokerError::Credentials { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn unescaping_undoes_what_escaping_did_and_never_panics(text in ".{0,20}") {
            let escaped: Vec<String> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(unescaped(&escaped.concat()), text.clone());
            unescaped(&format!("%{text}%4"));
        }
    }
}
