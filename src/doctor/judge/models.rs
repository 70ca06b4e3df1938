//! Models.

use super::{bytes, shell};
use crate::config::{EngineKind, Settings};
use crate::doctor::catalogue as known;
use crate::doctor::catalogue::Known;
use crate::doctor::finding::{Check, Finding};
use crate::engine::fit;
use crate::job::Language;

const CHECKS: [Check; 2] = [Check::ModelLanguage, Check::ModelEmbedding];

/// The models that the settings ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelsFacts {
    /// Whether this program can run models.
    pub is_built_in: bool,
    /// The language model.
    pub language: Result<FoundModel, ModelTrouble>,
    /// The embedding models, and the languages that each is for; `None`: for all.
    pub embeddings: Vec<(Option<Language>, Result<FoundModel, ModelTrouble>)>,
}

/// A model file that is whole and is what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundModel {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The first digits of its digest.
    pub digest: String,
    /// Whether that is what the registry or a record says it should be; else nobody says.
    pub is_vouched_for: bool,
    /// What decides how much memory it takes.
    pub needs: fit::ModelFacts,
}

/// A model that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelTrouble {
    /// What the settings call it.
    pub reference: String,
    /// What is wrong, in the words of whoever looked.
    pub told: String,
    /// Whether it is not there at all.
    pub is_missing: bool,
    /// Whether it can be fetched by this name.
    pub can_be_fetched: bool,
}

/// `None`: reading the files took too long.
pub fn judge(facts: Option<&ModelsFacts>, settings: &Settings) -> Vec<Finding> {
    if settings.engine.backend == EngineKind::Sim {
        let mend = "set `engine.backend` to \"llama\" to read with models";
        return super::skipped(&CHECKS, "`engine.backend` is \"sim\": no models are read", mend);
    }
    let Some(facts) = facts else {
        let why = "the files could not be read in time";
        return super::skipped(&CHECKS, why, "look at the disk that `models.dir` is on");
    };
    let mut findings = vec![language(facts)];
    findings.extend(embeddings(&facts.embeddings));
    findings
}

fn language(facts: &ModelsFacts) -> Finding {
    if !facts.is_built_in {
        return Finding::known(&known::MODEL_NO_ENGINE, "no llama.cpp in this build", &[]);
    }
    match &facts.language {
        Ok(model) => found(Check::ModelLanguage, model),
        Err(trouble) if trouble.is_missing => broken(&known::MODEL_LANGUAGE_MISSING, trouble, None),
        Err(trouble) => broken(&known::MODEL_LANGUAGE_UNUSABLE, trouble, None),
    }
}

/// A model that is missing is only missed by its language, unless it is the last one.
fn embeddings(models: &[(Option<Language>, Result<FoundModel, ModelTrouble>)]) -> Vec<Finding> {
    let some = models.iter().any(|(_, model)| model.is_ok());
    let mut findings: Vec<Finding> = Vec::new();
    for (language, model) in models {
        findings.push(match model {
            Ok(model) => found(Check::ModelEmbedding, model),
            Err(trouble) if !trouble.is_missing => {
                broken(&known::MODEL_EMBEDDING_UNUSABLE, trouble, *language)
            }
            Err(trouble) if some => broken(&known::MODEL_LANGUAGE_UNSPOKEN, trouble, *language),
            // One of them is enough to start with, so one is named.
            Err(trouble) if findings.is_empty() => {
                broken(&known::MODEL_EMBEDDING_MISSING, trouble, *language)
            }
            Err(_) => continue,
        });
    }
    findings
}

fn found(check: Check, model: &FoundModel) -> Finding {
    let vouched = if model.is_vouched_for { "as recorded" } else { "of which nothing is recorded" };
    Finding::ok(
        check,
        format_args!("{}, {}, sha256 {} {vouched}", model.name, bytes(model.bytes), model.digest),
    )
}

fn broken(known: &Known, trouble: &ModelTrouble, language: Option<Language>) -> Finding {
    let language = language.map_or("any", Language::code);
    let reference = &trouble.reference;
    let finding = Finding::known(
        known,
        reference,
        &[("told", &trouble.told), ("model", &shell(reference)), ("language", &language)],
    );
    if trouble.can_be_fetched { finding } else { finding.without_command() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;
    use crate::doctor::judge::testing::{assert_well, codes, mend, one};

    fn model(name: &str) -> FoundModel {
        FoundModel {
            name: name.into(),
            bytes: 1 << 20,
            digest: "0123456789ab".into(),
            is_vouched_for: true,
            needs: fit::ModelFacts::default(),
        }
    }

    fn trouble(reference: &str, is_missing: bool) -> ModelTrouble {
        let can_be_fetched = !reference.contains('/');
        ModelTrouble { reference: reference.into(), told: "it is so".into(), is_missing, can_be_fetched }
    }

    fn well() -> ModelsFacts {
        ModelsFacts {
            is_built_in: true,
            language: Ok(model("gemma-3-270m")),
            embeddings: vec![
                (Some(Language::En), Ok(model("all-minilm-l6-v2"))),
                (Some(Language::Ko), Ok(model("multilingual-e5-small"))),
            ],
        }
    }

    fn judged(facts: &ModelsFacts) -> Vec<Finding> {
        judge(Some(facts), &Settings::default())
    }

    #[test]
    fn models_that_are_as_recorded_are_well_and_so_are_none_for_the_simulated_engine() {
        let found = judged(&well());
        assert_well(&found);
        assert_eq!(
            one(&found, Check::ModelLanguage).saw,
            "gemma-3-270m, 1.0 MiB, sha256 0123456789ab as recorded"
        );
        let mut settings = Settings::default();
        settings.engine.backend = EngineKind::Sim;
        let found = judge(None, &settings);
        assert!(found.iter().all(|finding| finding.status == Status::Skipped));
    }

    #[test]
    fn a_model_that_is_missing_is_told_with_the_command_that_fetches_it() {
        let facts = ModelsFacts { language: Err(trouble("gemma-3-270m", true)), ..well() };
        let found = judged(&facts);
        assert_eq!(codes(&found), ["model.language_missing"]);
        assert_eq!(mend(&found, Check::ModelLanguage), "fetch it, or name another one in `models.language`");
        let command = one(&found, Check::ModelLanguage).command.as_deref();
        assert_eq!(command, Some("maitred model fetch gemma-3-270m"));
        let path = ModelsFacts { language: Err(trouble("/m/x.gguf", true)), ..well() };
        assert_eq!(one(&judged(&path), Check::ModelLanguage).command, None, "a path cannot be fetched");
    }

    #[test]
    fn a_damaged_model_is_fetched_anew() {
        let facts = ModelsFacts { language: Err(trouble("gemma-3-270m", false)), ..well() };
        let found = judged(&facts);
        assert_eq!(codes(&found), ["model.language_unusable"]);
        let command = one(&found, Check::ModelLanguage).command.as_deref();
        assert_eq!(command, Some("maitred model fetch --force gemma-3-270m"));
        let mut facts = well();
        facts.embeddings[0].1 = Err(trouble("all-minilm-l6-v2", false));
        assert_eq!(codes(&judged(&facts)), ["model.embedding_unusable"]);
    }

    #[test]
    fn a_missing_embedding_model_is_missed_by_its_language_and_the_last_one_by_all() {
        let mut facts = well();
        facts.embeddings[1].1 = Err(trouble("multilingual-e5-small", true));
        let found = judged(&facts);
        assert_eq!(codes(&found), ["model.unspoken"]);
        let warned = found.iter().find(|finding| finding.status == Status::Warn).unwrap();
        assert_eq!(
            warned.means.as_deref(),
            Some("there is no embedding model for the language ko: it is so")
        );
        facts.embeddings[0].1 = Err(trouble("all-minilm-l6-v2", true));
        let found = judged(&facts);
        assert_eq!(codes(&found), ["model.embedding_missing"]);
        let command = one(&found, Check::ModelEmbedding).command.as_deref();
        assert_eq!(command, Some("maitred model fetch all-minilm-l6-v2"));
    }

    #[test]
    fn a_build_without_the_engine_says_how_to_build_one() {
        let found = judged(&ModelsFacts { is_built_in: false, ..well() });
        assert_eq!(codes(&found), ["model.no_engine"]);
        assert_eq!(one(&found, Check::ModelLanguage).command.as_deref(), Some("make build"));
    }
}
