//! Memory hangs on the largest restaurant, not on the length of the file.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use crate::analyze::program::{FAST, Place, Ran};

const RESTAURANTS: usize = 10;
const REVIEWS: usize = 40;
/// What a review may have at most.
const CHARS: usize = 20_000;

/// Reviews as long as they may be, padded as exports pad their columns, with the same few words in all restaurants: a
/// long file that is read quickly. Eight megabytes a round.
fn line(number: usize) -> String {
    let texts =
        ["The soup was good.", "The waiter was rude.", "Delicious soup.", "Too loud, but a fair price."];
    let reviews: Vec<_> = (0..REVIEWS)
        .map(|n| {
            let text = texts[n % texts.len()];
            json!({"id": format!("v-{n}"), "text": format!("{text:CHARS$}")})
        })
        .collect();
    json!({"restaurant_id": format!("r-{number}"), "reviews": reviews}).to_string()
}

/// Highest memory of a run over so many rounds of restaurants, streamed in.
fn peak(place: &Place, rounds: usize) -> u64 {
    let mut command =
        place.command(&["-", "--no-words", "--cache", "none", "--stats", "stats.json", "--format", "json"]);
    let mut child = command
        .env("MAITRED__STORE__MEMORY_LIMIT", "1 MiB")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for number in 0..rounds * RESTAURANTS {
        writeln!(stdin, "{}", line(number)).unwrap();
    }
    drop(stdin);
    Ran::from(child.wait_with_output().unwrap()).ended(0);
    let stats = place.stats("stats.json");
    assert_eq!(stats.restaurants.ok as usize, rounds * RESTAURANTS);
    assert!(stats.usage.reviews_read <= 4 * 4, "the same words were read {} times", stats.usage.reviews_read);
    stats.peak_memory_bytes.unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn peak_memory_does_not_grow_with_the_length_of_the_input() {
    let Some(place) = Place::with(FAST) else { return };
    let (short, long) = (peak(&place, 1), peak(&place, 20));
    // The long input has 152 MB more, twice and more of what is allowed.
    assert!(
        long <= short + short / 10 + 30_000_000,
        "{short} bytes, {long} bytes at twenty times the length"
    );
}
