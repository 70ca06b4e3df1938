//! Redis.

use std::time::Duration;

use super::{behind, bytes, skipped, span};
use crate::checkup::{Looked, Obstacle, RedisFacts, RedisMemory, RedisRefusal, Right};
use crate::config::Settings;
use crate::doctor::catalogue as known;
use crate::doctor::finding::{Check, Finding};

/// The oldest major version that maitred is tested with.
const OLDEST: u32 = 7;

const CHECKS: [Check; 5] = [
    Check::RedisConnection,
    Check::RedisVersion,
    Check::RedisRights,
    Check::RedisMemory,
    Check::RedisLatency,
];

/// `limit`: how long it had to answer.
pub fn judge(looked: &Looked<RedisFacts>, settings: &Settings, limit: Duration) -> Vec<Finding> {
    let facts = match looked {
        Looked::Unset => {
            let mend = "set `redis.url` to let all workers share what they read";
            return skipped(&CHECKS, "`redis.url` is none: facts stay with each worker", mend);
        }
        Looked::At(facts) => facts,
        Looked::Away(obstacle) => return [vec![away(obstacle)], behind(&CHECKS)].concat(),
        Looked::Late => {
            let late = Finding::known(&known::REDIS_LATE, "no answer", &[("limit", &span(limit))]);
            return [vec![late], behind(&CHECKS)].concat();
        }
    };
    vec![
        Finding::ok(Check::RedisConnection, "connected"),
        version(facts.version.as_deref()),
        rights(&facts.rights, facts.refusal),
        memory(facts.memory.as_ref(), facts.refusal),
        latency(facts.round_trip, settings.redis.timeout),
    ]
}

fn away(obstacle: &Obstacle) -> Finding {
    let (known, told) = match obstacle {
        Obstacle::Settings(told) => (&known::REDIS_SETTINGS, told),
        Obstacle::Refused(told) => (&known::REDIS_REFUSED, told),
        Obstacle::Untrusted(told) | Obstacle::Unreachable(told) | Obstacle::NoDatabase(told) => {
            (&known::REDIS_UNREACHABLE, told)
        }
    };
    Finding::known(known, "no connection", &[("told", told)])
}

fn version(version: Option<&str>) -> Finding {
    let Some(version) = version else {
        return Finding::skipped(Check::RedisVersion, "not told to this login", "let the login use HELLO");
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= OLDEST) {
        Finding::ok(Check::RedisVersion, version)
    } else {
        Finding::known(&known::REDIS_OLD, version, &[("version", &version)])
    }
}

/// One finding for all rights: they come from one rule of one user.
fn rights(rights: &[Right], refusal: Option<RedisRefusal>) -> Finding {
    let forbidden: Vec<&Right> = rights.iter().filter(|right| !right.allowed).collect();
    if !forbidden.is_empty() {
        let names =
            |of: fn(&Right) -> &str| forbidden.iter().map(|right| of(right)).collect::<Vec<_>>().join(", ");
        let saw = format!("{} of {} forbidden", forbidden.len(), rights.len());
        let (what, commands) = (names(|right| &right.what), names(|right| &right.name));
        return Finding::known(&known::REDIS_FORBIDDEN, saw, &[("what", &what), ("commands", &commands)]);
    }
    match refusal {
        Some(RedisRefusal::Replica) => Finding::known(&known::REDIS_REPLICA, "a replica", &[]),
        Some(RedisRefusal::Disk) => Finding::known(&known::REDIS_DISK, "cannot save", &[]),
        Some(RedisRefusal::Full) | None => {
            Finding::ok(Check::RedisRights, format_args!("all {} that a worker needs", rights.len()))
        }
    }
}

fn memory(memory: Option<&RedisMemory>, refusal: Option<RedisRefusal>) -> Finding {
    if refusal == Some(RedisRefusal::Full) {
        return Finding::known(&known::REDIS_FULL, "full", &[]);
    }
    let Some(memory) = memory else {
        let mend = "let the login use INFO, or ask redis-cli CONFIG GET maxmemory-policy";
        return Finding::skipped(Check::RedisMemory, "takes changes; more is not told to this login", mend);
    };
    let RedisMemory { max, used, policy, evicted } = memory;
    if *max == 0 {
        return Finding::known(&known::REDIS_UNBOUNDED, format_args!("{} used", bytes(*used)), &[]);
    }
    let saw = format!("{} of {} used, {policy}, {evicted} gave way", bytes(*used), bytes(*max));
    if policy == "noeviction" {
        return Finding::known(&known::REDIS_POLICY, saw, &[("most", &bytes(*max))]);
    }
    Finding::ok(Check::RedisMemory, saw)
}

/// A command may take `redis.timeout`; a server that needs half of it for nothing at all will often miss it.
fn latency(took: Duration, timeout: Duration) -> Finding {
    if took > timeout / 2 {
        let values: [(&str, &dyn std::fmt::Display); 2] = [("took", &span(took)), ("limit", &span(timeout))];
        Finding::known(&known::REDIS_SLOW, span(took), &values)
    } else {
        Finding::ok(Check::RedisLatency, span(took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;
    use crate::doctor::judge::testing::{assert_well, codes, mend, one};

    fn well() -> RedisFacts {
        let right = |name: &str| Right { what: format!("use {name}"), name: name.into(), allowed: true };
        RedisFacts {
            version: Some("7.0.15".into()),
            round_trip: Duration::from_micros(300),
            memory: Some(RedisMemory {
                max: 2 << 30,
                used: 1 << 20,
                policy: "allkeys-lru".into(),
                evicted: 3,
            }),
            rights: vec![right("MGET"), right("SET")],
            refusal: None,
            skew: None,
        }
    }

    fn judged(facts: RedisFacts) -> Vec<Finding> {
        judge(&Looked::At(facts), &Settings::default(), Duration::from_secs(20))
    }

    fn with_memory(max: u64, policy: &str) -> RedisFacts {
        RedisFacts {
            memory: Some(RedisMemory { max, used: 10, policy: policy.into(), evicted: 0 }),
            ..well()
        }
    }

    #[test]
    fn a_server_that_is_as_it_should_be_is_well_and_so_is_none() {
        let found = judged(well());
        assert_well(&found);
        assert_eq!(found.iter().map(|finding| finding.check).collect::<Vec<_>>(), CHECKS);
        assert_well(&judged(with_memory(5, "volatile-ttl")));
        let none = judge(&Looked::Unset, &Settings::default(), Duration::from_secs(20));
        assert!(none.len() == CHECKS.len() && none.iter().all(|f| f.status == Status::Skipped));
    }

    #[test]
    fn a_server_that_is_away_is_one_failure() {
        for (looked, code) in [
            (Looked::Away(Obstacle::Unreachable("x".into())), "redis.unreachable"),
            (Looked::Away(Obstacle::Refused("x".into())), "redis.refused"),
            (Looked::Away(Obstacle::Settings("x".into())), "redis.settings"),
            (Looked::Late, "redis.late"),
        ] {
            let found = judge(&looked, &Settings::default(), Duration::from_secs(20));
            assert_eq!(codes(&found), [code]);
            assert_eq!(found.len(), CHECKS.len());
        }
    }

    #[test]
    fn a_login_that_may_only_read_is_told_what_it_lacks() {
        let mut facts = well();
        facts.rights[1].allowed = false;
        let found = judged(facts);
        assert_eq!(codes(&found), ["redis.forbidden"]);
        assert_eq!(
            one(&found, Check::RedisRights).means.as_deref(),
            Some("this login may not use SET: Redis forbids SET")
        );
        assert_eq!(
            mend(&found, Check::RedisRights),
            "give the user the rights in deploy/redis/users.acl, or name another one in `redis.url`"
        );
    }

    #[test]
    fn each_reason_not_to_take_changes_has_its_mend() {
        for (refusal, code, check, to_do) in [
            (
                RedisRefusal::Full,
                "redis.full",
                Check::RedisMemory,
                "let it drop what nobody asks for, or raise maxmemory",
            ),
            (RedisRefusal::Replica, "redis.replica", Check::RedisRights, "name the primary in `redis.url`"),
            (
                RedisRefusal::Disk,
                "redis.disk",
                Check::RedisRights,
                "free some space there, or set stop-writes-on-bgsave-error no: all that it holds can be computed again",
            ),
        ] {
            let found = judged(RedisFacts { refusal: Some(refusal), ..well() });
            assert_eq!(codes(&found), [code]);
            assert_eq!(mend(&found, check), to_do);
        }
    }

    #[test]
    fn a_server_that_may_drop_nothing_or_has_no_bound_is_a_warning() {
        let found = judged(with_memory(5, "noeviction"));
        assert_eq!(codes(&found), ["redis.policy"]);
        let command = one(&found, Check::RedisMemory).command.as_deref();
        assert_eq!(command, Some("redis-cli CONFIG SET maxmemory-policy allkeys-lru"));
        let found = judged(with_memory(0, "noeviction"));
        assert_eq!(codes(&found), ["redis.unbounded"]);
        assert_eq!(one(&found, Check::RedisMemory).status, Status::Warn);
    }

    #[test]
    fn what_a_login_is_not_told_is_skipped() {
        let found = judged(RedisFacts { memory: None, version: None, ..well() });
        assert_well(&found);
        assert_eq!(one(&found, Check::RedisMemory).status, Status::Skipped);
    }

    #[test]
    fn an_old_and_a_slow_server_are_told() {
        let facts =
            RedisFacts { version: Some("6.2.1".into()), round_trip: Duration::from_millis(300), ..well() };
        let found = judged(facts);
        assert_eq!(codes(&found), ["redis.old", "redis.slow"]);
        assert_eq!(mend(&found, Check::RedisLatency), "run it near the workers, or raise `redis.timeout`");
    }
}
