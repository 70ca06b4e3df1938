//! The jobs of a trace: reviews of real files, cut into clauses, each clause a probe of so many tokens.
//!
//! Pure but for [`Pool::read`]. What a job is made of does not depend on when it arrives, so one trace serves all
//! loads.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use anyhow::{Context, bail};
use fastrand::Rng;
use maitred::analysis::pack::LanguagePack;
use maitred::input::{Columns, InputOptions, JobReader, JobTemplate};
use maitred::job::{Analysis, Job, Language, Limits};
use maitred::text::{clauses, language};
use serde::{Deserialize, Serialize};

use super::Device;
use crate::arrivals::zipf;
use crate::sample::Size;

/// Tokens that the language model takes for a clause's probe beyond the clause itself: the words around it.
pub const QUESTION_TOKENS: usize = 6;

/// How many tokens a probe of this clause computes, question included.
pub type CountTokens = dyn Fn(&str) -> usize + Send + Sync;

/// Tokens of a clause's probe without a tokenizer: a Hangul letter is 0.74 of a token, any other character 1/4.4,
/// fitted to Gemma 3's tokenizer on English and Korean reviews. An estimate, off by two tokens at the mean.
pub fn estimated_tokens(clause: &str) -> usize {
    let hangul = clause.chars().filter(|&c| language::is_hangul(c)).count() as f64;
    let others = clause.chars().count() as f64 - hangul;
    (hangul * 0.74 + others / 4.4).ceil() as usize + QUESTION_TOKENS
}

/// Jobs of one size: their share of all, and of how many reviews they are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// Weight among the classes.
    pub share: f64,
    /// Least number of reviews.
    pub least: usize,
    /// Greatest number of reviews.
    pub most: usize,
}

/// Which jobs there are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// A new review or a few.
    pub small: Class,
    /// A score of reviews.
    pub medium: Class,
    /// A whole restaurant.
    pub large: Class,
    /// How much hotter than others the hot restaurants are (Zipf's exponent).
    pub zipf: f64,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            small: Class { share: 0.7, least: 1, most: 3 },
            medium: Class { share: 0.2, least: 10, most: 20 },
            large: Class { share: 0.1, least: 60, most: 100 },
            zipf: 1.0,
        }
    }
}

impl Mix {
    /// The class of a size.
    pub const fn class(&self, size: Size) -> Class {
        match size {
            Size::Small => self.small,
            Size::Medium => self.medium,
            Size::Large => self.large,
        }
    }

    fn draw(&self, rng: &mut Rng) -> Size {
        let total: f64 = Size::ALL.iter().map(|&size| self.class(size).share.max(0.0)).sum();
        let mut left = rng.f64() * total;
        for size in Size::ALL {
            left -= self.class(size).share.max(0.0);
            if left < 0.0 {
                return size;
            }
        }
        Size::Small
    }
}

/// The reviews of a file, as probes.
#[derive(Debug, Clone)]
pub struct Pool {
    /// The file's name.
    pub name: String,
    /// For each restaurant the tokens of each review's probes; reviews without anything to read are left out.
    restaurants: Vec<Vec<Vec<u32>>>,
}

impl Pool {
    /// Reads a file of reviews. `count` is the model's tokenizer, or absent for [`estimated_tokens`].
    pub fn read(path: &Path, count: Option<&CountTokens>) -> anyhow::Result<Self> {
        let options = InputOptions {
            format: None,
            columns: Columns::default(),
            limits: Limits::default(),
            job: JobTemplate { analyses: vec![Analysis::Sentiment], ..JobTemplate::default() },
        };
        let mut packs = BTreeMap::new();
        let mut restaurants = Vec::new();
        for job in JobReader::open(path, options)? {
            let job = job.with_context(|| path.display().to_string())?;
            restaurants.push(probes(&job, &mut packs, count.unwrap_or(&estimated_tokens))?);
        }
        let name =
            path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into());
        Ok(Self { name, restaurants })
    }

    /// Restaurants in it.
    pub fn restaurants(&self) -> usize {
        self.restaurants.len()
    }

    /// Reviews with something to read, their probes, and the probes' tokens.
    pub fn totals(&self) -> (usize, usize, u64) {
        let reviews = self.restaurants.iter().flatten();
        let probes = reviews.clone().flatten();
        (reviews.count(), probes.clone().count(), probes.map(|&tokens| u64::from(tokens)).sum())
    }

    /// `jobs` jobs of the mix. Which restaurant a job is of follows Zipf's law over those with enough reviews.
    pub fn jobs(&self, mix: &Mix, jobs: usize, device: &Device, rng: &mut Rng) -> anyhow::Result<Vec<Work>> {
        let enough = |size| self.with_at_least(mix.class(size).least.max(1));
        let eligible: BTreeMap<Size, Vec<usize>> = Size::ALL.map(|size| (size, enough(size))).into();
        for size in Size::ALL {
            if eligible[&size].is_empty() && mix.class(size).share > 0.0 {
                let (least, size) = (mix.class(size).least, size.name());
                bail!("no restaurant of {} has {least} reviews for a {size} job: lower the mix", self.name);
            }
        }
        let mut work = Vec::with_capacity(jobs);
        for _ in 0..jobs {
            let size = mix.draw(rng);
            let eligible = &eligible[&size];
            let place = zipf(eligible.len(), mix.zipf, 1, rng);
            // Not empty: a size with a share has restaurants, and only such are drawn.
            let Some(&restaurant) = place.first().and_then(|&place| eligible.get(place)) else { continue };
            let class = mix.class(size);
            let reviews = rng.usize(class.least.max(1)..=class.most.max(class.least).max(1));
            let probes = self.some_reviews(restaurant, reviews, rng);
            work.push(Work::new(size, restaurant, probes, device));
        }
        Ok(work)
    }

    fn with_at_least(&self, reviews: usize) -> Vec<usize> {
        (0..self.restaurants.len()).filter(|&index| self.restaurants[index].len() >= reviews).collect()
    }

    /// Probes of `reviews` reviews of the restaurant, from a random one on.
    fn some_reviews(&self, restaurant: usize, reviews: usize, rng: &mut Rng) -> Vec<u32> {
        let all = &self.restaurants[restaurant];
        let from = rng.usize(0..all.len());
        all.iter().cycle().skip(from).take(reviews.min(all.len())).flatten().copied().collect()
    }
}

/// The probes of each of a restaurant's reviews.
fn probes(
    job: &Job,
    packs: &mut BTreeMap<Language, LanguagePack>,
    count: &CountTokens,
) -> anyhow::Result<Vec<Vec<u32>>> {
    let detected = || language::detect(job.reviews.iter().map(|review| review.text.as_str()));
    let language = job.language.unwrap_or_else(detected);
    let rules = match packs.entry(language) {
        Entry::Occupied(known) => &known.into_mut().clauses,
        Entry::Vacant(empty) => &empty.insert(LanguagePack::load(language, None)?).clauses,
    };
    let of_review = |text: &str| -> Vec<u32> {
        let tokens = |range: std::ops::Range<usize>| count(&text[range]).max(1);
        clauses::split(text, rules).into_iter().map(|range| tokens(range) as u32).collect()
    };
    let reviews = job.reviews.iter().map(|review| of_review(&review.text));
    Ok(reviews.filter(|probes| !probes.is_empty()).collect())
}

/// What a job asks of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Its class.
    pub size: Size,
    /// Whose reviews.
    pub restaurant: usize,
    /// Tokens of each probe.
    pub probes: Vec<u32>,
    /// What it is expected to take, in seconds.
    pub cost: f64,
}

impl Work {
    /// With its cost on the device: its tokens, and the steps that they fill.
    pub fn new(size: Size, restaurant: usize, probes: Vec<u32>, device: &Device) -> Self {
        let tokens: f64 = probes.iter().map(|&tokens| f64::from(tokens)).sum();
        let steps = (tokens / f64::from(device.batch_tokens.max(1))).ceil();
        let cost = tokens * device.token + steps * device.step;
        Self { size, restaurant, probes, cost }
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    fn sample_reviews() -> Pool {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/sample-restaurants.jsonl");
        Pool::read(&path, None).unwrap()
    }

    fn fitting() -> Mix {
        Mix {
            large: Class { share: 0.1, least: 5, most: 8 },
            medium: Class { share: 0.2, least: 3, most: 4 },
            ..Mix::default()
        }
    }

    #[test]
    fn jobs_have_the_shares_and_reviews_of_the_mix_and_cost_what_their_tokens_do() {
        let (pool, device) = (sample_reviews(), Device::default());
        let work = pool.jobs(&fitting(), 4000, &device, &mut Rng::with_seed(3)).unwrap();
        assert_eq!(work.len(), 4000);
        let share = |size| work.iter().filter(|job| job.size == size).count() as f64 / 4000.0;
        assert!((share(Size::Small) - 0.7).abs() < 0.05 && (share(Size::Large) - 0.1).abs() < 0.03);
        for job in &work {
            let tokens: u32 = job.probes.iter().sum();
            assert!(tokens > 0);
            assert!(job.cost >= f64::from(tokens) * device.token);
        }
        let mean = |size| {
            let costs: Vec<f64> = work.iter().filter(|job| job.size == size).map(|job| job.cost).collect();
            costs.iter().sum::<f64>() / costs.len() as f64
        };
        assert!(mean(Size::Small) < mean(Size::Medium) && mean(Size::Medium) < mean(Size::Large));
    }

    #[test]
    fn one_seed_gives_one_trace() {
        let pool = sample_reviews();
        let draw = |seed| pool.jobs(&fitting(), 50, &Device::default(), &mut Rng::with_seed(seed)).unwrap();
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn a_mix_that_no_restaurant_can_give_is_refused_in_words() {
        let mix = Mix { large: Class { share: 0.1, least: 5000, most: 6000 }, ..Mix::default() };
        let error = sample_reviews().jobs(&mix, 5, &Device::default(), &mut Rng::with_seed(1)).unwrap_err();
        assert!(error.to_string().contains("5000 reviews for a large job"), "{error}");
    }

    #[test]
    fn a_tokenizer_that_is_given_counts() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/sample-restaurants.jsonl");
        let pool = Pool::read(&path, Some(&|_: &str| 7)).unwrap();
        let (reviews, probes, tokens) = pool.totals();
        assert!(reviews > 0 && probes >= reviews);
        assert_eq!(tokens, 7 * probes as u64);
    }
}
