//! The step from raw to validated: one value at a time, each problem noted with its key, value and origin.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

use super::layers::{Layers, switch};
use super::{ConfigError, Problem};

/// Reads values by key. A bad value is noted and its default stands in, so that one run names every problem;
/// [`Reader::finish`] then refuses the whole.
pub struct Reader<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
    read: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    pub fn new(layers: &'a Layers) -> Self {
        Self { layers, problems: Vec::new(), read: BTreeSet::new() }
    }

    /// A value that `parse` understands; `allowed` completes the sentence "use …".
    pub fn value<T>(&mut self, key: &'static str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        self.read.insert(key);
        if let Some(value) = parse(self.entry(key).text.trim()) {
            return value;
        }
        self.problem(key, format!("use {allowed}"));
        let default = &self.layers.defaults[key].text;
        // `the_defaults_are_valid` reads every default.
        parse(default).expect("the default is valid")
    }

    /// A number within a range.
    pub fn number<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + Display,
    {
        let allowed = format!("a number from {} to {}", range.start(), range.end());
        self.value(key, &allowed, |text| text.parse().ok().filter(|n| range.contains(n)))
    }

    /// `true` or `false`.
    pub fn switch(&mut self, key: &'static str) -> bool {
        self.value(key, "true or false", switch)
    }

    /// Text that is not empty.
    pub fn text(&mut self, key: &'static str) -> String {
        self.value(key, "a text that is not empty", |text| (!text.is_empty()).then(|| text.to_owned()))
    }

    /// A duration that is not zero.
    pub fn duration(&mut self, key: &'static str) -> Duration {
        self.value(key, "a duration above zero such as \"500ms\", \"2s\" or \"5m\"", parse_duration)
    }

    /// A size in bytes that is not zero and that this machine can address.
    pub fn bytes(&mut self, key: &'static str) -> usize {
        self.value(key, "a size above zero such as \"64 MiB\"", |text| {
            let bytes = text.parse::<ByteSize>().ok()?.as_u64();
            usize::try_from(bytes).ok().filter(|n| *n > 0)
        })
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> T {
        let names: Vec<String> = words.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.value(key, &names.join(" or "), |text| {
            words.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
        })
    }

    /// Notes that a value does not go with the others.
    pub fn problem(&mut self, key: &'static str, message: String) {
        let entry = self.entry(key);
        let (value, origin) = (entry.shown(), entry.origin.clone());
        self.problems.push(Problem { key: key.to_owned(), value, origin, message });
    }

    /// Hands over what was built from the values, unless there was a problem.
    pub fn finish<T>(self, built: T) -> Result<T, ConfigError> {
        debug_assert!(
            self.layers.defaults.keys().all(|key| self.read.contains(key.as_str())),
            "every key in defaults.toml must be read"
        );
        if self.problems.is_empty() { Ok(built) } else { Err(ConfigError::Problems(self.problems)) }
    }

    fn entry(&self, key: &str) -> &'a super::Entry {
        // Keys are literals of this module's parent; the debug assertion in `finish` and `the_defaults_are_valid`
        // hold them and defaults.toml together.
        &self.layers.in_force[key]
    }
}

/// A duration that is not zero.
pub fn parse_duration(text: &str) -> Option<Duration> {
    humantime_serde::re::humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero())
}
