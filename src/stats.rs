//! What a run did and what it cost: the figures behind `--stats` and the closing table.
//!
//! Counts are sums over results; nothing that was not worked counts as a success. Rates are over wall time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::Analysis;
use crate::result::{AnalysisResult, ModelInfo, Outcome, Usage};

/// Figures of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunStats {
    /// The models of the results; absent before the first one.
    pub model: Option<ModelInfo>,
    /// How the restaurants ended.
    pub restaurants: OutcomeCounts,
    /// How each analysis ended.
    pub analyses: BTreeMap<Analysis, OutcomeCounts>,
    /// Lines and restaurants of the input that could not be used.
    pub refused: u64,
    /// Whether the run was ended early by the user.
    pub interrupted: bool,
    /// Sum over the results.
    pub usage: Usage,
    /// Wall time from the first read to the last result, in seconds; without loading the models.
    pub wall_seconds: f64,
    /// Time until the models were ready, in seconds.
    pub start_seconds: f64,
    /// Restaurants with a result per second of wall time.
    pub restaurants_per_second: f64,
    /// Reviews of these restaurants, known ones too, per second of wall time.
    pub reviews_per_second: f64,
    /// Computed, forced and generated tokens per second of wall time.
    pub tokens_per_second: f64,
    /// `1 - (prompt_tokens + forced_tokens) / baseline_tokens`: what was saved against putting all reviews into
    /// the prompt of each analysis. Absent without a baseline; negative if more was spent.
    pub token_saving: Option<f64>,
    /// Time to the first answer of a restaurant, queue wait included; absent if no model was asked.
    pub ttft: Option<Latency>,
    /// Work that met the SLA; absent if no model was asked.
    pub goodput: Option<Goodput>,
    /// Highest resident memory of the process in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

/// How many ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeCounts {
    /// Worked in full.
    pub ok: u64,
    /// Worked with some reviews unread.
    pub partial: u64,
    /// Nothing changed.
    pub unchanged: u64,
    /// Nothing to work on.
    pub no_data: u64,
    /// A newer epoch exists.
    pub stale: u64,
    /// Could not be worked.
    pub failed: u64,
}

impl OutcomeCounts {
    /// Counts one.
    pub fn add(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Ok => &mut self.ok,
            Outcome::Partial { .. } => &mut self.partial,
            Outcome::Unchanged => &mut self.unchanged,
            Outcome::NoData => &mut self.no_data,
            Outcome::Stale => &mut self.stale,
            Outcome::Failed { .. } => &mut self.failed,
        } += 1;
    }

    /// All of them.
    pub const fn total(&self) -> u64 {
        self.ok + self.partial + self.unchanged + self.no_data + self.stale + self.failed
    }

    /// Those that are not zero, by name, in the order of the fields.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("ok", self.ok),
            ("partial", self.partial),
            ("unchanged", self.unchanged),
            ("no data", self.no_data),
            ("stale", self.stale),
            ("failed", self.failed),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }
}

/// A spread of times, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half were faster.
    pub p50_seconds: f64,
    /// 95 of 100 were faster.
    pub p95_seconds: f64,
}

/// What met the SLA.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Goodput {
    /// Longest time to the first answer that counts as good, in seconds.
    pub sla_ttft_seconds: f64,
    /// Share of the restaurants that met it, 0 to 1.
    pub compliance: f64,
    /// Restaurants that met it per second of wall time.
    pub restaurants_per_second: f64,
    /// Tokens of these per second of wall time.
    pub tokens_per_second: f64,
}

impl RunStats {
    /// Counts one result.
    pub fn add(&mut self, result: &AnalysisResult) {
        self.restaurants.add(&result.outcome);
        for (analysis, outcome) in &result.outcomes {
            self.analyses.entry(*analysis).or_default().add(outcome);
        }
        self.usage.add(&result.usage);
        if self.model.is_none() {
            self.model = Some(result.model.clone());
        }
    }

    /// Counts one line or restaurant of the input that could not be used.
    pub const fn add_refused(&mut self) {
        self.refused += 1;
    }

    /// Whether anything that was asked for has no result.
    pub fn has_failures(&self) -> bool {
        self.refused > 0 || self.restaurants.failed > 0
    }

    /// Derives the rates. Call once, after the last result.
    pub fn finish(&mut self, wall: Duration) {
        let per_second = |count: u64| rate(count as f64, wall.as_secs_f64());
        self.wall_seconds = wall.as_secs_f64();
        self.restaurants_per_second = per_second(self.restaurants.total());
        self.reviews_per_second = per_second(u64::from(self.usage.reviews));
        self.tokens_per_second = per_second(self.usage.worked_tokens());
        self.token_saving = self.usage.saving();
    }
}

impl Usage {
    /// Tokens that went through the model: computed, forced and generated.
    pub const fn worked_tokens(&self) -> u64 {
        self.prompt_tokens + self.forced_tokens + self.generated_tokens
    }

    /// Share of the baseline's prompt tokens that was not spent; absent without a baseline. Generated tokens are
    /// in neither.
    pub fn saving(&self) -> Option<f64> {
        let spent = (self.prompt_tokens + self.forced_tokens) as f64;
        (self.baseline_tokens > 0).then(|| 1.0 - spent / self.baseline_tokens as f64)
    }
}

/// Highest resident memory of this process so far; `None` where the system does not tell.
pub fn peak_memory_bytes() -> Option<u64> {
    memory("VmHWM:", &std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Resident memory of this process now; `None` where the system does not tell.
pub fn resident_memory_bytes() -> Option<u64> {
    memory("VmRSS:", &std::fs::read_to_string("/proc/self/status").ok()?)
}

/// A line such as `VmHWM: 6232 kB` of Linux's process status; its kB are 1024 bytes.
fn memory(name: &str, status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Zero seconds have no rate.
fn rate(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::sample;

    #[test]
    fn every_restaurant_is_counted_once_by_its_outcome() {
        let mut stats = RunStats::default();
        for result in sample::one_of_each_outcome() {
            stats.add(&result);
        }
        assert_eq!(stats.restaurants.total(), 6);
        assert!(stats.restaurants.named().all(|(_, count)| count == 1));
        assert_eq!(stats.restaurants.named().count(), 6);
        assert_eq!(stats.analyses[&Analysis::Summary].total(), 6);
    }

    #[test]
    fn a_refused_line_and_a_failed_restaurant_are_failures_and_an_empty_one_is_not() {
        let by_outcome = |name: &str| {
            let mut stats = RunStats::default();
            sample::one_of_each_outcome()
                .iter()
                .filter(|r| r.outcome.status() == name)
                .for_each(|r| stats.add(r));
            stats
        };
        assert!(by_outcome("failed").has_failures());
        for fine in ["ok", "partial", "unchanged", "no_data", "stale"] {
            assert!(!by_outcome(fine).has_failures(), "{fine}");
        }
        let mut stats = RunStats::default();
        stats.add_refused();
        assert!(stats.has_failures());
    }

    #[test]
    fn the_saving_compares_prompt_tokens_with_prompt_tokens() {
        let usage = Usage {
            prompt_tokens: 100,
            forced_tokens: 50,
            generated_tokens: 999,
            baseline_tokens: 600,
            ..Usage::default()
        };
        assert_eq!(usage.saving(), Some(0.75));
        assert_eq!(Usage::default().saving(), None);
    }

    #[test]
    fn rates_are_over_wall_time_and_no_time_has_none() {
        let mut stats = RunStats::default();
        stats.usage.reviews = 30;
        stats.finish(Duration::from_secs(10));
        assert!((stats.reviews_per_second - 3.0).abs() < 1e-12);
        stats.finish(Duration::ZERO);
        assert!(stats.reviews_per_second.abs() < f64::EPSILON);
    }

    #[test]
    fn peak_memory_is_read_in_bytes_or_unknown() {
        let status = "VmPeak:\t 9 kB\nVmHWM:\t    6232 kB\nVmRSS:\t 17 kB\n";
        assert_eq!(memory("VmHWM:", status), Some(6232 * 1024));
        assert_eq!(memory("VmRSS:", status), Some(17 * 1024));
        assert_eq!(memory("VmHWM:", "VmHWM: much\n"), None);
        assert_eq!(memory("VmHWM:", ""), None);
    }

    #[test]
    fn stats_survive_json() {
        let mut stats = RunStats { goodput: Some(Goodput::default()), ..RunStats::default() };
        stats.add(&sample::english());
        let json = serde_json::to_string(&stats).unwrap();
        assert_eq!(serde_json::from_str::<RunStats>(&json).unwrap(), stats);
    }
}
