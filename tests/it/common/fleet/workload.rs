//! Restaurants to submit: made up from a seed, or the real ones where they are at hand.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use maitred_testkit::variable;

/// Made-up restaurants. The same seed gives the same reviews, byte for byte.
#[derive(Debug, Clone)]
pub struct Workload {
    pub restaurants: Vec<Value>,
}

const OPENINGS: [&str; 8] = [
    "We came on a weekday evening",
    "Third visit this year",
    "A friend had told us about this place",
    "Booked a table for six",
    "Just a quick lunch",
    "It rained and we walked in",
    "My parents were in town",
    "Ordered for delivery",
];

const FINDINGS: [&str; 16] = [
    "the dumplings were juicy and hot",
    "the soup tasted of nothing",
    "our waiter was kind and quick",
    "nobody looked at us for half an hour",
    "the bill was fair for so much food",
    "far too expensive for such a small plate",
    "the room is quiet and warm",
    "the music was so loud that we left early",
    "the noodles had just the right bite",
    "the fish was dry",
    "they remembered my allergy",
    "the order was wrong twice",
    "the dessert alone is worth the trip",
    "the tables were sticky",
    "it arrived still steaming",
    "parking is hard to find",
];

impl Workload {
    /// Restaurants `<seed>-0000`, `<seed>-0001`, … with few or many reviews of one or several sentences: most are
    /// small, some are ten times as large, as on a real platform.
    pub fn new(seed: u64, restaurants: usize) -> Self {
        Self::with(seed, restaurants, |random| match random.u8(..10) {
            0 => random.usize(20..40),
            1..4 => random.usize(6..12),
            _ => random.usize(1..5),
        })
    }

    /// With as many reviews for each as the function says.
    pub fn with(seed: u64, restaurants: usize, reviews: impl Fn(&mut fastrand::Rng) -> usize) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let restaurants = (0..restaurants).map(|n| {
            let id = format!("r{seed}-{n:04}");
            let count = reviews(&mut random);
            let reviews: Vec<Value> = (0..count).map(|k| review(&mut random, &id, k)).collect();
            json!({"restaurant_id": id, "name": format!("Kitchen {n}"), "reviews": reviews})
        });
        let restaurants = restaurants.collect();
        Self { restaurants }
    }

    /// The restaurants' ids, in order.
    pub fn ids(&self) -> Vec<String> {
        self.restaurants.iter().map(|r| r["restaurant_id"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Writes them as `maitred submit` and `maitred analyze` read them, one line each.
    pub fn write(&self, path: &Path) {
        let lines: Vec<String> = self.restaurants.iter().map(Value::to_string).collect();
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
    }
}

fn review(random: &mut fastrand::Rng, restaurant: &str, k: usize) -> Value {
    let sentences = random.usize(1..5);
    let mut text = format!("{} and ", OPENINGS[random.usize(..OPENINGS.len())]);
    for n in 0..sentences {
        let finding = FINDINGS[random.usize(..FINDINGS.len())];
        text.push_str(if n > 0 { " Also, " } else { "" });
        text.push_str(finding);
        text.push('.');
    }
    json!({
        "id": format!("{restaurant}-{k}"),
        "text": text,
        "rating": random.u8(1..=5),
        "created_at": format!("2026-{:02}-{:02}T12:00:00Z", random.u8(1..=9), random.u8(1..=28)),
    })
}

/// A file of real restaurants: the one that `MAITRED_TEST_RESTAURANTS` names, else the one in the shared folder beside
/// the clone. `None`, said on stderr, where there is none: the reviews are not ours to hand on.
pub fn real_restaurants() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/restaurants-en.jsonl");
    let path = variable("MAITRED_TEST_RESTAURANTS").unwrap_or(beside);
    if path.is_file() {
        return path.canonicalize().ok();
    }
    // No failure under CI: no script can fetch these, so that CI must do without them.
    eprintln!("SKIPPED: no real restaurants at {}, name a file in MAITRED_TEST_RESTAURANTS", path.display());
    None
}
