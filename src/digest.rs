//! Digests by which texts, review sets and jobs are known.
//!
//! Every digest is SHA-256 in lower-case hexadecimal. Parts are hashed with their length in front, so that no two
//! different inputs run together into the same bytes.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::job::{Analysis, Review};

/// Digest of one text: the key of its facts.
pub fn text_digest(text: &str) -> String {
    bytes_digest(text.as_bytes())
}

/// Digest of any bytes: the name of an object.
pub fn bytes_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Digest over the ids and texts of a review set, whatever order they stand in.
///
/// Ratings and dates are left out on purpose: they never reach the model, so a change in them asks for no new
/// reading.
pub fn review_set_digest(reviews: &[Review]) -> String {
    let mut each: Vec<[u8; 32]> =
        reviews.iter().map(|r| of_parts([r.id.as_str(), r.text.as_str()])).collect();
    each.sort_unstable();
    let mut all = Sha256::new();
    for digest in &each {
        all.update(digest);
    }
    hex(&all.finalize())
}

/// Identity of a job that came without one: the same restaurant, epoch, analyses and reviews give the same id,
/// so that working a file twice gives results that replace each other.
pub fn job_id(restaurant_id: &str, epoch: u64, analyses: &[Analysis], review_set_digest: &str) -> String {
    let epoch = epoch.to_string();
    let analyses = analyses.iter().map(|a| a.name()).collect::<Vec<_>>().join("+");
    let digest = of_parts([restaurant_id, &epoch, &analyses, review_set_digest]);
    // 128 bits: collisions stay out of reach for any number of jobs, and the id stays readable in a log.
    format!("j-{}", hex(&digest[..16]))
}

fn of_parts<const N: usize>(parts: [&str; N]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn review(id: &str, text: &str) -> Review {
        Review {
            id: id.into(),
            text: text.into(),
            rating: None,
            recommended: None,
            created_at: None,
            embedding: None,
        }
    }

    #[test]
    fn a_text_digest_is_plain_sha256() {
        // The well-known test vector of FIPS 180-2.
        assert_eq!(text_digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn an_id_and_a_text_never_run_together() {
        assert_ne!(review_set_digest(&[review("a", "bc")]), review_set_digest(&[review("ab", "c")]));
    }

    #[test]
    fn a_rating_does_not_change_the_review_set() {
        let rated = Review { rating: Some(5.0), ..review("a", "b") };
        assert_eq!(review_set_digest(&[rated]), review_set_digest(&[review("a", "b")]));
    }

    #[test]
    fn every_part_of_a_job_changes_its_id() {
        let id = job_id("r", 0, &Analysis::ALL, "d");
        assert_ne!(id, job_id("q", 0, &Analysis::ALL, "d"));
        assert_ne!(id, job_id("r", 1, &Analysis::ALL, "d"));
        assert_ne!(id, job_id("r", 0, &Analysis::ALL[..1], "d"));
        assert_ne!(id, job_id("r", 0, &Analysis::ALL, "e"));
        assert_eq!(id, job_id("r", 0, &Analysis::ALL, "d"));
    }

    proptest! {
        #[test]
        fn the_order_of_reviews_does_not_matter(
            texts in proptest::collection::vec(".{0,12}", 0..8),
            seed in any::<prop::sample::Index>(),
        ) {
            let mut reviews: Vec<_> =
                texts.iter().enumerate().map(|(i, t)| review(&i.to_string(), t)).collect();
            let before = review_set_digest(&reviews);
            if !reviews.is_empty() {
                let by = seed.index(reviews.len());
                reviews.rotate_left(by);
                reviews.reverse();
            }
            prop_assert_eq!(before, review_set_digest(&reviews));
        }

        #[test]
        fn a_changed_text_changes_the_set(text in ".{0,20}", more in ".{1,5}") {
            let grown = format!("{text}{more}");
            prop_assert_ne!(review_set_digest(&[review("a", &text)]), review_set_digest(&[review("a", &grown)]));
        }
    }
}
