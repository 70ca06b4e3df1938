//! What holds for every job, and for every sequence of bytes.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;

const ID: &str = "[a-zA-Z0-9가-힣@:_-]{1,20}";

fn reviews() -> impl Strategy<Value = Vec<Review>> {
    let review = (
        ".{0,40}",
        of(0.5_f32..=5.0),
        any::<Option<bool>>(),
        of(0_i64..4_000_000_000),
        of(vec(-1.0_f32..1.0, 0..4)),
    );
    vec(review, 0..6).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(index, (text, rating, recommended, at, embedding))| Review {
                id: format!("r{index}"),
                text,
                rating,
                recommended,
                created_at: at.map(|at| time::OffsetDateTime::from_unix_timestamp(at).unwrap()),
                embedding,
            })
            .collect()
    })
}

fn jobs() -> impl Strategy<Value = Job> {
    let analyses = prop::sample::subsequence(Analysis::ALL.to_vec(), 1..=3);
    let language = prop::sample::select(vec![None, Some(Language::En), Some(Language::Ko)]);
    let options = (any::<Option<usize>>(), any::<Option<bool>>());
    (ID, ID, of(".{0,20}"), any::<u64>(), analyses, reviews(), language, options).prop_map(
        |(job_id, restaurant_id, restaurant_name, epoch, analyses, reviews, language, (top_k, words))| Job {
            job_id,
            restaurant_id,
            restaurant_name,
            epoch,
            analyses,
            reviews,
            language,
            options: JobOptions { top_k, words, scope: None },
            ..full()
        },
    )
}

/// A body that was a job before some of its bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    (jobs(), any::<bool>(), changes).prop_map(|(job, packed, changes)| {
        let encoding = if packed { Encoding::Msgpack } else { Encoding::Json };
        let mut body = encode_job(&job, encoding).unwrap();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_job_comes_back_as_it_was_written(job in jobs(), packed: bool) {
        let encoding = if packed { Encoding::Msgpack } else { Encoding::Json };
        let body = encode_job(&job, encoding).unwrap();
        let subject = names::job_subject(Lane::Hi, &job.restaurant_id);
        let message = Message { subject: &subject, content_type: None, body: &body };
        let decoded = decode_job(message, &Limits::default());
        prop_assert_eq!(decoded, Ok(Decoded { job, encoding }));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        fuzz::read(&bytes);
    }

    #[test]
    fn a_damaged_job_is_read_or_refused(body in damaged()) {
        fuzz::read(&body);
    }

    #[test]
    fn what_the_walk_passes_ends_where_the_decoder_ends(body in damaged()) {
        // The walk and the decoder agree on where a value ends: otherwise one of them reads past it.
        if skim::fields(&body, |_, _| ()).is_ok() {
            let mut decoder = rmp_serde::Deserializer::new(std::io::Cursor::new(&body));
            let whole = <serde::de::IgnoredAny as serde::Deserialize>::deserialize(&mut decoder);
            prop_assert!(whole.is_ok());
            prop_assert_eq!(decoder.position(), body.len() as u64);
        }
    }
}
