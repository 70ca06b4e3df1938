//! Settings, and the files that hold secrets.

use std::path::PathBuf;

use super::{behind, shell};
use crate::config::ConfigError;
use crate::doctor::catalogue as known;
use crate::doctor::finding::{Check, Finding};

/// The bit of a file's mode that lets everybody read it.
const OTHERS_READ: u32 = 0o004;

/// Where the settings come from, and which files they name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigFacts {
    /// The configuration file and its mode, if there is one.
    pub file: Option<(PathBuf, u32)>,
    /// Keys that are set in it and hold a password.
    pub passwords: Vec<String>,
    /// Files that hold secrets.
    pub secrets: Vec<SecretFile>,
}

/// A file that holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The setting that names it.
    pub key: String,
    /// Where it is.
    pub path: PathBuf,
    /// How it is.
    pub state: SecretState,
}

/// How a file of secrets is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretState {
    /// It can be read and holds something; its mode.
    Readable(u32),
    /// There is nothing in it.
    Empty,
    /// It cannot be read.
    Unreadable(String),
}

/// There are no settings: then nothing else can be looked at.
pub fn broken(error: &ConfigError) -> Vec<Finding> {
    let mut findings = match error {
        ConfigError::Problems(problems) => problems
            .iter()
            .map(|problem| {
                let saw = format!("`{}` = `{}`", problem.key, problem.value);
                Finding::known(
                    &known::CONFIG_INVALID,
                    saw,
                    &[("key", &problem.key), ("origin", &problem.origin), ("allowed", &problem.message)],
                )
            })
            .collect(),
        other => vec![Finding::known(&known::CONFIG_UNREADABLE, other, &[])],
    };
    findings.extend(behind(Check::ALL));
    findings
}

/// The settings can be used. `None`: the files took too long.
pub fn judge(facts: Option<&ConfigFacts>) -> Vec<Finding> {
    let Some(facts) = facts else {
        let late =
            |check| Finding::skipped(check, "the files do not answer in time", "look at the file system");
        return vec![late(Check::Config), late(Check::Secrets)];
    };
    let mut findings = settings(facts);
    findings.extend(secrets(&facts.secrets));
    findings
}

fn settings(facts: &ConfigFacts) -> Vec<Finding> {
    let Some((path, mode)) = &facts.file else {
        return vec![Finding::ok(Check::Config, "no file: defaults, environment and flags")];
    };
    if mode & OTHERS_READ == 0 || facts.passwords.is_empty() {
        return vec![Finding::ok(Check::Config, format_args!("{} can be used", path.display()))];
    }
    let exposed = |key: &String| {
        let saw = format!("{} has mode {mode:03o}", path.display());
        let key = key.strip_suffix("_file").unwrap_or(key);
        Finding::known(&known::CONFIG_EXPOSED, saw, &[("key", &key), ("path", &shell(path.display()))])
    };
    facts.passwords.iter().map(exposed).collect()
}

fn secrets(files: &[SecretFile]) -> Vec<Finding> {
    let found: Vec<Finding> = files.iter().filter_map(secret).collect();
    match (files.is_empty(), found.is_empty()) {
        (true, _) => vec![Finding::ok(Check::Secrets, "no setting names a file of secrets")],
        (false, true) => {
            let keys: Vec<&str> = files.iter().map(|file| file.key.as_str()).collect();
            vec![Finding::ok(Check::Secrets, format_args!("{} can be read, by few", keys.join(", ")))]
        }
        (false, false) => found,
    }
}

fn secret(file: &SecretFile) -> Option<Finding> {
    let path = file.path.display();
    match &file.state {
        SecretState::Readable(mode) if mode & OTHERS_READ == 0 => None,
        SecretState::Readable(mode) => Some(Finding::known(
            &known::SECRET_EXPOSED,
            format_args!("{path} has mode {mode:03o}"),
            &[("key", &file.key), ("path", &shell(&path))],
        )),
        SecretState::Empty => {
            Some(Finding::known(&known::SECRET_EMPTY, format_args!("{path} is empty"), &[("key", &file.key)]))
        }
        SecretState::Unreadable(cause) => {
            Some(Finding::known(&known::SECRET_UNREADABLE, path, &[("key", &file.key), ("cause", cause)]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Problem;
    use crate::doctor::finding::Status;
    use crate::doctor::judge::testing::{assert_well, codes, mend, one};

    fn with(state: SecretState) -> ConfigFacts {
        let secret = SecretFile { key: "redis.url_file".into(), path: "/run/redis url".into(), state };
        ConfigFacts { secrets: vec![secret], ..ConfigFacts::default() }
    }

    #[test]
    fn each_setting_that_cannot_be_used_is_a_finding_and_all_else_is_skipped() {
        let problem = |key: &str| Problem {
            key: key.into(),
            value: "x".into(),
            origin: "file maitred.toml".into(),
            message: "use a number from 1 to 1024".into(),
        };
        let found =
            broken(&ConfigError::Problems(vec![problem("worker.slots"), problem("worker.look_ahead")]));
        assert_eq!(codes(&found), ["config.invalid", "config.invalid"]);
        assert_eq!(found[0].mend.as_deref(), Some("correct it: use a number from 1 to 1024"));
        assert!(found[0].means.as_ref().unwrap().starts_with("`worker.slots` from file maitred.toml"));
        let skipped = &found[2..];
        assert_eq!(skipped.len(), Check::ALL.len() - 1);
        assert!(skipped.iter().all(|finding| finding.status == Status::Skipped));
        assert_eq!(skipped[0].mend.as_deref(), Some("mend config first"));
    }

    #[test]
    fn a_file_that_is_no_toml_is_named() {
        let error = ConfigError::Syntax { path: "maitred.toml".into(), message: "line 3".into() };
        let found = broken(&error);
        assert_eq!(codes(&found), ["config.unreadable"]);
        assert!(found[0].saw.contains("maitred.toml") && found[0].saw.contains("line 3"));
        assert_eq!(found[0].mend.as_deref(), Some("correct the file, or name another one with --config"));
    }

    #[test]
    fn a_secret_that_few_can_read_is_well() {
        assert_well(&judge(Some(&with(SecretState::Readable(0o640)))));
        assert_well(&judge(Some(&ConfigFacts::default())));
    }

    #[test]
    fn a_secret_that_all_can_read_is_told_with_the_command_that_mends_it() {
        let found = judge(Some(&with(SecretState::Readable(0o644))));
        let found = one(&found, Check::Secrets);
        assert_eq!((found.code, found.status), (Some("secret.exposed"), Status::Warn));
        assert_eq!(found.command.as_deref(), Some("chmod o= '/run/redis url'"));
        assert_eq!(found.mend.as_deref(), Some("keep the file to its owner and group"));
    }

    #[test]
    fn a_secret_that_is_missing_or_empty_fails_and_names_its_setting() {
        let missing = judge(Some(&with(SecretState::Unreadable("no such file".into()))));
        assert_eq!(codes(&missing), ["secret.unreadable"]);
        assert_eq!(
            mend(&missing, Check::Secrets),
            "mount the file or let this user read it, or correct `redis.url_file`"
        );
        let empty = judge(Some(&with(SecretState::Empty)));
        assert_eq!(codes(&empty), ["secret.empty"]);
        assert_eq!(mend(&empty, Check::Secrets), "write the secret into it, or correct `redis.url_file`");
    }

    #[test]
    fn a_password_in_a_file_of_settings_that_all_can_read_is_told() {
        let facts = |mode, passwords: &[&str]| ConfigFacts {
            file: Some(("/etc/maitred.toml".into(), mode)),
            passwords: passwords.iter().map(ToString::to_string).collect(),
            secrets: Vec::new(),
        };
        assert_well(&judge(Some(&facts(0o644, &[]))));
        assert_well(&judge(Some(&facts(0o640, &["nats.url"]))));
        let found = judge(Some(&facts(0o644, &["nats.url"])));
        assert_eq!(codes(&found), ["config.exposed"]);
        assert_eq!(one(&found, Check::Config).command.as_deref(), Some("chmod o= /etc/maitred.toml"));
        assert!(mend(&found, Check::Config).ends_with("name that in `nats.url_file`"));
    }
}
