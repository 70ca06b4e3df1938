//! Findings from facts. Nothing here asks anybody anything.

pub mod clock;
pub mod config;
pub mod disk;
pub mod edges;
pub mod machine;
pub mod models;
pub mod nats;
pub mod postgres;
pub mod redis;

use std::fmt::Display;
use std::time::Duration;

use bytesize::ByteSize;

use super::finding::{Check, Finding};

/// A number of bytes as a person reads it.
fn bytes(bytes: u64) -> impl Display {
    ByteSize::b(bytes).display().iec()
}

/// A span of time as a person reads it, to two digits or so.
fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..0.001 => format!("{:.0} us", seconds * 1e6),
        0.001..1.0 => format!("{:.0} ms", seconds * 1e3),
        1.0..120.0 => format!("{seconds:.1} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

/// A text as one word of a shell.
fn shell(text: impl Display) -> String {
    let text = text.to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// All but the first of these checks, because the first is not well.
fn behind(checks: &[Check]) -> Vec<Finding> {
    checks[1..].iter().map(|check| Finding::behind(*check, checks[0])).collect()
}

/// The same choice for all of these checks.
fn skipped(checks: &[Check], why: &str, mend: &str) -> Vec<Finding> {
    checks.iter().map(|check| Finding::skipped(*check, why, mend)).collect()
}

#[cfg(test)]
mod testing {
    use super::Finding;
    use crate::doctor::finding::{Check, Status};

    /// The one finding of a check.
    #[track_caller]
    pub fn one(findings: &[Finding], check: Check) -> &Finding {
        let found: Vec<&Finding> = findings.iter().filter(|finding| finding.check == check).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]
    }

    /// Codes of what is not as it should be.
    pub fn codes(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().filter_map(|finding| finding.code).collect()
    }

    /// What the one finding of a check says to do.
    #[track_caller]
    pub fn mend(findings: &[Finding], check: Check) -> &str {
        one(findings, check).mend.as_deref().unwrap()
    }

    /// Whether all of them are well or were skipped.
    #[track_caller]
    pub fn assert_well(findings: &[Finding]) {
        let ill: Vec<&Finding> = findings
            .iter()
            .filter(|finding| !matches!(finding.status, Status::Ok | Status::Skipped))
            .collect();
        assert!(ill.is_empty(), "{ill:#?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_blank_or_a_quote_stays_one_word() {
        assert_eq!(shell("/run/secrets/url"), "/run/secrets/url");
        assert_eq!(shell("/my files/it's"), r"'/my files/it'\''s'");
        assert_eq!(shell(""), "''");
    }

    #[test]
    fn spans_have_their_unit() {
        let spans = [0.0005, 0.25, 3.0, 600.0].map(|seconds| span(Duration::from_secs_f64(seconds)));
        assert_eq!(spans, ["500 us", "250 ms", "3.0 s", "10 min"]);
    }
}
