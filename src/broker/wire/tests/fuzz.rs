//! The decoder against bytes that somebody, or chance, has made.
//!
//! The corpus in `tests/corpus/job/` is replayed by every run. The long form mutates it for as long as it is told:
//! `FUZZ_SECONDS=180 cargo nextest run --run-ignored only mutated_corpus`. It prints its seed, and a body that breaks
//! a rule is written into the corpus, so that it stays.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/job");
    let mut paths: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Reads the bytes as everything that comes from outside, and checks what must hold whatever they are.
pub(super) fn read(bytes: &[u8]) {
    for content_type in [None, Some(names::MSGPACK), Some(names::JSON)] {
        match decode_as(content_type, bytes) {
            Ok(Decoded { job, encoding }) => {
                assert_eq!(job.validate(&Limits::default()), Ok(()));
                let again = encode_job(&job, encoding).unwrap();
                assert_eq!(decode(&again), Ok(Decoded { job, encoding }));
            }
            Err(Refusal::Newer { v }) => assert!(v > u64::from(WIRE_VERSION)),
            Err(Refusal::Permanent { code, message }) => {
                assert!(codes::ALL.contains(&code), "{code}");
                assert!(message.len() < 600, "{message}");
                assert!(!message.chars().any(char::is_control), "{message:?}");
            }
        }
        let _ = decode_result(content_type, bytes);
    }
    let reference = ReviewsRef { object: "o".into(), sha256: "ab".repeat(32), bytes: 1, reviews: 1 };
    let referring = Job { reviews: Vec::new(), reviews_ref: Some(reference), ..full() };
    let _ = attach_reviews(referring, bytes, &Limits::default());
    let _ = DeadLetter::decode(bytes);
}

#[test]
fn the_corpus_is_read_or_refused() {
    let corpus = corpus();
    assert!(corpus.len() >= 20, "{} files", corpus.len());
    for (path, bytes) in &corpus {
        assert!(catch_unwind(|| read(bytes)).is_ok(), "{}", path.display());
    }
    // It holds both what is read and what is refused, or mutating it would not go deep.
    let read = corpus.iter().filter(|(_, bytes)| decode(bytes).is_ok()).count();
    assert!((3..corpus.len()).contains(&read), "{read} are read");
}

#[test]
#[ignore = "runs for FUZZ_SECONDS"]
fn a_mutated_corpus_is_read_or_refused() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("FUZZ_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let corpus: Vec<Vec<u8>> = corpus().into_iter().map(|(_, bytes)| bytes).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut bodies, mut jobs) = (0_u64, 0_u64);
    while Instant::now() < end {
        let body = mutated(&corpus, &mut random);
        if catch_unwind(AssertUnwindSafe(|| read(&body))).is_err() {
            let name = crate::digest::text_digest(&format!("{body:?}"));
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/job").join(&name[..16]);
            std::fs::write(&path, &body).unwrap();
            panic!("a rule was broken by {}", path.display());
        }
        bodies += 1;
        jobs += u64::from(decode(&body).is_ok());
    }
    eprintln!("{bodies} bodies, {jobs} of them jobs");
    assert!(jobs > 0, "nothing that was tried was a job: the mutations only scratch the surface");
}

fn mutated(corpus: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let pick = |random: &mut fastrand::Rng| &corpus[random.usize(..corpus.len())];
    let mut body = pick(random).clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=body.len());
        match random.u8(..7) {
            0 if at < body.len() => body[at] = random.u8(..),
            1 if at < body.len() => body[at] ^= 1 << random.u8(..8),
            2 => body.insert(at, random.u8(..)),
            3 if at < body.len() => drop(body.remove(at)),
            4 => body.truncate(at),
            // A header of each kind with a length that nobody can hold.
            5 => {
                let header = [0xdf, 0xdd, 0xdb, 0xc6, 0xc9][random.usize(..5)];
                body.splice(at..at, [header, random.u8(..), random.u8(..), 0xff, 0xff]);
            }
            // A part of another body.
            6 => {
                let other = pick(random);
                let from = random.usize(..=other.len());
                let to = random.usize(from..=other.len()).min(from + 64);
                body.splice(at..at, other[from..to].iter().copied());
            }
            _ => {}
        }
    }
    body
}
