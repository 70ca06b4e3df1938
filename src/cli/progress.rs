//! How far the run is: a bar on a terminal, a line now and then in a log.

use std::io::{self, IsTerminal};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::text::{counted, thousands};

/// Time between two progress lines in a log.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Everything that draws on stderr, so that logs and results can be printed beside it.
static DRAWN: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Takes progress off the terminal while `print` writes to it. `print` must not log: the log line would wait for
/// it, and it for the log line.
pub fn suspend<R>(print: impl FnOnce() -> R) -> R {
    DRAWN.suspend(print)
}

/// What the run has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Bytes of the input whose restaurants are worked.
    pub bytes: u64,
    /// Restaurants with a result.
    pub restaurants: u64,
    /// Their reviews.
    pub reviews: u64,
}

/// Progress of one run.
#[derive(Debug)]
pub struct Progress {
    shown: Shown,
    total_bytes: Option<u64>,
    started: Instant,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines { next: Instant },
}

impl Progress {
    /// Begins at `now`. A bar if stderr is a terminal and `quiet` is not asked for; else a log line at level info
    /// now and then. Without a total (a pipe) there is no remaining time.
    pub fn start(total_bytes: Option<u64>, quiet: bool, now: Instant) -> Self {
        let shown = if io::stderr().is_terminal() && !quiet {
            let bar = DRAWN.add(ProgressBar::no_length());
            if let Some(total) = total_bytes {
                bar.set_length(total);
            }
            bar.set_style(style(total_bytes.is_some()));
            bar.enable_steady_tick(Duration::from_millis(200));
            Shown::Bar(bar)
        } else {
            Shown::Lines { next: now + LINE_INTERVAL }
        };
        Self { shown, total_bytes, started: now }
    }

    /// Shows what is done at `now`.
    pub fn update(&mut self, done: Done, now: Instant) {
        let text = describe(done, now.duration_since(self.started));
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_position(done.bytes);
                bar.set_message(text);
            }
            Shown::Lines { next } if now >= *next => {
                *next = now + LINE_INTERVAL;
                let remaining = remaining(done.bytes, self.total_bytes, now.duration_since(self.started));
                tracing::info!(
                    restaurants = done.restaurants,
                    reviews = done.reviews,
                    remaining_seconds = remaining.map(|r| r.as_secs()),
                    "{text}"
                );
            }
            Shown::Lines { .. } => {}
        }
    }

    /// Takes the bar away; what was done is in the closing table.
    pub fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
            DRAWN.remove(&bar);
        }
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template =
        if has_total { "{bar:30} {percent:>3} %  {msg}, {left}" } else { "{spinner} {msg}, {elapsed}" };
    ProgressStyle::with_template(template)
        // Both templates are literals; `the_templates_are_valid` makes them.
        .expect("the template is valid")
        .with_key("left", |state: &ProgressState, to: &mut dyn std::fmt::Write| {
            let left = remaining(state.pos(), state.len(), state.elapsed());
            let text = left.map_or_else(|| "…".to_owned(), |left| format!("{} left", clock(left)));
            // Writing to indicatif's buffer cannot fail.
            let _ = to.write_str(&text);
        })
}

fn describe(done: Done, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { done.reviews as f64 / seconds } else { 0.0 };
    format!("{}, {} reviews, {rate:.1}/s", counted(done.restaurants, "restaurant"), thousands(done.reviews))
}

/// Time left if the rest goes as the part before; `None` while there is nothing to go by.
fn remaining(bytes: u64, total: Option<u64>, elapsed: Duration) -> Option<Duration> {
    let total = total.filter(|_| bytes > 0)?;
    let rest = total.saturating_sub(bytes) as f64 / bytes as f64;
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * rest).ok()
}

/// `1:05:09` or `4:30`.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        let _ = (style(true), style(false));
    }

    #[test]
    fn the_rest_takes_as_long_as_the_part_before() {
        let minute = Duration::from_mins(1);
        assert_eq!(remaining(25, Some(100), minute), Some(minute * 3));
        assert_eq!(remaining(100, Some(100), minute), Some(Duration::ZERO));
        // A file that grew while it was read.
        assert_eq!(remaining(120, Some(100), minute), Some(Duration::ZERO));
    }

    #[test]
    fn without_a_total_or_a_start_nothing_is_foretold() {
        assert_eq!(remaining(25, None, Duration::from_mins(1)), None);
        assert_eq!(remaining(0, Some(100), Duration::from_mins(1)), None);
    }

    #[test]
    fn progress_is_told_in_restaurants_and_reviews() {
        let done = Done { bytes: 1, restaurants: 1, reviews: 1500 };
        assert_eq!(describe(done, Duration::from_secs(100)), "1 restaurant, 1,500 reviews, 15.0/s");
        assert_eq!(describe(done, Duration::ZERO), "1 restaurant, 1,500 reviews, 0.0/s");
    }

    #[test]
    fn hours_only_show_when_there_are_some() {
        assert_eq!(clock(Duration::from_secs(270)), "4:30");
        assert_eq!(clock(Duration::from_secs(3909)), "1:05:09");
    }
}
