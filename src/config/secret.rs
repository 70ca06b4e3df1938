//! Settings that hold a password: printed without it, whatever prints them.

use std::fmt;
use std::path::{Path, PathBuf};

/// A URL that may hold a user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Wraps the URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL as it is. Only for opening a connection: never log or print it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

/// Where a URL stands: in the settings, or in a file that a platform mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// In the settings.
    Value(SecretUrl),
    /// In a file.
    File(PathBuf),
}

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret in `{path}`: {cause}; mount the file or correct `{key}`")]
    Read {
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The file is empty.
    #[error("the secret file `{path}` is empty; write the URL into it or correct `{key}`")]
    Empty {
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
}

impl Secret {
    /// The URL, read anew each time: a rotated secret is taken up at the next connection. `key` names the setting.
    pub fn read(&self, key: &'static str) -> Result<SecretUrl, SecretError> {
        match self {
            Self::Value(url) => Ok(url.clone()),
            Self::File(path) => read_file(key, path),
        }
    }
}

fn read_file(key: &'static str, path: &Path) -> Result<SecretUrl, SecretError> {
    let text = std::fs::read_to_string(path).map_err(|cause| SecretError::Read {
        key,
        path: path.to_owned(),
        cause,
    })?;
    match text.trim() {
        "" => Err(SecretError::Empty { key, path: path.to_owned() }),
        url => Ok(SecretUrl::new(url)),
    }
}

/// The text with what stands between `://` and `@` hidden, in each URL of a comma-separated list, and the values of
/// query parameters too: a password may be given there.
pub fn redact(text: &str) -> String {
    let hidden = text.split(',').map(|url| {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), url),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, _)) => (rest, "?***"),
            None => (rest, ""),
        };
        match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}***@{host}{query}"),
            None => format!("{scheme}{rest}{query}"),
        }
    });
    hidden.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_user_password_token_or_query() {
        for (url, shown) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("nats://me:p@ss@host:1,nats://t0ken@b:2", "nats://***@host:1,nats://***@b:2"),
            ("postgres://u:p@h/db?password=x", "postgres://***@h/db?***"),
            ("u:p@host", "***@host"),
            ("none", "none"),
        ] {
            assert_eq!(redact(url), shown);
            assert_eq!(format!("{:?}", SecretUrl::new(url)), format!("SecretUrl({shown})"));
        }
    }

    #[test]
    fn a_secret_file_is_read_anew_and_trimmed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        let secret = Secret::File(path.clone());
        assert!(matches!(secret.read("redis.url_file"), Err(SecretError::Read { .. })));
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(secret.read("redis.url_file"), Err(SecretError::Empty { .. })));
        std::fs::write(&path, "redis://a\n").unwrap();
        assert_eq!(secret.read("redis.url_file").unwrap().expose(), "redis://a");
    }
}
