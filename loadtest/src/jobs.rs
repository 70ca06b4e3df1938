//! Jobs cut from real review files: mixed sizes, the same for the same seed, no review twice.
//!
//! What was read once is known by its text, so a review that came twice would be cheaper the second time; every job of
//! a trace is therefore made of reviews of its own, as long as the files hold enough.

use std::path::Path;

use anyhow::{Context, ensure};
use fastrand::Rng;
use maitred::config::Settings;
use maitred::input::JobReader;
use maitred::job::{Job, Review};
use maitred::runtime;
use serde::{Deserialize, Serialize};

use crate::arrivals::zipf;
use crate::sample::Size;

/// A job and when it arrives.
#[derive(Debug, Clone)]
pub struct Timed {
    /// Seconds from the start of the run.
    pub at: f64,
    /// How large it is.
    pub size: Size,
    /// What is asked.
    pub job: Job,
}

/// Restaurants of a file, in its order.
pub fn restaurants(file: &Path, settings: &Settings) -> anyhow::Result<Vec<Job>> {
    let jobs = open(file, settings)?.collect::<Result<Vec<Job>, _>>()?;
    ensure!(!jobs.is_empty(), "{} holds no restaurant", file.display());
    Ok(jobs)
}

/// The file, to be read under these settings.
pub fn open(file: &Path, settings: &Settings) -> anyhow::Result<JobReader> {
    runtime::input(file, settings).with_context(|| file.display().to_string())
}

/// The restaurant with its first `reviews` reviews.
pub fn first(job: &Job, reviews: usize) -> Job {
    Job { reviews: job.reviews.iter().take(reviews).cloned().collect(), ..job.clone() }
}

/// The restaurant with one more review, and one epoch later. The text is one that no file holds: another restaurant's
/// review with the restaurant's name before it.
pub fn with_a_new_review(job: &Job, from: &Job) -> Job {
    let mut next = job.clone();
    next.epoch += 1;
    next.job_id = format!("{}-next", job.job_id);
    let number = next.reviews.len() % from.reviews.len().max(1);
    let donor = from.reviews.get(number).or_else(|| from.reviews.first());
    next.reviews.extend(donor.map(|review| Review {
        id: "new-1".into(),
        text: format!("Visit {}. {}", job.restaurant_id, review.text),
        ..review.clone()
    }));
    next
}

/// Shares of the sizes, and reviews of each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// Of 100 jobs, how many are medium.
    pub medium_percent: u32,
    /// Of 100 jobs, how many are large.
    pub large_percent: u32,
    /// Fewest and most reviews of a small job.
    pub small: (usize, usize),
    /// Of a medium one.
    pub medium: (usize, usize),
    /// Of a large one.
    pub large: (usize, usize),
}

impl Default for Mix {
    /// Three in four are events: a new review or a few. One in twenty is a restaurant read for the first time.
    fn default() -> Self {
        Self { medium_percent: 20, large_percent: 5, small: (1, 3), medium: (10, 20), large: (60, 100) }
    }
}

impl Mix {
    /// The sizes of `count` jobs in a drawn order: shares are exact, so that two seeds differ in order, not in load.
    pub fn sizes(&self, count: usize, rng: &mut Rng) -> Vec<Size> {
        let of = |percent: u32| (count * percent as usize).div_ceil(100);
        let large = of(self.large_percent).min(count);
        let medium = of(self.medium_percent).min(count - large);
        let mut sizes = vec![Size::Large; large];
        sizes.extend(vec![Size::Medium; medium]);
        sizes.resize(count, Size::Small);
        rng.shuffle(&mut sizes);
        sizes
    }

    fn reviews(&self, size: Size, rng: &mut Rng) -> usize {
        let (least, most) = match size {
            Size::Small => self.small,
            Size::Medium => self.medium,
            Size::Large => self.large,
        };
        rng.usize(least..=most.max(least))
    }
}

/// `count` jobs of mixed sizes from the restaurants' reviews, with a restaurant id of its own for each. All arrive at 0.
pub fn mixed(restaurants: &[Job], mix: &Mix, count: usize, rng: &mut Rng) -> anyhow::Result<Vec<Timed>> {
    let template = restaurants.first().context("no restaurants to cut jobs from")?;
    let mut pool: Vec<&Review> = restaurants.iter().flat_map(|job| &job.reviews).collect();
    let mut texts = std::collections::HashSet::new();
    pool.retain(|review| !review.text.trim().is_empty() && texts.insert(review.text.as_str()));
    rng.shuffle(&mut pool);
    let sizes = mix.sizes(count, rng);
    let wanted: Vec<usize> = sizes.iter().map(|&size| mix.reviews(size, rng)).collect();
    let total: usize = wanted.iter().sum();
    ensure!(
        total <= pool.len(),
        "{count} jobs take {total} reviews, but the files hold {} different ones: ask for fewer jobs",
        pool.len()
    );
    let mut rest = pool.into_iter();
    let jobs = sizes.into_iter().zip(wanted).enumerate().map(|(number, (size, reviews))| {
        let reviews = rest.by_ref().take(reviews).enumerate();
        let job = Job {
            job_id: format!("load-{number}"),
            restaurant_id: format!("load-{number}"),
            restaurant_name: None,
            reviews: reviews.map(|(n, review)| Review { id: format!("r{n}"), ..review.clone() }).collect(),
            ..template.clone()
        };
        Timed { at: 0.0, size, job }
    });
    Ok(jobs.collect())
}

/// Makes the jobs those of few restaurants, one of them hot; later jobs of one restaurant have later epochs.
pub fn share_out(trace: &mut [Timed], restaurants: usize, exponent: f64, rng: &mut Rng) {
    let shares = zipf(restaurants, exponent, trace.len(), rng);
    for (number, (timed, restaurant)) in trace.iter_mut().zip(shares).enumerate() {
        timed.job.restaurant_id = format!("load-restaurant-{restaurant}");
        timed.job.epoch = number as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Job, Mix, Size, mixed, with_a_new_review};

    fn restaurant(reviews: usize) -> Job {
        let review = |n: usize| format!(r#"{{"id":"{n}","text":"Review number {n}."}}"#);
        let reviews: Vec<String> = (0..reviews).map(review).collect();
        let head = r#"{"v":1,"job_id":"j","restaurant_id":"r","analyses":["sentiment"],"reviews":["#;
        let json = format!("{head}{}]}}", reviews.join(","));
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn too_few_reviews_are_said_instead_of_used_twice() {
        let error =
            mixed(&[restaurant(5)], &Mix::default(), 50, &mut fastrand::Rng::with_seed(1)).unwrap_err();
        assert!(error.to_string().contains("ask for fewer jobs"), "{error}");
    }

    #[test]
    fn a_new_review_is_one_more_with_an_id_of_its_own() {
        let (job, other) = (restaurant(3), restaurant(2));
        let next = with_a_new_review(&job, &other);
        assert_eq!((next.reviews.len(), next.epoch), (4, job.epoch + 1));
        assert!(next.validate(&maitred::job::Limits::default()).is_ok());
        assert!(job.reviews.iter().all(|review| review.text != next.reviews[3].text));
    }

    proptest! {
        #[test]
        fn jobs_are_of_the_sizes_asked_for_and_no_review_comes_twice(seed in any::<u64>(), count in 1_usize..40) {
            let jobs = mixed(&[restaurant(900)], &Mix::default(), count, &mut fastrand::Rng::with_seed(seed)).unwrap();
            prop_assert_eq!(jobs.len(), count);
            let mut seen = std::collections::HashSet::new();
            for job in &jobs {
                prop_assert!(job.job.reviews.iter().all(|review| seen.insert(review.text.clone())));
                let reviews = job.job.reviews.len();
                let wanted = match job.size {
                    Size::Small => 1..=3,
                    Size::Medium => 10..=20,
                    Size::Large => 60..=100,
                };
                prop_assert!(wanted.contains(&reviews));
            }
            let large = jobs.iter().filter(|job| job.size == Size::Large).count();
            prop_assert_eq!(large, (count * 5).div_ceil(100));
        }
    }
}
