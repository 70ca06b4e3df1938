//! What a scrape of `/metrics` shows.

use std::collections::BTreeMap;

use crate::fleet::worker_faults::team::Member;

/// One scrape.
pub struct Scrape {
    pub text: String,
    /// Values by series, as they are written.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    #[track_caller]
    pub fn of(worker: &Member) -> Self {
        let (code, text) = worker.health("/metrics").expect("a worker that answers");
        assert_eq!(code, 200, "{text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        });
        let samples = samples.collect();
        Self { text, samples }
    }

    /// Whether the metric has a series.
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The sum over a metric's series whose labels contain all of `labels`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let chosen = self.all(name).filter(|(series, _)| labels.iter().all(|label| series.contains(label)));
        chosen.map(|(_, value)| value).sum()
    }

    fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = (&'s String, &'s f64)> {
        self.samples.iter().filter(move |(series, _)| series.split('{').next() == Some(name))
    }
}
