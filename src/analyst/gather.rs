//! The reviews in scope and their facts; under `scope = selected` only the selected reviews are read.

#[cfg(test)]
mod tests;

use super::{Analyst, Asked, facts};
use crate::analysis::reader::{Cost, LanguageReader, Ticket};
use crate::digest::text_digest;
use crate::engine::RequestError;
use crate::job::{Job, Review, Scope};
use crate::selection::representative::Representative;
use crate::selection::select::{self, Candidate};
use crate::selection::vector::UnitVector;
use crate::store::{FactKey, FactStore, ReviewFacts};

/// The reviews in scope and what is known of them.
pub(super) struct Gathered {
    /// Indices into the job's reviews with facts, in the job's order.
    pub read: Vec<(usize, ReviewFacts)>,
    /// Reviews in scope whose reading failed.
    pub failed: usize,
    /// The first failure.
    pub failure: Option<RequestError>,
    /// Tokens of all the job's reviews.
    pub tokens: u64,
}

impl<S: FactStore> Analyst<S> {
    /// Gathers the facts of the reviews in scope.
    pub(super) async fn gather(
        &self,
        job: &Job,
        reader: &LanguageReader,
        asked: Asked,
        ticket: Ticket,
        cost: &mut Cost,
    ) -> Gathered {
        cost.usage.reviews += job.reviews.len() as u32;
        let in_scope: Vec<usize> = match asked.scope {
            Scope::All => (0..job.reviews.len()).collect(),
            Scope::Selected => {
                let begun = self.reader.engine().now();
                let selected = self.selected(job, reader, asked.top_k, ticket, cost).await;
                cost.selected = Some((begun, self.reader.engine().now()));
                match selected {
                    Ok(selected) => selected,
                    Err(error) => {
                        let failed = job.reviews.len();
                        return Gathered { read: vec![], failed, failure: Some(error), tokens: 0 };
                    }
                }
            }
        };
        let texts: Vec<&str> = in_scope.iter().map(|&index| job.reviews[index].text.as_str()).collect();
        let facts = facts::of(&self.reader, reader, self.store.as_ref(), &texts, ticket, cost).await;
        let mut gathered = Gathered { read: vec![], failed: 0, failure: None, tokens: 0 };
        let mut counted = vec![None; job.reviews.len()];
        for (index, facts) in in_scope.into_iter().zip(facts) {
            match facts {
                Ok(facts) => {
                    counted[index] = Some(u64::from(facts.tokens));
                    gathered.read.push((index, facts));
                }
                Err(error) => {
                    gathered.failed += 1;
                    gathered.failure.get_or_insert(error);
                }
            }
        }
        let tokenizer = self.reader.tokenizer();
        let tokens = job.reviews.iter().zip(counted).map(|(review, known)| {
            known.unwrap_or_else(|| {
                tokenizer.tokenize(&reader.pack.polarity_body(&review.text), false).len() as u64
            })
        });
        gathered.tokens = tokens.sum();
        gathered
    }

    /// The nearest to the restaurant's representative vector, made diverse. Labels are not known yet, so there is
    /// no floor for the minority; diversity stands in for it.
    async fn selected(
        &self,
        job: &Job,
        reader: &LanguageReader,
        top_k: usize,
        ticket: Ticket,
        cost: &mut Cost,
    ) -> Result<Vec<usize>, RequestError> {
        let vectors = self.review_vectors(&job.reviews, reader, ticket, cost).await?;
        // Vectors are of one model; one that a job brought along with another dimension has no place among them.
        let dimension = vectors.iter().flatten().map(UnitVector::dimension).next();
        let (places, pairs): (Vec<usize>, Vec<(&Review, &UnitVector)>) = (job.reviews.iter().zip(&vectors))
            .enumerate()
            .filter_map(|(index, (review, vector))| Some((index, (review, vector.as_ref()?))))
            .filter(|(_, (_, vector))| Some(vector.dimension()) == dimension)
            .unzip();
        let representative = self.representative(job, &reader.embedder.digest, &pairs).await;
        let Some(query) = representative.vector() else { return Ok(Vec::new()) };
        let list: Vec<Candidate<'_>> = pairs
            .iter()
            .map(|&(review, vector)| Candidate { vector, created_at: review.created_at, polarity: None })
            .collect();
        let settings = select::Settings { top_k, ..select::Settings::default() };
        let mut chosen: Vec<usize> =
            select::select(&query, &list, &settings).into_iter().map(|place| places[place]).collect();
        chosen.sort_unstable();
        Ok(chosen)
    }

    /// The restaurant's representative vector: the kept one, brought up to the job's reviews. It is the same as one
    /// made anew, so neither a store that fails nor another worker that was faster makes a difference.
    async fn representative(
        &self,
        job: &Job,
        model: &str,
        reviews: &[(&Review, &UnitVector)],
    ) -> Representative {
        let now = newest(&job.reviews);
        let kept = match self.store.representative(&job.restaurant_id, model).await {
            Ok(kept) => kept,
            Err(error) => {
                error.tell("representative vector not looked up; making it anew");
                return Representative::of(model, reviews, now);
            }
        };
        let before = kept.as_ref().map(Representative::digest);
        let current = match kept {
            Some(kept) => kept.brought_up_to(reviews, now),
            None => Representative::of(model, reviews, now),
        };
        if before.as_deref() != Some(current.digest().as_str()) {
            match self.store.put_representative(&job.restaurant_id, before.as_deref(), &current).await {
                Ok(true) => {}
                Ok(false) => tracing::debug!("another worker was faster with the representative vector"),
                Err(error) => error.tell("representative vector not kept for the next time"),
            }
        }
        current
    }

    /// A vector per review: the job's own, the store's, or computed now. One that was computed is what the store
    /// would give the next time, rounded as it is kept: the selection must not depend on who computed it.
    async fn review_vectors(
        &self,
        reviews: &[Review],
        reader: &LanguageReader,
        ticket: Ticket,
        cost: &mut Cost,
    ) -> Result<Vec<Option<UnitVector>>, RequestError> {
        let vectors_of = format!("vectors-1 {}", reader.embedder.digest);
        let key = |review: &Review| FactKey { reader: vectors_of.clone(), text: text_digest(&review.text) };
        let keys: Vec<FactKey> = reviews.iter().map(key).collect();
        let stored = self.store.get_many(&keys).await.unwrap_or_else(|error| {
            error.tell("vectors not looked up; computing");
            vec![None; keys.len()]
        });
        let mut vectors: Vec<Option<UnitVector>> = reviews
            .iter()
            .zip(&stored)
            .map(|(review, stored)| {
                let given = review.embedding.clone().and_then(UnitVector::new);
                given.or_else(|| UnitVector::from_f16_bytes(&stored.as_ref()?.vector))
            })
            .collect();
        let missing: Vec<usize> =
            (0..reviews.len()).filter(|&i| vectors[i].is_none() && stored[i].is_none()).collect();
        let texts: Vec<&str> = missing.iter().map(|&index| reviews[index].text.as_str()).collect();
        let embedded = self.reader.embed(reader, &texts, ticket).await?;
        cost.usage.embedded_texts += texts.len() as u32;
        let mut fresh = Vec::with_capacity(missing.len());
        for (index, vector) in missing.into_iter().zip(embedded) {
            let bytes = vector.as_ref().map(UnitVector::to_f16_bytes).unwrap_or_default();
            let facts = ReviewFacts { tokens: 0, p_positive: None, clauses: Vec::new(), vector: bytes };
            vectors[index] = UnitVector::from_f16_bytes(&facts.vector);
            fresh.push((keys[index].clone(), facts));
        }
        facts::keep(self.store.as_ref(), fresh, "vectors not kept for the next time").await;
        Ok(vectors)
    }
}

/// The newest review's time: what ages are counted from, so that old data give the same result whenever it is
/// worked. Without any date, the epoch: all ages are unknown then.
pub(super) fn newest(reviews: &[Review]) -> time::OffsetDateTime {
    reviews.iter().filter_map(|review| review.created_at).max().unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}
