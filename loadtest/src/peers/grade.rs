//! Whether an answer is one, and how well it keeps to the reviews. Pure.
//!
//! An answer is valid if it parses, has the keys asked for, and says something: counts that are not all zero, or at
//! least one claim. Whether quotes are verbatim is counted and does not decide: a peer checks nothing, that is its
//! way, and the share is part of the comparison.

use maitred::job::Review;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Task;
use super::prompts::one_line;

/// How strictly an answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The whole text is the JSON asked for, as a grammar guarantees unless the answer was cut.
    Exact,
    /// The first JSON value in the text, fences, talk and trailing commas aside; findings may be in an object.
    Free,
}

/// Why an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// The text cannot be parsed.
    NotJson,
    /// It is JSON of another shape.
    Keys,
    /// It counts no review at all.
    NoCounts,
    /// It says nothing.
    NoClaims,
}

impl Invalid {
    /// In words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotJson => "not JSON",
            Self::Keys => "a key is missing or of the wrong kind",
            Self::NoCounts => "all counts are zero",
            Self::NoClaims => "no claim",
        }
    }
}

/// A claim or a strength.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it says.
    pub claim: String,
    /// What it rests on.
    pub quotes: Vec<String>,
    /// Numbers of reviews that it names, as the prompt counts them.
    pub reviews: Vec<u64>,
}

/// An answer that is valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Reviews by sentiment.
    Counts {
        /// Positive ones.
        positive: u64,
        /// Negative ones.
        negative: u64,
    },
    /// Claims by aspect, or strengths.
    Findings(Vec<Finding>),
}

impl Answer {
    /// Its findings; counts have none.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Counts { .. } => &[],
            Self::Findings(findings) => findings,
        }
    }
}

/// Reads what was answered to a task.
pub fn read(task: Task, text: &str, form: Form) -> Result<Answer, Invalid> {
    let value = match form {
        Form::Exact => serde_json::from_str(text).ok(),
        Form::Free => {
            first_value(text).and_then(|json| serde_json::from_str(&without_trailing_commas(json)).ok())
        }
    };
    let value: Value = value.ok_or(Invalid::NotJson)?;
    match task {
        Task::Sentiment => counts(&value),
        Task::Summary => findings(&value, &["claim", "aspect"], form),
        Task::Strengths => findings(&value, &["strength"], form),
    }
}

fn counts(value: &Value) -> Result<Answer, Invalid> {
    let count = |key: &str| value.get(key).and_then(Value::as_u64).ok_or(Invalid::Keys);
    let (positive, negative) = (count("positive")?, count("negative")?);
    if positive == 0 && negative == 0 {
        return Err(Invalid::NoCounts);
    }
    Ok(Answer::Counts { positive, negative })
}

/// `keys`: texts that each item must have, the claim first.
fn findings(value: &Value, keys: &[&str], form: Form) -> Result<Answer, Invalid> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        // One finding without its list, or the list under some name.
        Value::Object(object) if form == Form::Free && object.contains_key(keys[0]) => {
            std::slice::from_ref(value)
        }
        Value::Object(object) if form == Form::Free => {
            object.values().find_map(Value::as_array).map(Vec::as_slice).ok_or(Invalid::Keys)?
        }
        _ => return Err(Invalid::Keys),
    };
    let found = items.iter().map(|item| finding(item.as_object()?, keys)).collect::<Option<Vec<_>>>();
    let mut found = found.ok_or(Invalid::Keys)?;
    found.retain(|finding| !finding.claim.trim().is_empty());
    if found.is_empty() { Err(Invalid::NoClaims) } else { Ok(Answer::Findings(found)) }
}

fn finding(item: &Map<String, Value>, keys: &[&str]) -> Option<Finding> {
    let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    let claim = text(keys[0])?;
    keys.iter().all(|key| text(key).is_some()).then_some(())?;
    let one_or_more = |key: &str| match item.get(key) {
        Some(Value::Array(values)) => values.clone(),
        Some(value) => vec![value.clone()],
        None => Vec::new(),
    };
    let quotes = one_or_more("quote").iter().map(|quote| Some(quote.as_str()?.to_owned())).collect();
    let quotes: Vec<String> = Option::filter(quotes, |quotes: &Vec<_>| !quotes.is_empty())?;
    let reviews = one_or_more("review").iter().filter_map(Value::as_u64).collect();
    Some(Finding { claim, quotes, reviews })
}

/// The first balanced object or array in a text. Brackets inside strings do not count.
fn first_value(text: &str) -> Option<&str> {
    let begin = text.find(['{', '['])?;
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, c) in text[begin..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => {
                // The first character opened one, so there is one to close.
                depth -= 1;
                if depth == 0 {
                    return Some(&text[begin..=begin + at]);
                }
            }
            _ => {}
        }
    }
    None
}

/// Without commas right before a closing bracket, outside of strings.
fn without_trailing_commas(json: &str) -> String {
    let mut kept = String::with_capacity(json.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in json.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' | ']' if !quoted && kept.trim_end().ends_with(',') => {
                kept.truncate(kept.trim_end().len() - 1);
            }
            _ => {}
        }
        kept.push(c);
    }
    kept
}

/// How well an answer keeps to the reviews it was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Quotes given.
    pub quotes: u64,
    /// Of those, the ones that some review holds word for word, line breaks aside.
    pub verbatim: u64,
    /// Of those, the ones that a review which the finding names holds.
    pub attributed: u64,
}

impl Evidence {
    /// Of the findings, against the reviews in the order of their numbers.
    pub fn of(findings: &[Finding], reviews: &[&Review]) -> Self {
        let texts: Vec<String> = reviews.iter().map(|review| one_line(&review.text)).collect();
        let mut evidence = Self::default();
        for finding in findings {
            for quote in finding.quotes.iter().map(|quote| one_line(quote)) {
                let holds = |text: &String| !quote.is_empty() && text.contains(&quote);
                let named =
                    |number: &u64| (*number as usize).checked_sub(1).and_then(|index| texts.get(index));
                evidence.quotes += 1;
                evidence.verbatim += u64::from(texts.iter().any(holds));
                evidence.attributed += u64::from(finding.reviews.iter().filter_map(named).any(holds));
            }
        }
        evidence
    }

    /// Counts another answer's too.
    pub fn add(&mut self, other: Self) {
        self.quotes += other.quotes;
        self.verbatim += other.verbatim;
        self.attributed += other.attributed;
    }
}

/// Share of positive among positive and negative, 0 to 1; `None` where there is neither.
pub fn positive_share(positive: u64, negative: u64) -> Option<f64> {
    let judged = positive + negative;
    (judged > 0).then(|| positive as f64 / judged as f64)
}

/// The positive share by the stars: 4 and more are positive, 2 and fewer negative, what lies between says neither.
/// `None` where no review has such stars.
pub fn share_by_stars<'a>(reviews: impl IntoIterator<Item = &'a Review>) -> Option<f64> {
    let (mut positive, mut negative) = (0, 0);
    for stars in reviews.into_iter().filter_map(|review| review.rating) {
        positive += u64::from(stars >= 4.0);
        negative += u64::from(stars <= 2.0);
    }
    positive_share(positive, negative)
}

/// How far an answered share is from the stars of the reviews that it was made from, 0 to 1. For maitred's share too.
pub fn share_error<'a>(answered: f64, reviews: impl IntoIterator<Item = &'a Review>) -> Option<f64> {
    share_by_stars(reviews).map(|stars| (answered - stars).abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn review(text: &str, stars: Option<f32>) -> Review {
        let mut review: Review = serde_json::from_str(r#"{"id": "r", "text": ""}"#).unwrap();
        text.clone_into(&mut review.text);
        review.rating = stars;
        review
    }

    fn summary(text: &str, form: Form) -> Result<Answer, Invalid> {
        read(Task::Summary, text, form)
    }

    const ITEM: &str = r#"{"aspect": "food", "claim": "Good soup.", "quote": "so, [good] }", "review": 2}"#;

    #[test]
    fn counts_are_valid_unless_both_are_zero() {
        let read = |text| read(Task::Sentiment, text, Form::Exact);
        let counted = Answer::Counts { positive: 3, negative: 0 };
        assert_eq!(read(r#"{"positive": 3, "negative": 0}"#), Ok(counted));
        assert_eq!(read(r#"{"positive": 0, "negative": 0}"#), Err(Invalid::NoCounts));
        assert_eq!(read(r#"{"positive": 3}"#), Err(Invalid::Keys));
        assert_eq!(read(r#"{"positive": "3", "negative": 1}"#), Err(Invalid::Keys));
        assert_eq!(read(r#"{"positive": 3, "#), Err(Invalid::NotJson));
    }

    #[test]
    fn findings_need_their_keys_and_a_claim() {
        assert!(summary(&format!("[{ITEM}]"), Form::Exact).is_ok());
        assert_eq!(summary(r#"[{"aspect": "food", "claim": "Good."}]"#, Form::Exact), Err(Invalid::Keys));
        assert_eq!(summary(r#"[{"claim": "Good.", "quote": "good"}]"#, Form::Exact), Err(Invalid::Keys));
        let blank = r#"[{"aspect": "food", "claim": " ", "quote": "good"}]"#;
        assert_eq!(summary(blank, Form::Exact), Err(Invalid::NoClaims));
        assert_eq!(summary("[]", Form::Exact), Err(Invalid::NoClaims));
    }

    #[test]
    fn free_answers_may_be_fenced_or_wrapped_and_exact_ones_may_not() {
        let strict = summary(&format!("[{ITEM}]"), Form::Exact).unwrap();
        for text in [
            format!("Here it is:\n```json\n[{ITEM},]\n```\nEnjoy! {{"),
            format!(r#"{{"aspects": [{ITEM} , ], "n": 1,}}"#),
            ITEM.to_owned(),
        ] {
            assert_eq!(summary(&text, Form::Free).as_ref(), Ok(&strict), "{text}");
            assert!(summary(&text, Form::Exact).is_err(), "{text}");
        }
        assert_eq!(summary(&format!("[{ITEM}, "), Form::Free), Err(Invalid::NotJson));
    }

    #[test]
    fn a_quote_is_verbatim_in_any_review_and_attributed_in_the_one_named() {
        let reviews = [review("So good,\n really so good.", None), review("Cold soup.", None)];
        let finding = |quote: &str, number| Finding {
            claim: "c".into(),
            quotes: vec![quote.into()],
            reviews: vec![number],
        };
        let findings = [
            finding("good, really", 1),
            finding("Cold", 1),
            finding("warm", 2),
            finding("", 1),
            finding("soup", 9),
        ];
        let seen = Evidence::of(&findings, &reviews.each_ref());
        assert_eq!(seen, Evidence { quotes: 5, verbatim: 3, attributed: 1 });
    }

    #[test]
    fn the_share_by_stars_leaves_out_what_lies_between() {
        let reviews = [5.0, 4.0, 3.5, 3.0, 2.0].map(|stars| review("r", Some(stars)));
        let error = share_error(0.5, &reviews).unwrap();
        assert!((error - (2.0 / 3.0 - 0.5)).abs() < 1e-12);
        assert_eq!(share_error(0.5, &[review("r", None), review("r", Some(3.0))]), None);
        assert_eq!(positive_share(0, 0), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in r#"[\[\]{}",:\\a1 \n한]{0,40}"#) {
            for task in Task::ALL {
                // What it says does not matter here.
                let _ = read(task, &text, Form::Free);
            }
        }

        #[test]
        fn json_without_trailing_commas_stays_as_it_is(text in r#"[\[\]{},"\\a ]{0,20}"#) {
            let json = serde_json::to_string(&serde_json::json!({"a": [text, 1], "b": {}})).unwrap();
            prop_assert_eq!(without_trailing_commas(&json), json.clone());
            prop_assert_eq!(first_value(&json), Some(json.as_str()));
        }
    }
}
