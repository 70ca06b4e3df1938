//! Facts of texts: known ones from the store, the others read and kept.

use std::collections::{HashMap, HashSet};

use crate::analysis::reader::{Cost, LanguageReader, Reader, Ticket};
use crate::digest::text_digest;
use crate::engine::RequestError;
use crate::store::{FactKey, FactStore, ReviewFacts};

/// Reviews read before what was read is kept: what an interruption costs at most, and enough to fill the engine.
const PORTION: usize = 480;

/// The key of a text's facts.
pub(super) fn key(reader: &LanguageReader, text: &str) -> FactKey {
    FactKey { reader: reader.reader.clone(), text: text_digest(text) }
}

/// Facts of the texts in order. Equal texts are read once; what was read is kept portion by portion, so
/// that an interruption costs little twice.
pub async fn of<S: FactStore>(
    parts: &Reader,
    reader: &LanguageReader,
    store: &S,
    texts: &[&str],
    ticket: Ticket,
    cost: &mut Cost,
) -> Vec<Result<ReviewFacts, RequestError>> {
    let keys: Vec<FactKey> = texts.iter().map(|text| key(reader, text)).collect();
    let mut known: HashMap<&str, Result<ReviewFacts, RequestError>> = HashMap::new();
    match store.get_many(&keys).await {
        Ok(found) => {
            for (key, facts) in keys.iter().zip(found) {
                if let Some(facts) = facts {
                    known.insert(&key.text, Ok(facts));
                }
            }
        }
        Err(error) => error.tell("facts not looked up; reading again"),
    }
    let mut missing: Vec<(&FactKey, &str)> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for (key, text) in keys.iter().zip(texts) {
        if !known.contains_key(key.text.as_str()) && seen.insert(&key.text) {
            missing.push((key, text));
        }
    }
    let tokens = parts.cost_of(reader, missing.iter().map(|(_, text)| *text));
    let ticket = ticket.costing(parts.engine().estimate(tokens));
    let mut read = 0;
    for portion in missing.chunks(PORTION) {
        let unknown: Vec<&str> = portion.iter().map(|(_, text)| *text).collect();
        let reading = parts.read(reader, &unknown, ticket).await;
        cost.add(reading.cost);
        let mut fresh = Vec::new();
        for ((key, _), facts) in portion.iter().zip(reading.facts) {
            if let Ok(facts) = &facts {
                read += 1;
                fresh.push(((*key).clone(), facts.clone()));
            }
            known.insert(&key.text, facts);
        }
        keep(store, fresh, "facts not kept for the next time").await;
    }
    let with_facts = keys.iter().filter(|key| known.get(key.text.as_str()).is_some_and(Result::is_ok));
    cost.usage.reviews_read += read;
    // A text that stands in several reviews is read with the first of them, and known to the others.
    cost.usage.reviews_cached += with_facts.count() as u32 - read;
    // Every key was found or read, so the fallback is never taken.
    keys.iter()
        .map(|key| known.get(key.text.as_str()).cloned().unwrap_or(Err(RequestError::Stopped)))
        .collect()
}

/// Keeps what was computed; a store that fails only costs computing it again.
pub(super) async fn keep<S: FactStore>(
    store: &S,
    fresh: Vec<(FactKey, ReviewFacts)>,
    consequence: &'static str,
) {
    if !fresh.is_empty()
        && let Err(error) = store.put_many(fresh).await
    {
        error.tell(consequence);
    }
}
