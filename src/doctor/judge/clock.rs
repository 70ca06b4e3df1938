//! Clocks. Leases and waits are measured, not told by a clock, so a wrong one loses no job; but ages and times of day are
//! wrong, and certificates may seem to have ended.

use crate::checkup::{Looked, NatsFacts, PostgresFacts, RedisFacts, Skew};
use crate::doctor::catalogue as known;
use crate::doctor::catalogue::Known;
use crate::doctor::finding::{Check, Finding};

/// Seconds by which clocks may differ before somebody notices.
const NOTICED: f64 = 1.0;

/// `is_kept`: whether something keeps this machine's clock right, if that is known.
pub fn judge(
    is_kept: Option<bool>,
    nats: &Looked<NatsFacts>,
    redis: &Looked<RedisFacts>,
    postgres: &Looked<PostgresFacts>,
) -> Vec<Finding> {
    vec![
        kept(is_kept),
        server(
            Check::ClockNats,
            Check::NatsStreams,
            &known::CLOCK_SKEW_NATS,
            nats.at().and_then(|facts| facts.skew),
        ),
        server(
            Check::ClockRedis,
            Check::RedisConnection,
            &known::CLOCK_SKEW_REDIS,
            redis.at().and_then(|facts| facts.skew),
        ),
        server(
            Check::ClockPostgres,
            Check::PostgresConnection,
            &known::CLOCK_SKEW_POSTGRES,
            postgres.at().and_then(|facts| facts.skew),
        ),
    ]
}

fn kept(is_kept: Option<bool>) -> Finding {
    match is_kept {
        Some(true) => Finding::ok(Check::ClockSync, "synchronised"),
        Some(false) => Finding::known(&known::CLOCK_UNSYNCHRONISED, "not synchronised", &[]),
        None => Finding::skipped(
            Check::ClockSync,
            "this machine does not tell",
            "nothing in a container: ask timedatectl on its host",
        ),
    }
}

fn server(check: Check, first: Check, known: &Known, skew: Option<Skew>) -> Finding {
    let Some(skew) = skew else { return Finding::behind(check, first) };
    let apart = skew.at_least();
    if apart > NOTICED {
        let told = format!("{:.1} s", skew.seconds.abs());
        let saw = format!("{} {}", told, if skew.seconds > 0.0 { "ahead of us" } else { "behind us" });
        return Finding::known(known, saw, &[("apart", &told)]);
    }
    Finding::ok(check, format_args!("at most {:.3} s apart", skew.seconds.abs() + skew.doubt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;
    use crate::doctor::judge::testing::one;

    fn seen(seconds: f64, doubt: f64) -> Finding {
        server(
            Check::ClockRedis,
            Check::RedisConnection,
            &known::CLOCK_SKEW_REDIS,
            Some(Skew { seconds, doubt }),
        )
    }

    #[test]
    fn clocks_apart_are_told_with_their_distance() {
        let found = seen(-3.21, 0.01);
        assert_eq!(found.code, Some("clock.skew_redis"));
        assert_eq!(found.saw, "3.2 s behind us");
        assert_eq!(found.means.as_deref(), Some("this machine's clock and that of Redis are 3.2 s apart"));
        assert_eq!(found.mend.as_deref(), Some("keep both clocks right"));
        assert_eq!(found.command.as_deref(), Some("timedatectl set-ntp true"));
    }

    #[test]
    fn a_slow_answer_does_not_make_a_clock_wrong() {
        assert_eq!(seen(3.0, 2.5).status, Status::Ok);
        assert_eq!(seen(0.2, 0.0).status, Status::Ok);
    }

    #[test]
    fn servers_that_are_away_leave_their_clocks_out() {
        let found = judge(None, &Looked::Late, &Looked::Unset, &Looked::Unset);
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|finding| finding.status == Status::Skipped));
    }

    #[test]
    fn a_clock_that_nothing_keeps_right_is_a_warning() {
        let judged = |kept| judge(kept, &Looked::Unset, &Looked::Unset, &Looked::Unset);
        assert_eq!(one(&judged(Some(false)), Check::ClockSync).code, Some("clock.unsynchronised"));
        assert_eq!(one(&judged(Some(true)), Check::ClockSync).status, Status::Ok);
    }
}
