//! Which restaurants there are, and what their latest results say in a line: to find one among thousands.
//!
//! Pure, bounded by [`KEPT`] restaurants. Results may come again and in any order, as they do after a lost connection:
//! the one with the greatest sequence counts.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use time::OffsetDateTime;

use crate::broker::nats::Found;
use crate::page::STATE_VERSION;

/// Restaurants kept; of more, those with the newest results.
pub(super) const KEPT: usize = 20_000;

/// Restaurants that a search found: the whole of `/api/restaurants`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restaurants {
    /// [`STATE_VERSION`].
    pub v: u16,
    /// Those with the newest results, the newest first.
    pub restaurants: Vec<Restaurant>,
    /// How many were found in all.
    pub found: usize,
    /// How many there are.
    pub known: usize,
    /// Whether all results that there are have been read; until then there may be more.
    pub complete: bool,
    /// Results that could not be read.
    pub unreadable: u64,
    /// Why no results are read just now; absent if they are.
    pub fault: Option<String>,
}

/// What a restaurant's latest result says in a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restaurant {
    /// Its id.
    pub restaurant_id: String,
    /// Its name, if the job gave one.
    pub name: Option<String>,
    /// How the job ended: the status word of its outcome.
    pub outcome: &'static str,
    /// Reviews in the job.
    pub reviews: u32,
    /// Share of the reviews that are positive, 0 to 1; absent without sentiment, or where none could be read.
    pub positive: Option<f32>,
    /// Share that is neutral.
    pub neutral: Option<f32>,
    /// Share that is negative.
    pub negative: Option<f32>,
    /// Aspects reported; absent where they were not asked for.
    pub aspects: Option<usize>,
    /// Strengths reported; absent where they were not asked for.
    pub strengths: Option<usize>,
    /// When the result was published (UTC).
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Its sequence in the stream of results.
    pub sequence: u64,
}

/// The latest results in a line each.
#[derive(Debug, Default)]
pub(super) struct Index {
    rows: HashMap<String, (Restaurant, String)>,
    /// The restaurants by the sequence of their results: greatest is newest.
    newest: BTreeMap<u64, String>,
    complete: bool,
    unreadable: u64,
    fault: Option<String>,
}

impl Index {
    /// Reading begins from the start; `complete`: there is nothing to read yet.
    pub(super) fn begin(&mut self, complete: bool) {
        (self.complete, self.unreadable, self.fault) = (complete, 0, None);
    }

    /// A result was read; `complete`: it was the last of those that there were when reading began, or a later one.
    pub(super) fn note(&mut self, found: &Found, complete: bool) {
        self.put(line(found));
        self.complete |= complete;
    }

    /// A result could not be read.
    pub(super) fn note_unreadable(&mut self, complete: bool) {
        self.unreadable += 1;
        self.complete |= complete;
    }

    /// Results cannot be read just now.
    pub(super) fn note_fault(&mut self, fault: String) {
        self.fault = Some(fault);
    }

    /// Those whose name or id holds the text, in whatever case, the newest first, at most `limit`.
    pub(super) fn search(&self, text: &str, limit: usize) -> Restaurants {
        let wanted = text.trim().to_lowercase();
        let mut found = 0;
        let mut restaurants = Vec::new();
        for id in self.newest.values().rev() {
            let Some((row, searched)) = self.rows.get(id) else { continue };
            if searched.contains(&wanted) {
                found += 1;
                if restaurants.len() < limit {
                    restaurants.push(row.clone());
                }
            }
        }
        Restaurants {
            v: STATE_VERSION,
            restaurants,
            found,
            known: self.rows.len(),
            complete: self.complete,
            unreadable: self.unreadable,
            fault: self.fault.clone(),
        }
    }

    fn put(&mut self, row: Restaurant) {
        if let Some((known, _)) = self.rows.get(&row.restaurant_id) {
            if known.sequence >= row.sequence {
                return;
            }
            self.newest.remove(&known.sequence);
        }
        self.newest.insert(row.sequence, row.restaurant_id.clone());
        let searched = format!("{}\n{}", row.restaurant_id, row.name.as_deref().unwrap_or_default());
        self.rows.insert(row.restaurant_id.clone(), (row, searched.to_lowercase()));
        if self.rows.len() > KEPT
            && let Some((_, oldest)) = self.newest.pop_first()
        {
            self.rows.remove(&oldest);
        }
    }
}

fn line(found: &Found) -> Restaurant {
    let result = &found.result;
    let sentiment = result.sentiment.as_ref().filter(|sentiment| sentiment.total > 0);
    Restaurant {
        restaurant_id: result.restaurant_id.clone(),
        name: result.restaurant_name.clone(),
        outcome: result.outcome.status(),
        reviews: result.usage.reviews,
        positive: sentiment.map(|sentiment| sentiment.positive_share),
        neutral: sentiment.map(|sentiment| sentiment.neutral_share),
        negative: sentiment.map(|sentiment| sentiment.negative_share),
        aspects: result.summary.as_ref().map(|summary| summary.aspects.len()),
        strengths: result.strengths.as_ref().map(|strengths| strengths.items.len()),
        at: found.published_at,
        sequence: found.sequence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::sample;
    use proptest::prelude::*;
    use time::macros::datetime;

    fn found(id: &str, name: Option<&str>, sequence: u64) -> Found {
        let mut result = sample::english();
        (result.restaurant_id, result.restaurant_name) = (id.into(), name.map(str::to_owned));
        Found { result, backfill: None, sequence, published_at: datetime!(2026-06-15 12:00 UTC) }
    }

    fn ids(restaurants: &Restaurants) -> Vec<&str> {
        restaurants.restaurants.iter().map(|row| row.restaurant_id.as_str()).collect()
    }

    #[test]
    fn a_restaurant_is_found_by_a_part_of_its_id_or_name_in_whatever_case() {
        let mut index = Index::default();
        index.begin(false);
        index.note(&found("r-1", Some("Blue Door"), 1), false);
        index.note(&found("r-2", Some("가게 한식"), 2), false);
        assert!(!index.search("", 10).complete);
        index.note(&found("r-3", None, 3), true);
        assert!(index.search("", 10).complete);
        assert_eq!(ids(&index.search("", 10)), ["r-3", "r-2", "r-1"]);
        assert_eq!(ids(&index.search(" blue d", 10)), ["r-1"]);
        assert_eq!(ids(&index.search("한식", 10)), ["r-2"]);
        let some = index.search("R-", 2);
        assert_eq!((ids(&some), some.found, some.known), (vec!["r-3", "r-2"], 3, 3));
    }

    #[test]
    fn shares_without_a_single_label_are_absent() {
        let mut unread = found("r", None, 1);
        let sentiment = unread.result.sentiment.as_mut().unwrap();
        (sentiment.positive, sentiment.negative, sentiment.neutral, sentiment.total) = (0, 0, 0, 0);
        assert_eq!(line(&unread).positive, None);
        unread.result.sentiment = None;
        assert_eq!(line(&unread).negative, None);
        assert!(line(&found("r", None, 1)).positive.is_some());
    }

    #[test]
    fn more_than_can_be_kept_forgets_the_oldest() {
        let mut index = Index::default();
        for n in 0..=KEPT as u64 {
            index.put(Restaurant { restaurant_id: n.to_string(), sequence: n, ..line(&found("r", None, 0)) });
        }
        let all = index.search("", 1);
        assert_eq!((all.known, index.newest.len()), (KEPT, KEPT));
        assert!(!index.rows.contains_key("0"));
    }

    proptest! {
        #[test]
        fn the_newest_result_of_each_counts_in_whatever_order_they_come(
            order in Just((1..40_u64).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut index = Index::default();
            let row = line(&found("r", None, 0));
            for sequence in order {
                index.put(Restaurant { restaurant_id: (sequence % 7).to_string(), sequence, ..row.clone() });
            }
            let sequences: Vec<u64> = index.search("", 99).restaurants.iter().map(|row| row.sequence).collect();
            prop_assert_eq!(sequences, (33..40).rev().collect::<Vec<_>>());
            prop_assert_eq!(index.newest.len(), index.rows.len());
        }
    }
}
