//! Model files: found, read and hashed, as a worker does at its start.

use crate::config::Settings;
use crate::doctor::judge::models::{FoundModel, ModelTrouble, ModelsFacts};
use crate::engine::fit;
use crate::job::Language;
use crate::model::gguf::{Arrays, Header, MetaValue};
use crate::model::{ModelError, ModelKind, ModelStore, Registry, ResolvedModel, model_store};
use crate::runtime::EMBEDDERS;

/// Looks at the models that the settings ask for. Takes as long as hashing them.
pub fn look(settings: &Settings) -> ModelsFacts {
    let store = model_store(settings.models.dir.as_deref());
    let find = |reference: &str, kind| match &store {
        Ok(store) => find(store, reference, kind),
        Err(error) => Err(trouble(reference, error)),
    };
    let embeddings: Vec<(Option<Language>, &str)> = match &settings.models.embedding {
        Some(reference) => vec![(None, reference.as_str())],
        None => EMBEDDERS
            .iter()
            .filter(|(language, _)| settings.analysis.language.is_none_or(|wanted| wanted == *language))
            .map(|(language, name)| (Some(*language), *name))
            .collect(),
    };
    ModelsFacts {
        is_built_in: cfg!(feature = "llama"),
        language: find(&settings.models.language, ModelKind::Language),
        embeddings: embeddings
            .into_iter()
            .map(|(language, reference)| (language, find(reference, ModelKind::Embedding)))
            .collect(),
    }
}

fn find(store: &ModelStore, reference: &str, kind: ModelKind) -> Result<FoundModel, ModelTrouble> {
    let model = store.resolve_as(reference, kind).map_err(|error| trouble(reference, &error))?;
    let is_vouched_for =
        model.record.is_some() || model.spec.as_ref().is_some_and(|spec| spec.sha256.is_some());
    Ok(FoundModel {
        needs: needs(&model),
        bytes: model.bytes,
        digest: model.sha256.short(),
        is_vouched_for,
        name: model.name,
    })
}

fn trouble(reference: &str, error: &ModelError) -> ModelTrouble {
    use ModelError::{NoSuchFile, NotInstalled, Unknown};
    ModelTrouble {
        reference: reference.to_owned(),
        told: error.to_string(),
        is_missing: matches!(error, NotInstalled { .. } | NoSuchFile(_) | Unknown { .. }),
        can_be_fetched: Registry::builtin().get(reference).is_some(),
    }
}

/// What decides how much memory it takes, as its header says it. Lists by layer are not read, so that a model that has
/// them seems to need more than it does.
fn needs(model: &ResolvedModel) -> fit::ModelFacts {
    // It was read a moment ago; if it has gone since, its size is all that is known.
    let Ok(header) = Header::open(&model.path, Arrays::Skip) else {
        return fit::ModelFacts { weights: model.bytes, ..fit::ModelFacts::default() };
    };
    let text = |key: &str| {
        let value = header.get(key)?;
        value
            .as_u64()
            .map(|number| number.to_string())
            .or_else(|| MetaValue::as_str(value).map(str::to_owned))
    };
    let weights = model.bytes.saturating_sub(header.data_offset);
    fit::ModelFacts::from_metadata(weights, model.header.vocabulary.unwrap_or(0), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_models_lacks_those_that_are_asked_for_and_tells_which_can_be_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.models.dir = Some(folder.path().to_owned());
        let facts = look(&settings);
        let language = facts.language.unwrap_err();
        assert!(language.is_missing && language.can_be_fetched, "{language:?}");
        assert_eq!(facts.embeddings.len(), 2);

        settings.models.language = folder.path().join("mine.gguf").display().to_string();
        settings.analysis.language = Some(Language::Ko);
        let facts = look(&settings);
        let language = facts.language.unwrap_err();
        assert!(language.is_missing && !language.can_be_fetched, "{language:?}");
        assert_eq!(facts.embeddings[0].0, Some(Language::Ko));
    }

    #[test]
    fn a_file_that_is_no_model_is_damaged_and_not_missing() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.models.dir = Some(folder.path().to_owned());
        let file = &Registry::builtin().get(&settings.models.language).unwrap().file;
        std::fs::write(folder.path().join(file), b"not a model at all").unwrap();
        let language = look(&settings).language.unwrap_err();
        assert!(!language.is_missing && language.can_be_fetched, "{language:?}");
    }
}
