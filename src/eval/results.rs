//! Results against the reviews they were made from: every quote verbatim, every claim of its finding's polarity.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::analysis::Thresholds;
use crate::analysis::evidence;
use crate::analysis::reader::{Cost, Reader};
use crate::job::Job;
use crate::result::{AnalysisResult, Origin, Polarity};

/// Figures of `eval results`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ResultFigures {
    /// Results read.
    pub results: usize,
    /// By outcome of the whole.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Pieces of evidence.
    pub quotes: usize,
    /// Of those, the ones that are not a verbatim part of the review they name.
    pub violations: usize,
    /// Claims by origin.
    pub claims: BTreeMap<&'static str, usize>,
    /// Generated claims whose own probed polarity is not that of their finding.
    pub disagreeing: usize,
    /// Claims written by the model in these runs, and those of them that passed the checks.
    pub claims_written: u64,
    /// See `claims_written`.
    pub claims_kept: u64,
}

/// Compares results with the reviews.
pub async fn evaluate(
    reader: &Reader,
    results: &Path,
    jobs: impl Iterator<Item = anyhow::Result<Job>>,
    thresholds: &Thresholds,
) -> anyhow::Result<ResultFigures> {
    let mut reviews: HashMap<String, Job> = HashMap::new();
    for job in jobs {
        let job = job?;
        reviews.insert(job.restaurant_id.clone(), job);
    }
    let file = std::fs::File::open(results).with_context(|| format!("cannot read {}", results.display()))?;
    let mut figures = ResultFigures::default();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("{} line {}", results.display(), number + 1);
        let result: AnalysisResult = serde_json::from_str(&line.with_context(place)?).with_context(place)?;
        let Some(job) = reviews.get(&result.restaurant_id) else {
            bail!(
                "{}: restaurant `{}` is not in the file given with --reviews",
                place(),
                result.restaurant_id
            );
        };
        let texts: HashMap<&str, &str> =
            job.reviews.iter().map(|review| (review.id.as_str(), review.text.as_str())).collect();
        figures.results += 1;
        *figures.outcomes.entry(result.outcome.status()).or_default() += 1;
        figures.quotes += result.evidence().count();
        let violations = evidence::verify(&result, &texts);
        for violation in &violations {
            eprintln!("{}: {violation}", place());
        }
        figures.violations += violations.len();
        figures.claims_written += u64::from(result.usage.claims_written);
        figures.claims_kept += u64::from(result.usage.claims_kept);
        figures.disagreeing += disagreeing(reader, &result, thresholds, &mut figures.claims).await?;
    }
    Ok(figures)
}

/// Probes the generated claims anew.
async fn disagreeing(
    reader: &Reader,
    result: &AnalysisResult,
    thresholds: &Thresholds,
    origins: &mut BTreeMap<&'static str, usize>,
) -> anyhow::Result<usize> {
    let aspects = result.summary.iter().flat_map(|summary| &summary.aspects);
    let strengths = result.strengths.iter().flat_map(|strengths| &strengths.items);
    let claims = aspects
        .map(|finding| (&finding.claim, finding.polarity))
        .chain(strengths.map(|strength| (&strength.claim, Polarity::Positive)));
    let mut generated = Vec::new();
    for (claim, polarity) in claims {
        let origin = match claim.origin {
            Origin::Generated => "generated",
            Origin::Extractive => "extractive",
            Origin::Composed => "composed",
        };
        *origins.entry(origin).or_default() += 1;
        if claim.origin == Origin::Generated {
            generated.push((claim.text.as_str(), polarity));
        }
    }
    let ready = reader.language(result.language).await?;
    let texts: Vec<&str> = generated.iter().map(|(text, _)| *text).collect();
    let mut cost = Cost::default();
    let read = reader.polarity(ready, &texts, super::ticket(reader), "eval", &mut cost).await;
    let mut disagreeing = 0;
    for (p, (_, polarity)) in read.into_iter().zip(&generated) {
        disagreeing += usize::from(thresholds.label(p?) != *polarity);
    }
    Ok(disagreeing)
}
