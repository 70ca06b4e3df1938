//! From facts to the result's parts: counts by rule, texts by the model, outcomes by what was missing.

use super::gather::{Gathered, newest};
use super::{Analyst, Asked, carry, code};
use crate::analysis::aspects::{self, AspectDraft};
use crate::analysis::claims::{self, Task};
use crate::analysis::reader::{Cost, LanguageReader, Ticket};
use crate::analysis::strengths::{self, Context, Found};
use crate::analysis::{ReadReview, sentiment};
use crate::job::{Analysis, Job};
use crate::result::{
    AnalysisResult, AspectFinding, Claim, Evidence, Outcome, Polarity, Sentiment, Strength, Strengths,
    Summary,
};
use crate::store::{AspectRate, FactStore};

/// A text to carry over or to write.
struct Wanted {
    task: Task,
    carried: Option<(Claim, Vec<Evidence>)>,
}

impl<S: FactStore> Analyst<S> {
    /// Fills in findings and outcomes.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of `work`, split off for length; all of it is needed"
    )]
    pub(super) async fn assemble(
        &self,
        job: &Job,
        reader: &LanguageReader,
        asked: Asked,
        gathered: &Gathered,
        last: Option<&AnalysisResult>,
        ticket: Ticket,
        cost: &mut Cost,
        result: &mut AnalysisResult,
    ) {
        cost.usage.baseline_tokens += gathered.tokens * job.analyses.len() as u64;
        let read: Vec<ReadReview<'_>> = gathered
            .read
            .iter()
            .map(|(index, facts)| ReadReview { review: &job.reviews[*index], facts })
            .collect();
        let names = reader.pack.aspect_names();
        let clause = reader.calibration.clause_thresholds(self.settings.clause_margin);
        let sentiment = sentiment::assemble(asked.scope, &read, gathered.failed, &self.settings.review);
        let wants = |analysis| job.analyses.contains(&analysis);
        let drafts = if wants(Analysis::Summary) {
            let settings = aspects::Settings {
                min_support: self.settings.min_support as usize,
                ..aspects::Settings::default()
            };
            aspects::findings(&read, &names, &clause, &settings)
        } else {
            Vec::new()
        };
        let found = if wants(Analysis::Strengths) {
            self.strengths(job, reader, &read, &names).await
        } else {
            Found::default()
        };
        let texts = carry::Texts::new(job);
        let mut wanted: Vec<Wanted> = drafts.iter().map(|draft| wanted_aspect(draft, last, &texts)).collect();
        wanted.extend(found.drafts.iter().map(|draft| wanted_strength(draft, last, &texts)));
        let mut written = self.write(reader, wanted, asked.words, ticket, cost).await.into_iter();
        let summary = summary(reader, sentiment.as_ref(), &drafts, &mut written);
        let strengths = strengths_of(found, &mut written);
        for &analysis in &job.analyses {
            let is_there = match analysis {
                Analysis::Summary => summary.is_some(),
                // That nothing is praised by enough guests is a finding too.
                Analysis::Sentiment | Analysis::Strengths => sentiment.is_some(),
            };
            result.outcomes.insert(analysis, outcome(is_there, gathered));
        }
        let keeps = |analysis| result.outcomes.get(&analysis).is_some_and(Outcome::has_findings);
        result.sentiment = sentiment.filter(|_| keeps(Analysis::Sentiment));
        result.summary = summary.filter(|_| keeps(Analysis::Summary));
        result.strengths = Some(strengths).filter(|_| keeps(Analysis::Strengths));
    }

    async fn strengths(
        &self,
        job: &Job,
        reader: &LanguageReader,
        read: &[ReadReview<'_>],
        names: &[&str],
    ) -> Found {
        let clause = reader.calibration.clause_thresholds(self.settings.clause_margin);
        let counts = aspects::praise_counts(read, names.len(), &clause);
        let (restaurant, reviews) = (job.restaurant_id.as_str(), read.len() as u64);
        let rates =
            self.store.aspect_rates(&reader.reader, restaurant, names.len()).await.unwrap_or_else(|error| {
                error.tell("other restaurants unknown; distinctness left out");
                vec![AspectRate::default(); names.len()]
            });
        if let Err(error) = self.store.put_aspect_counts(&reader.reader, restaurant, reviews, &counts).await {
            error.tell("aspect counts not kept");
        }
        let context = Context {
            aspects: names,
            rates: &rates,
            thresholds: clause,
            unrelated: Some(reader.space.unrelated()),
            now: newest(&job.reviews),
        };
        let settings =
            strengths::Settings { top_k: self.settings.max_strengths, ..strengths::Settings::default() };
        // Clustering a large restaurant takes a while: not on a thread that others wait for.
        tokio::task::block_in_place(|| strengths::find(read, &context, &settings))
    }

    /// A text and its evidence for each, in order.
    async fn write(
        &self,
        reader: &LanguageReader,
        wanted: Vec<Wanted>,
        words: bool,
        ticket: Ticket,
        cost: &mut Cost,
    ) -> Vec<(Claim, Vec<Evidence>)> {
        let tasks: Vec<Task> =
            wanted.iter().filter(|want| want.carried.is_none()).map(|want| want.task.clone()).collect();
        let parts = self.reader.as_ref();
        let fresh = claims::write(parts, reader, &tasks, words, &self.settings.review, ticket, cost).await;
        let mut fresh = fresh.into_iter();
        wanted
            .into_iter()
            .map(|want| match want.carried {
                Some(carried) => carried,
                // As many claims as tasks that are not carried, in their order.
                None => (fresh.next().unwrap_or_else(|| want.task.extractive()), want.task.evidence),
            })
            .collect()
    }
}

fn wanted_aspect(draft: &AspectDraft, last: Option<&AnalysisResult>, texts: &carry::Texts<'_>) -> Wanted {
    let (positive, negative) = (draft.positive_share, draft.negative_share);
    let carried = carry::aspect(last, texts, &draft.aspect, draft.polarity, positive, negative);
    Wanted {
        carried: carried.map(carry_over),
        task: Task {
            aspect: draft.aspect.clone(),
            polarity: draft.polarity,
            evidence: draft.evidence.clone(),
            centre: draft.centre.clone(),
            purpose: "summary",
        },
    }
}

fn wanted_strength(
    draft: &strengths::StrengthDraft,
    last: Option<&AnalysisResult>,
    texts: &carry::Texts<'_>,
) -> Wanted {
    let carried = carry::strength(last, texts, &draft.aspect, &draft.evidence, draft.support_ratio);
    Wanted {
        carried: carried.map(carry_over),
        task: Task {
            aspect: draft.aspect.clone(),
            polarity: Polarity::Positive,
            evidence: draft.evidence.clone(),
            centre: draft.centre.clone(),
            purpose: "strengths",
        },
    }
}

fn carry_over((claim, evidence): (&Claim, &[Evidence])) -> (Claim, Vec<Evidence>) {
    (Claim { carried: true, ..claim.clone() }, evidence.to_vec())
}

fn summary(
    reader: &LanguageReader,
    sentiment: Option<&Sentiment>,
    drafts: &[AspectDraft],
    written: &mut impl Iterator<Item = (Claim, Vec<Evidence>)>,
) -> Option<Summary> {
    if drafts.is_empty() && sentiment.is_none() {
        return None;
    }
    let share = sentiment.map(|sentiment| (sentiment.positive_share, sentiment.total));
    let findings: Vec<(&str, Polarity)> =
        drafts.iter().map(|draft| (draft.aspect.as_str(), draft.polarity)).collect();
    let overall = claims::overall(reader, share, &findings);
    let aspects = drafts
        .iter()
        .zip(written)
        .map(|(draft, (claim, evidence))| AspectFinding {
            aspect: draft.aspect.clone(),
            polarity: draft.polarity,
            support: draft.support,
            positive_share: draft.positive_share,
            negative_share: draft.negative_share,
            claim,
            evidence,
        })
        .collect();
    Some(Summary { overall, aspects })
}

fn strengths_of(found: Found, written: &mut impl Iterator<Item = (Claim, Vec<Evidence>)>) -> Strengths {
    let items = found
        .drafts
        .into_iter()
        .zip(written)
        .map(|(draft, (claim, evidence))| Strength {
            aspect: draft.aspect,
            kind: draft.kind,
            claim,
            support: draft.support,
            support_ratio: draft.support_ratio,
            consistency: draft.consistency,
            recency: draft.recency,
            lift: draft.lift,
            score: draft.score,
            evidence,
        })
        .collect();
    Strengths { items, candidates: found.candidates, compared_with: found.compared_with }
}

/// What an analysis can say of itself, by what was read and what was found.
fn outcome(is_there: bool, gathered: &Gathered) -> Outcome {
    match &gathered.failure {
        Some(error) if gathered.read.is_empty() => {
            Outcome::Failed { code: code(error).into(), message: error.to_string() }
        }
        Some(error) if is_there => {
            Outcome::Partial { message: format!("{} reviews could not be read: {error}", gathered.failed) }
        }
        Some(error) => Outcome::Failed { code: code(error).into(), message: error.to_string() },
        None if is_there => Outcome::Ok,
        None => Outcome::NoData,
    }
}
