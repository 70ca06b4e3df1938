//! The configuration file, and the files of secrets that settings name.

use std::fs::Metadata;
use std::path::Path;

use crate::config::Config;
use crate::doctor::judge::config::{ConfigFacts, SecretFile, SecretState};

/// A setting whose file is a secret, though its name does not end like those of the others.
const KEY_FILE: &str = "nats.tls_key";

/// Looks at the files. `file` is the configuration file that was read.
pub fn look(config: &Config, file: Option<&Path>) -> ConfigFacts {
    let file = file.and_then(|path| Some((path.to_owned(), mode(&path.metadata().ok()?))));
    // What is hidden when it is shown is a password.
    let passwords = config
        .entries()
        .filter(|(_, entry)| entry.origin.starts_with("file ") && entry.shown() != entry.text)
        .map(|(key, _)| key.to_owned());
    let secrets = config
        .entries()
        .filter(|(key, entry)| (key.ends_with("_file") || *key == KEY_FILE) && entry.text != "none");
    ConfigFacts {
        file,
        passwords: passwords.collect(),
        secrets: secrets.map(|(key, entry)| secret(key, Path::new(&entry.text))).collect(),
    }
}

fn secret(key: &str, path: &Path) -> SecretFile {
    let state = match std::fs::read(path) {
        Err(cause) => SecretState::Unreadable(cause.to_string()),
        Ok(text) if text.trim_ascii().is_empty() => SecretState::Empty,
        Ok(_) => match path.metadata() {
            Ok(metadata) => SecretState::Readable(mode(&metadata)),
            Err(cause) => SecretState::Unreadable(cause.to_string()),
        },
    };
    SecretFile { key: key.to_owned(), path: path.to_owned(), state }
}

/// Who may read and write it.
#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o777
}

/// Elsewhere there are no such bits: nothing is said of it.
#[cfg(not(unix))]
fn mode(_: &Metadata) -> u32 {
    0o600
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_of_secrets_are_found_by_their_settings_and_passwords_by_where_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(at("redis"), "redis://a:b@c\n").unwrap();
        set_permissions(at("redis"), Permissions::from_mode(0o640)).unwrap();
        write(at("empty"), " \n").unwrap();
        let text = format!(
            "[nats]\nurl = \"nats://me:secret@host\"\ncreds_file = \"{}\"\n[redis]\nurl_file = \"{}\"\n",
            at("missing").display(),
            at("redis").display()
        );
        write(at("maitred.toml"), text).unwrap();
        set_permissions(at("maitred.toml"), Permissions::from_mode(0o644)).unwrap();
        let environment = [
            ("MAITRED__POSTGRES__URL_FILE".to_owned(), at("empty").display().to_string()),
            ("MAITRED__POSTGRES__URL".to_owned(), "postgres://u:p@h/d".to_owned()),
        ];
        let config = Config::load(Some(&at("maitred.toml")), &environment, &[]).unwrap();
        let facts = look(&config, Some(&at("maitred.toml")));
        assert_eq!(facts.file, Some((at("maitred.toml"), 0o644)));
        assert_eq!(facts.passwords, ["nats.url"], "those of the environment are in no file");
        let states: Vec<(&str, &SecretState)> =
            facts.secrets.iter().map(|secret| (secret.key.as_str(), &secret.state)).collect();
        assert!(
            matches!(
                states[..],
                [
                    ("nats.creds_file", SecretState::Unreadable(_)),
                    ("postgres.url_file", SecretState::Empty),
                    ("redis.url_file", SecretState::Readable(0o640)),
                ]
            ),
            "{states:?}"
        );
    }
}
