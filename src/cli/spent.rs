//! The closing table: what the run did and what was spent.

use bytesize::ByteSize;

use super::text::{Style, counted, pad, percent, thousands, wrap};
use crate::stats::RunStats;

/// Columns of the labels, with the gap behind them.
const LABEL: usize = 16;

/// The closing table of a run.
pub fn table(stats: &RunStats, style: Style) -> String {
    let mut lines = vec![style.bold("spent")];
    for (label, value) in rows(stats, style) {
        let labels = std::iter::once(label).chain(std::iter::repeat(""));
        let values = wrap(&value, style.width.saturating_sub(LABEL));
        lines.extend(labels.zip(values).map(|(label, value)| format!("  {}{value}", pad(label, LABEL - 2))));
    }
    lines.join("\n") + "\n"
}

fn rows(stats: &RunStats, style: Style) -> Vec<(&'static str, String)> {
    let join = |parts: Vec<String>| parts.join(style.dot());
    let usage = &stats.usage;
    let mut rows = vec![
        ("restaurants", join(restaurants(stats))),
        (
            "reviews",
            join(vec![
                format!("{} read", thousands(usage.reviews_read.into())),
                format!("{} known", thousands(usage.reviews_cached.into())),
                format!("{:.1} a second", stats.reviews_per_second),
            ]),
        ),
        (
            "tokens",
            join(vec![
                format!("{} computed", thousands(usage.prompt_tokens)),
                format!("{} reused", thousands(usage.reused_tokens)),
                format!("{} forced", thousands(usage.forced_tokens)),
                format!("{} generated", thousands(usage.generated_tokens)),
            ]),
        ),
        ("saving", saving(stats)),
        ("time", time(stats, style)),
    ];
    if let Some(ttft) = &stats.ttft {
        let parts = vec![format!("p50 {:.2} s", ttft.p50_seconds), format!("p95 {:.2} s", ttft.p95_seconds)];
        rows.push(("first answer", join(parts)));
    }
    if let Some(goodput) = &stats.goodput {
        let parts = vec![
            format!("{} within {} s", percent(goodput.compliance), goodput.sla_ttft_seconds),
            format!("{:.2} restaurants a second", goodput.restaurants_per_second),
            format!("{:.0} tokens a second", goodput.tokens_per_second),
        ];
        rows.push(("goodput", join(parts)));
    }
    if let Some(bytes) = stats.peak_memory_bytes {
        rows.push(("peak memory", ByteSize::b(bytes).display().iec().to_string()));
    }
    rows
}

/// How the restaurants ended, and what never became one.
fn restaurants(stats: &RunStats) -> Vec<String> {
    let mut parts: Vec<String> =
        stats.restaurants.named().map(|(name, count)| format!("{} {name}", thousands(count))).collect();
    if stats.refused > 0 {
        parts.push(format!("{} refused", counted(stats.refused, "input line")));
    }
    if stats.interrupted {
        parts.push("interrupted".to_owned());
    }
    if parts.is_empty() {
        parts.push("none".to_owned());
    }
    parts.push(format!("{:.2} a second", stats.restaurants_per_second));
    parts
}

fn saving(stats: &RunStats) -> String {
    match stats.token_saving {
        None => "no prompt was needed".to_owned(),
        Some(saving) => format!(
            "{} of the {} prompt tokens that all reviews in each prompt would have cost",
            percent(saving),
            thousands(stats.usage.baseline_tokens),
        ),
    }
}

fn time(stats: &RunStats, style: Style) -> String {
    [
        format!("{:.1} s", stats.wall_seconds),
        format!("{:.0} tokens a second", stats.tokens_per_second),
        format!("{:.1} s to start", stats.start_seconds),
    ]
    .join(style.dot())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::sample;
    use crate::stats::{Goodput, Latency};
    use std::time::Duration;

    const PLAIN: Style = Style { width: 100, color: false, unicode: true };

    fn stats() -> RunStats {
        let mut stats = RunStats {
            start_seconds: 1.25,
            ttft: Some(Latency { p50_seconds: 0.204, p95_seconds: 1.9 }),
            goodput: Some(Goodput {
                sla_ttft_seconds: 2.0,
                compliance: 0.98,
                restaurants_per_second: 0.3,
                tokens_per_second: 101.4,
            }),
            peak_memory_bytes: Some(512 << 20),
            ..RunStats::default()
        };
        for result in sample::one_of_each_outcome() {
            stats.add(&result);
        }
        stats.add_refused();
        stats.finish(Duration::from_secs(20));
        stats
    }

    #[test]
    fn the_closing_table_shows_what_was_spent() {
        let expected = "\
spent
  restaurants   1 ok · 1 partial · 1 unchanged · 1 no data · 1 stale · 1 failed · 1 input line
                refused · 0.30 a second
  reviews       48 read · 12 known · 3.0 a second
  tokens        2,400 computed · 7,200 reused · 120 forced · 180 generated
  saving        80 % of the 12,600 prompt tokens that all reviews in each prompt would have cost
  time          20.0 s · 135 tokens a second · 1.2 s to start
  first answer  p50 0.20 s · p95 1.90 s
  goodput       98 % within 2 s · 0.30 restaurants a second · 101 tokens a second
  peak memory   512.0 MiB
";
        assert_eq!(table(&stats(), PLAIN), expected);
    }

    #[test]
    fn what_was_not_measured_has_no_row() {
        let text = table(&RunStats::default(), PLAIN);
        assert!(
            !text.contains("goodput") && !text.contains("first answer") && !text.contains("peak"),
            "{text}"
        );
        assert!(text.contains("no prompt was needed"), "{text}");
    }

    #[test]
    fn a_terminal_without_unicode_gets_ascii() {
        let text = table(&stats(), Style { unicode: false, ..PLAIN });
        assert!(text.is_ascii(), "{text}");
    }
}
