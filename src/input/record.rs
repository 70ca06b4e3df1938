//! From the parts of an input to a checked job: what JSONL and CSV have in common.

use super::{InputError, JobTemplate};
use crate::digest;
use crate::job::{Job, Limits, Review, WIRE_VERSION};

/// Makes the job of a restaurant that brought no job of its own.
pub fn new_job(
    template: &JobTemplate,
    restaurant_id: String,
    name: Option<String>,
    reviews: Vec<Review>,
) -> Job {
    Job {
        v: WIRE_VERSION,
        job_id: String::new(),
        restaurant_id,
        restaurant_name: name.filter(|name| !name.trim().is_empty()),
        epoch: 0,
        analyses: template.analyses.clone(),
        reviews,
        reviews_ref: None,
        language: template.language,
        deadline: None,
        options: template.options.clone(),
        enqueued_at: None,
    }
}

/// Gives the job an id if it has none, and checks it.
pub fn finish_job(mut job: Job, line: u64, limits: &Limits) -> Result<Job, InputError> {
    if job.job_id.is_empty() {
        let set = digest::review_set_digest(&job.reviews);
        job.job_id = digest::job_id(&job.restaurant_id, job.epoch, &job.analyses, &set);
    }
    job.validate(limits).map_err(|cause| InputError::Job { line, cause })?;
    Ok(job)
}

/// Stars up to 5; half-star scales begin at 0.5. What is outside is not a rating (0 often stands for "none given")
/// and counts as unknown, like an unreadable date: the stars only serve to check the labels.
pub fn rating(stars: f64) -> Option<f32> {
    (stars > 0.0 && stars <= 5.0).then_some(stars as f32)
}

/// `true` or `false` in the words that exports use.
pub fn recommended(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" => Some(true),
        "false" | "0" | "no" | "n" => Some(false),
        _ => None,
    }
}
