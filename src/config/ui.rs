//! Settings of the page of the fleet, and the token that guards what can be done there.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::reader::Reader;
use super::unless;

/// Characters of a token at least: sixteen of hexadecimal are 64 bits, too many to try over a network.
const LEAST: usize = 16;

/// `[ui]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UiSettings {
    /// Where `maitred ui` listens.
    pub listen: SocketAddr,
    /// Where the token stands; `None`: nothing can be done on the page, only looked at.
    pub token: Option<UiToken>,
}

/// Where the token stands.
#[derive(Clone, PartialEq, Eq)]
pub enum UiToken {
    /// In the settings.
    Value(String),
    /// In a file that a platform mounts.
    File(PathBuf),
}

/// Why there is no token. None of these holds any part of it.
#[derive(Debug, thiserror::Error)]
pub enum UiTokenError {
    /// The file cannot be read.
    #[error("cannot read the token in `{path}`: {cause}; mount the file or correct `ui.token_file`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It can be guessed, or an HTTP header cannot hold it.
    #[error("the token in `{path}` cannot be used; write {ALLOWED} into the file")]
    Unfit {
        /// The file.
        path: PathBuf,
    },
}

const ALLOWED: &str =
    "at least 16 letters, digits or marks without blanks, such as `openssl rand -hex 16` prints";

impl UiSettings {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let listen =
            read.value("ui.listen", "an address such as \"127.0.0.1:8090\"", |text| text.parse().ok());
        let value = read.value("ui.token", &format!("{ALLOWED}, or \"none\""), |text| {
            (text == "none" || is_fit(text)).then(|| text.to_owned())
        });
        let file = unless(read.text("ui.token_file"), "none").map(PathBuf::from);
        // The file wins, as with other secrets: somebody mounted it on purpose.
        let token = file.map(UiToken::File).or(unless(value, "none").map(UiToken::Value));
        Self { listen, token }
    }
}

impl UiToken {
    /// The token. Never log or print it.
    pub fn read(&self) -> Result<String, UiTokenError> {
        match self {
            Self::Value(token) => Ok(token.clone()),
            Self::File(path) => read_file(path),
        }
    }
}

impl fmt::Debug for UiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("UiToken(***)"),
            Self::File(path) => write!(f, "UiToken({})", path.display()),
        }
    }
}

fn read_file(path: &Path) -> Result<String, UiTokenError> {
    let text =
        std::fs::read_to_string(path).map_err(|cause| UiTokenError::Read { path: path.to_owned(), cause })?;
    match text.trim() {
        token if is_fit(token) => Ok(token.to_owned()),
        _ => Err(UiTokenError::Unfit { path: path.to_owned() }),
    }
}

fn is_fit(token: &str) -> bool {
    token.len() >= LEAST && token.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError, Settings};

    const TOKEN: &str = "0123456789abcdef-secret";

    fn with(name: &str, value: &str) -> Result<Config, ConfigError> {
        Config::load(None, &[(format!("MAITRED__UI__{name}"), value.to_owned())], &[])
    }

    #[test]
    fn by_default_nothing_but_loopback_and_no_token() {
        let ui = Settings::default().ui;
        assert!(ui.listen.ip().is_loopback());
        assert_eq!(ui.token, None);
    }

    #[test]
    fn a_token_is_printed_by_nothing() {
        let config = with("TOKEN", TOKEN).unwrap();
        assert_eq!(config.settings.ui.token.as_ref().unwrap().read().unwrap(), TOKEN);
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
        let shown = config.entries().find(|(key, _)| *key == "ui.token").unwrap().1;
        assert_eq!((shown.shown().as_str(), shown.value()), ("***", "***".into()));
    }

    #[test]
    fn a_token_that_is_refused_or_stands_under_a_wrong_key_is_not_repeated() {
        for (name, value) in
            [("TOKEN", "short-secret"), ("TOKEN", "a secret with blanks in it"), ("TOKN", TOKEN)]
        {
            let error = with(name, value).unwrap_err().to_string();
            assert!(error.contains("ui.tok") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_token_file_is_trimmed_and_what_is_wrong_with_it_is_told_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = with("TOKEN_FILE", path.to_str().unwrap()).unwrap().settings.ui.token.unwrap();
        assert!(matches!(token.read(), Err(UiTokenError::Read { .. })));
        std::fs::write(&path, "short-secret\n").unwrap();
        let error = token.read().unwrap_err();
        assert!(
            matches!(error, UiTokenError::Unfit { .. }) && !error.to_string().contains("secret"),
            "{error}"
        );
        std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
        assert_eq!(token.read().unwrap(), TOKEN);
    }
}
