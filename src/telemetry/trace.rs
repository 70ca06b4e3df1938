//! W3C trace context: how a trace runs from the producer through the queue to the result.
//!
//! Only the header `traceparent`, version 00 of the specification (level 1). A header that is not exactly right is no
//! trace, and the job begins one of its own: a broken header must never stop a job.

use std::fmt;
use std::str::FromStr;

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Never zero.
    trace_id: u128,
    /// Never zero.
    span_id: u64,
    flags: u8,
}

/// The only flag that is defined: the trace is recorded.
const SAMPLED: u8 = 1;
/// Length of version 00.
const LENGTH: usize = 55;

/// A header that is not a trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a traceparent: expected `00-<32 hex digits>-<16 hex digits>-<2 hex digits>` in lower case, ids not zero"
)]
pub struct NotATraceparent;

impl TraceContext {
    /// Begins a trace.
    pub fn root(random: &mut fastrand::Rng) -> Self {
        Self { trace_id: random.u128(1..), span_id: random.u64(1..), flags: SAMPLED }
    }

    /// Begins a trace that is recorded with this probability, 0 to 1.
    pub fn root_sampled(random: &mut fastrand::Rng, ratio: f64) -> Self {
        let root = Self::root(random);
        // Below 1, so that a ratio of 1 takes all and one of 0 none.
        if random.f64() < ratio { root } else { Self { flags: 0, ..root } }
    }

    /// Its numbers: of the trace, and of this place in it.
    pub(super) const fn ids(self) -> (u128, u64) {
        (self.trace_id, self.span_id)
    }

    /// The next place in the same trace.
    #[must_use]
    pub fn child(self, random: &mut fastrand::Rng) -> Self {
        let mut span_id = random.u64(1..);
        // A span is never its own parent.
        if span_id == self.span_id {
            span_id = span_id.wrapping_add(1).max(1);
        }
        Self { span_id, ..self }
    }

    /// The next place in the trace of a header; the first of a new one if the header is absent or broken.
    pub fn following(header: Option<&str>, random: &mut fastrand::Rng) -> Self {
        Self::following_or(header, random, Self::root)
    }

    /// The same, where a new trace begins as `begin` says.
    pub fn following_or(
        header: Option<&str>,
        random: &mut fastrand::Rng,
        begin: impl FnOnce(&mut fastrand::Rng) -> Self,
    ) -> Self {
        match header.map(str::parse::<Self>) {
            Some(Ok(parent)) => parent.child(random),
            Some(Err(_)) | None => begin(random),
        }
    }

    /// Identity of the trace: 32 hex digits.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// Identity of this place: 16 hex digits.
    pub fn span_id(self) -> String {
        format!("{:016x}", self.span_id)
    }

    /// Whether the trace is recorded.
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = NotATraceparent;

    fn from_str(text: &str) -> Result<Self, NotATraceparent> {
        parse(text.as_bytes()).ok_or(NotATraceparent)
    }
}

fn parse(text: &[u8]) -> Option<TraceContext> {
    let (known, more) = text.split_at_checked(LENGTH)?;
    let version = hex(&known[..2])?;
    // Later versions may append fields, behind a dash; their first four are read as ours, as the specification asks.
    let may_follow = version != 0 && more.first() == Some(&b'-');
    let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    if version == 0xff || !dashes || !(more.is_empty() || may_follow) {
        return None;
    }
    let trace_id = hex(&known[3..35])?;
    let span_id = hex(&known[36..52])? as u64;
    // Flags of which this version knows nothing are not passed on.
    let flags = hex(&known[53..])? as u8 & SAMPLED;
    (trace_id != 0 && span_id != 0).then_some(TraceContext { trace_id, span_id, flags })
}

/// At most 32 lower-case digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_specifications_example_is_read_and_written() {
        let context: TraceContext = EXAMPLE.parse().unwrap();
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id(), "00f067aa0ba902b7");
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), EXAMPLE);
    }

    #[test]
    fn what_the_specification_forbids_is_no_trace() {
        let zero_trace = EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_span = EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16));
        for broken in [
            "",
            "00",
            &EXAMPLE[..54],
            &format!("{EXAMPLE}-"),
            &format!("{EXAMPLE}-00"),
            &format!(" {EXAMPLE}"),
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replace('-', "_"),
            &EXAMPLE.replacen("00-", "ff-", 1),
            &EXAMPLE.replacen("00-", "0g-", 1),
            &zero_trace,
            &zero_span,
            &"가".repeat(19),
        ] {
            assert_eq!(broken.parse::<TraceContext>(), Err(NotATraceparent), "{broken}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = EXAMPLE.replacen("00-", "cc-", 1);
        for text in [later.clone(), format!("{later}-what-the-future-brings")] {
            assert_eq!(text.parse::<TraceContext>().unwrap().to_string(), EXAMPLE);
        }
        assert!(format!("{later}.x").parse::<TraceContext>().is_err());
    }

    #[test]
    fn unknown_flags_are_not_passed_on() {
        let context: TraceContext = EXAMPLE.replacen("-01", "-fe", 1).parse().unwrap();
        assert!(!context.is_sampled());
        assert!(context.to_string().ends_with("-00"));
    }

    #[test]
    fn a_broken_or_absent_header_begins_a_trace() {
        let mut random = fastrand::Rng::with_seed(1);
        let ids: Vec<String> = [None, Some("nonsense")]
            .map(|header| TraceContext::following(header, &mut random).trace_id())
            .into();
        assert_ne!(ids[0], ids[1]);
        let following = TraceContext::following(Some(EXAMPLE), &mut random);
        assert_eq!(following.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn a_ratio_decides_of_new_traces_and_never_of_one_that_was_begun() {
        let mut random = fastrand::Rng::with_seed(7);
        let sampled = |ratio, random: &mut fastrand::Rng| {
            (0..1000).filter(|_| TraceContext::root_sampled(random, ratio).is_sampled()).count()
        };
        assert_eq!((sampled(0.0, &mut random), sampled(1.0, &mut random)), (0, 1000));
        assert!((200..300).contains(&sampled(0.25, &mut random)));
        let never = |random: &mut fastrand::Rng| TraceContext::root_sampled(random, 0.0);
        assert!(TraceContext::following_or(Some(EXAMPLE), &mut random, never).is_sampled());
        assert!(!TraceContext::following_or(None, &mut random, never).is_sampled());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            if let Ok(context) = text.parse::<TraceContext>() {
                prop_assert_eq!(context.to_string().parse(), Ok(context));
            }
        }

        #[test]
        fn a_child_keeps_the_trace_and_its_flags_and_has_a_place_of_its_own(seed: u64) {
            let mut random = fastrand::Rng::with_seed(seed);
            let root = TraceContext::root(&mut random);
            let child = root.child(&mut random);
            prop_assert_eq!(root.trace_id(), child.trace_id());
            prop_assert_eq!(root.is_sampled(), child.is_sampled());
            prop_assert_ne!(root.span_id(), child.span_id());
            prop_assert_eq!(child.to_string().parse(), Ok(child));
        }
    }
}
