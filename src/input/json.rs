//! One JSON object to one job.
//!
//! Read by hand from the parsed value and not by serde's derive: an error must name the path of the field and what
//! to write there. Accepts the plain shape (`restaurant_id, name, reviews`) and a whole [`Job`]; fields that are
//! not known are ignored.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::record::{finish_job, new_job, rating, recommended};
use super::{InputError, InputOptions};
use crate::job::{Job, Review, WIRE_VERSION, parse_time};

/// A field's path and what is wrong with it; the line is added by [`job_of`].
struct Wrong {
    field: String,
    message: String,
}

impl Wrong {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    /// The same error, seen from one level up.
    fn under(self, parent: &str) -> Self {
        Self { field: format!("{parent}.{}", self.field), ..self }
    }
}

/// Reads the job that a line holds.
pub fn job_of(text: &str, line: u64, options: &InputOptions) -> Result<Job, InputError> {
    let value: Value =
        serde_json::from_str(text).map_err(|e| InputError::NotJson { line, message: reason(&e) })?;
    let Value::Object(mut fields) = value else {
        let message = format!("found {}, not an object", kind(&value));
        return Err(InputError::NotJson { line, message });
    };
    if let Some(found) = fields.get("v").and_then(Value::as_u64).filter(|v| *v > u64::from(WIRE_VERSION)) {
        return Err(InputError::NewerVersion { line, found, max: WIRE_VERSION });
    }
    let job = job(&mut fields, options).map_err(|Wrong { field, message }| InputError::Field {
        line,
        field,
        message,
    })?;
    finish_job(job, line, &options.limits)
}

fn job(fields: &mut Map<String, Value>, options: &InputOptions) -> Result<Job, Wrong> {
    let restaurant_id = id(fields, "restaurant_id")?;
    let name = match text(fields, "restaurant_name")? {
        Some(name) => Some(name),
        None => text(fields, "name")?,
    };
    let mut job = new_job(&options.job, restaurant_id, name, reviews(fields)?);
    if fields.get("job_id").is_some_and(|v| !v.is_null()) {
        job.job_id = id(fields, "job_id")?;
    }
    if let Some(epoch) = typed(fields, "epoch", "a whole number")? {
        job.epoch = epoch;
    }
    if let Some(analyses) = typed(fields, "analyses", "a list of sentiment, summary, strengths")? {
        job.analyses = analyses;
    }
    if let Some(language) = typed(fields, "language", "\"en\" or \"ko\"")? {
        job.language = Some(language);
    }
    if let Some(own) = typed::<crate::job::JobOptions>(fields, "options", "an object of job options")? {
        job.options.top_k = own.top_k.or(job.options.top_k);
        job.options.scope = own.scope.or(job.options.scope);
        job.options.words = own.words.or(job.options.words);
    }
    job.deadline = text(fields, "deadline")?.as_deref().and_then(parse_time);
    job.enqueued_at = text(fields, "enqueued_at")?.as_deref().and_then(parse_time);
    Ok(job)
}

fn reviews(fields: &mut Map<String, Value>) -> Result<Vec<Review>, Wrong> {
    match fields.remove("reviews") {
        Some(Value::Array(items)) => items
            .into_iter()
            .enumerate()
            .map(|(i, item)| review(item).map_err(|wrong| wrong.under(&format!("reviews[{i}]"))))
            .collect(),
        Some(other) => Err(Wrong::new("reviews", format!("found {}; write a list of reviews", kind(&other)))),
        None => Err(Wrong::new("reviews", "is missing; write a list of reviews, empty if there are none")),
    }
}

fn review(item: Value) -> Result<Review, Wrong> {
    let Value::Object(mut fields) = item else {
        return Err(Wrong::new("", format!("found {}; write an object with `id` and `text`", kind(&item))));
    };
    let id = id(&mut fields, "id")?;
    if !fields.contains_key("text") {
        return Err(Wrong::new("text", "is missing; write the review's words, \"\" if there are none"));
    }
    Ok(Review {
        id,
        // A guest who gave stars and no words: `null` in many exports.
        text: text(&mut fields, "text")?.unwrap_or_default(),
        rating: fields.get("rating").and_then(number).and_then(rating),
        recommended: match fields.get("recommended") {
            Some(Value::String(text)) => recommended(text),
            Some(other) => other.as_bool(),
            None => None,
        },
        created_at: fields.get("created_at").and_then(Value::as_str).and_then(parse_time),
        embedding: typed(&mut fields, "embedding", "a list of numbers")?,
    })
}

/// An id: a string, or a whole number as databases export them.
fn id(fields: &mut Map<String, Value>, name: &str) -> Result<String, Wrong> {
    match fields.remove(name) {
        Some(Value::String(id)) if !id.is_empty() => Ok(id),
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => Ok(number.to_string()),
        Some(Value::String(_)) => Err(Wrong::new(name, "is empty; write an id that is unique and lasting")),
        Some(other) => Err(Wrong::new(name, format!("found {}; write a string", kind(&other)))),
        None => Err(Wrong::new(name, "is missing; write an id that is unique and lasting")),
    }
}

/// A string; `None` if the field is absent or `null`.
fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Wrong> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Wrong::new(name, format!("found {}; write a string", kind(&other)))),
    }
}

/// A value of a wire type; `None` if the field is absent or `null`.
fn typed<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
    allowed: &str,
) -> Result<Option<T>, Wrong> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value)
            .map(Some)
            .map_err(|e| Wrong::new(name, format!("{e}; write {allowed}"))),
    }
}

/// A number, also one in quotes.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// serde_json's message without its "line 1", which would contradict ours.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cause = text.split(" at line ").next().unwrap_or_default();
    format!("{cause} at column {}", error.column())
}
