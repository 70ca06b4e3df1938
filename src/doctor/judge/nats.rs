//! NATS.

use std::time::Duration;

use super::{behind, bytes, span};
use crate::broker::topology::{Action, Difference, Step, Topology};
use crate::checkup::{Account, JetStream, Looked, NatsFacts, Obstacle, Right};
use crate::config::Settings;
use crate::doctor::catalogue as known;
use crate::doctor::finding::{Check, Finding};

/// A server that takes longer than this to answer slows each job down.
const SLOW: Duration = Duration::from_millis(200);
/// Smaller messages than this hold no job to speak of.
const SMALL: u64 = 128 << 10;
/// Shares of the room from which on it is nearly, and in effect, used up.
const FILLING: f64 = 0.8;
const FULL: f64 = 0.98;

/// What needs NATS, after what all of it needs.
const CHECKS: [Check; 8] = [
    Check::NatsConnection,
    Check::NatsVersion,
    Check::NatsJetStream,
    Check::NatsRights,
    Check::NatsStreams,
    Check::NatsStorage,
    Check::NatsPayload,
    Check::NatsLatency,
];

/// `limit`: how long it had to answer. There are always settings for it, so it is never [`Looked::Unset`].
pub fn judge(looked: &Looked<NatsFacts>, settings: &Settings, limit: Duration) -> Vec<Finding> {
    let facts = match looked {
        Looked::At(facts) => facts,
        Looked::Away(obstacle) => return [vec![away(obstacle)], behind(&CHECKS)].concat(),
        Looked::Late | Looked::Unset => {
            let late = Finding::known(&known::NATS_LATE, "no answer", &[("limit", &span(limit))]);
            return [vec![late], behind(&CHECKS)].concat();
        }
    };
    let mut findings = vec![
        Finding::ok(Check::NatsConnection, format_args!("connected to {}", facts.address)),
        version(facts),
        payload(facts.max_payload),
    ];
    findings.push(jetstream(&facts.jetstream));
    let needs_jetstream =
        [Check::NatsJetStream, Check::NatsRights, Check::NatsStreams, Check::NatsStorage, Check::NatsLatency];
    if facts.jetstream == JetStream::Off {
        findings.extend(behind(&needs_jetstream));
        return findings;
    }
    findings.extend(rights(&facts.rights));
    findings.extend(streams(&facts.plan));
    match &facts.jetstream {
        JetStream::On(account) => {
            findings.push(
                narrow(account, &Topology::desired(&settings.nats))
                    .unwrap_or_else(|| storage(account, settings.nats.jobs_max_bytes)),
            );
        }
        _ => findings.push(Finding::behind(Check::NatsStorage, Check::NatsJetStream)),
    }
    findings.push(latency(facts.round_trip));
    findings
}

fn away(obstacle: &Obstacle) -> Finding {
    let (known, told) = match obstacle {
        Obstacle::Settings(told) => (&known::NATS_SETTINGS, told),
        Obstacle::Refused(told) => (&known::NATS_REFUSED, told),
        Obstacle::Untrusted(told) => (&known::NATS_UNTRUSTED, told),
        Obstacle::Unreachable(told) | Obstacle::NoDatabase(told) => (&known::NATS_UNREACHABLE, told),
    };
    Finding::known(known, "no connection", &[("told", told)])
}

fn version(facts: &NatsFacts) -> Finding {
    let version = &facts.version;
    if facts.is_supported {
        Finding::ok(Check::NatsVersion, version)
    } else {
        Finding::known(&known::NATS_OLD, version, &[("version", version)])
    }
}

fn payload(most: u64) -> Finding {
    let told = bytes(most);
    if most < SMALL {
        Finding::known(&known::NATS_SMALL_PAYLOAD, &told, &[("most", &told)])
    } else {
        Finding::ok(Check::NatsPayload, format_args!("messages of {told}, larger jobs go through the bucket"))
    }
}

fn jetstream(jetstream: &JetStream) -> Finding {
    match jetstream {
        JetStream::On(account) => Finding::ok(
            Check::NatsJetStream,
            format_args!("on, with {} streams and buckets", account.streams),
        ),
        JetStream::Off => Finding::known(&known::NATS_NO_JETSTREAM, "off", &[]),
        JetStream::Unknown(told) => Finding::known(&known::NATS_SILENT, "no answer", &[("told", told)]),
    }
}

/// One finding for each thing that cannot be done, with all subjects that it takes.
fn rights(rights: &Result<Vec<Right>, String>) -> Vec<Finding> {
    let rights = match rights {
        Ok(rights) => rights,
        Err(told) => return vec![Finding::known(&known::NATS_UNTOLD, "not told", &[("told", told)])],
    };
    let mut forbidden: Vec<(&str, Vec<&str>)> = Vec::new();
    for right in rights.iter().filter(|right| !right.allowed) {
        match forbidden.iter_mut().find(|(what, _)| *what == right.what) {
            Some((_, subjects)) => subjects.push(&right.name),
            None => forbidden.push((&right.what, vec![&right.name])),
        }
    }
    if forbidden.is_empty() {
        let all = rights.len();
        return vec![Finding::ok(Check::NatsRights, format_args!("all {all} that a worker needs"))];
    }
    let finding = |(what, subjects): (&str, Vec<&str>)| {
        let saw = format!("{} forbidden", subjects.len());
        Finding::known(&known::NATS_FORBIDDEN, saw, &[("what", &what), ("subjects", &subjects.join(", "))])
    };
    forbidden.into_iter().map(finding).collect()
}

fn streams(plan: &Result<Vec<Step>, String>) -> Vec<Finding> {
    let plan = match plan {
        Ok(plan) => plan,
        Err(told) => return vec![Finding::known(&known::NATS_UNSEEN, "not seen", &[("told", told)])],
    };
    let missing: Vec<String> = plan
        .iter()
        .filter(|step| step.action == Action::Create)
        .map(|step| step.object.to_string())
        .collect();
    let mut findings = Vec::new();
    if !missing.is_empty() {
        let saw = format!("{} of {} missing", missing.len(), plan.len());
        findings.push(Finding::known(&known::NATS_MISSING, saw, &[("objects", &missing.join(", "))]));
    }
    for step in plan {
        let (known, found) = match &step.action {
            Action::Change(found) => (&known::NATS_DIFFERS, found),
            Action::Refuse(found) => (&known::NATS_FIXED, found),
            Action::Create | Action::Keep => continue,
        };
        findings.extend(found.iter().map(|difference| differs(known, difference)));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(Check::NatsStreams, format_args!("all {} as they should be", plan.len())));
    }
    findings
}

fn differs(known: &known::Known, difference: &Difference) -> Finding {
    let Difference { object, field, actual, desired } = difference;
    Finding::known(
        known,
        format_args!("{object}: {field}"),
        &[("object", object), ("field", field), ("actual", actual), ("desired", desired)],
    )
}

/// Fewer streams or consumers than the fleet needs.
fn narrow(account: &Account, desired: &Topology) -> Option<Finding> {
    let needed = [
        ("streams and buckets", account.max_streams, desired.streams.len()),
        ("consumers", account.max_consumers, desired.consumers.len()),
    ];
    let (what, most, wanted) = needed.into_iter().find_map(|(what, most, wanted)| {
        Some((what, most?, wanted)).filter(|(_, most, wanted)| *most < *wanted as u64)
    })?;
    let (most, wanted) = (format!("{most} {what}"), format!("{wanted}"));
    Some(Finding::known(&known::NATS_NARROW, &most, &[("most", &most), ("wanted", &wanted)]))
}

fn storage(account: &Account, jobs_max_bytes: u64) -> Finding {
    let used = bytes(account.storage);
    let Some(most) = account.max_storage else {
        return Finding::ok(Check::NatsStorage, format_args!("{used} used, no limit for this account"));
    };
    let share = account.storage as f64 / most.max(1) as f64;
    let saw = format!("{used} of {} used", bytes(most));
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("used", &used), ("most", &bytes(most)), ("wanted", &bytes(jobs_max_bytes))];
    if share >= FULL {
        Finding::known(&known::NATS_FULL, saw, &values)
    } else if share >= FILLING {
        Finding::known(&known::NATS_FILLING, saw, &values)
    } else if jobs_max_bytes > most {
        Finding::known(&known::NATS_SHORT, saw, &values)
    } else {
        Finding::ok(Check::NatsStorage, saw)
    }
}

fn latency(round_trip: Option<Duration>) -> Finding {
    match round_trip {
        None => Finding::behind(Check::NatsLatency, Check::NatsJetStream),
        Some(took) if took > SLOW => Finding::known(&known::NATS_SLOW, span(took), &[("took", &span(took))]),
        Some(took) => Finding::ok(Check::NatsLatency, span(took)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;
    use crate::doctor::judge::testing::{assert_well, codes, mend, one};

    fn well() -> NatsFacts {
        let desired = Topology::desired(&Settings::default().nats);
        let right = |what: &str, name: &str| Right { what: what.into(), name: name.into(), allowed: true };
        NatsFacts {
            address: "127.0.0.1:4222".into(),
            version: "2.14.6".into(),
            is_supported: true,
            max_payload: 1 << 20,
            round_trip: Some(Duration::from_millis(2)),
            jetstream: JetStream::On(Account { streams: 8, ..Account::default() }),
            plan: Ok(desired.plan(&desired)),
            rights: Ok(vec![
                right("take jobs", "$JS.A"),
                right("take jobs", "$JS.B"),
                right("settle jobs", "$JS.C"),
            ]),
            skew: None,
        }
    }

    fn judged(facts: NatsFacts) -> Vec<Finding> {
        judge(&Looked::At(facts), &Settings::default(), Duration::from_secs(20))
    }

    fn covers_all(findings: &[Finding]) -> bool {
        CHECKS.iter().all(|check| findings.iter().any(|finding| finding.check == *check))
    }

    #[test]
    fn a_server_that_is_as_it_should_be_is_well() {
        let found = judged(well());
        assert_well(&found);
        assert!(covers_all(&found));
    }

    #[test]
    fn a_server_that_is_away_is_one_failure_and_the_rest_is_skipped() {
        for (obstacle, code, to_do) in [
            (
                Obstacle::Unreachable("refused".into()),
                "nats.unreachable",
                "start the server, open the way to it, or correct `nats.url`",
            ),
            (
                Obstacle::Refused("no".into()),
                "nats.refused",
                "correct the login in `nats.url`, `nats.creds_file` or `nats.nkey_file`",
            ),
            (
                Obstacle::Untrusted("bad".into()),
                "nats.untrusted",
                "correct `nats.tls_ca`, `nats.tls_cert` and `nats.tls_key`",
            ),
            (Obstacle::Settings("bad".into()), "nats.settings", "correct the setting that is named"),
        ] {
            let found = judge(&Looked::Away(obstacle), &Settings::default(), Duration::from_secs(20));
            assert_eq!(codes(&found), [code]);
            assert_eq!(mend(&found, Check::NatsConnection), to_do);
            assert!(covers_all(&found));
            assert!(found[1..].iter().all(|finding| finding.status == Status::Skipped));
        }
        let late = judge(&Looked::Late, &Settings::default(), Duration::from_secs(20));
        assert_eq!(codes(&late), ["nats.late"]);
        assert!(one(&late, Check::NatsConnection).means.as_ref().unwrap().contains("20.0 s"));
    }

    #[test]
    fn without_jetstream_there_is_one_failure() {
        let found = judged(NatsFacts { jetstream: JetStream::Off, ..well() });
        assert_eq!(codes(&found), ["nats.no_jetstream"]);
        let found = one(&found, Check::NatsJetStream);
        assert_eq!(found.mend.as_deref(), Some("switch JetStream on, and give it a folder (store_dir)"));
        assert_eq!(found.command.as_deref(), Some("nats-server -c deploy/nats/nats.conf"));
    }

    #[test]
    fn an_old_server_is_named_with_the_version_to_run() {
        let found = judged(NatsFacts { version: "2.9.10".into(), is_supported: false, ..well() });
        assert_eq!(codes(&found), ["nats.old"]);
        assert_eq!(mend(&found, Check::NatsVersion), "run nats-server 2.10.25 or newer, best 2.14");
    }

    #[test]
    fn what_is_missing_is_one_finding_and_what_differs_one_each() {
        let desired = Topology::desired(&Settings::default().nats);
        let mut actual = desired.clone();
        actual.streams.remove(0);
        actual.consumers[0].ack_wait = Duration::from_mins(1);
        actual.consumers[1].max_ack_pending = 7;
        let found = judged(NatsFacts { plan: Ok(desired.plan(&actual)), ..well() });
        assert_eq!(codes(&found), ["nats.missing", "nats.differs", "nats.differs"]);
        let streams: Vec<&Finding> = found.iter().filter(|f| f.check == Check::NatsStreams).collect();
        assert_eq!(
            streams[0].means.as_deref(),
            Some("stream REVIEW_JOBS is not there, and workers make nothing")
        );
        assert_eq!(streams[0].command.as_deref(), Some("maitred init"));
        assert_eq!(
            streams[1].means.as_deref(),
            Some("consumer worker-hi is not as the settings say: ack_wait is 1m, 30s is wanted")
        );
    }

    #[test]
    fn what_cannot_be_changed_in_place_is_told_apart() {
        let desired = Topology::desired(&Settings::default().nats);
        let mut actual = desired.clone();
        actual.consumers[0].explicit_ack = false;
        let found = judged(NatsFacts { plan: Ok(desired.plan(&actual)), ..well() });
        assert_eq!(codes(&found), ["nats.fixed"]);
        assert_eq!(
            mend(&found, Check::NatsStreams),
            "correct the settings, or delete the consumer worker-hi with all that it holds and make it anew"
        );
    }

    #[test]
    fn forbidden_subjects_of_one_purpose_are_one_finding() {
        let mut facts = well();
        for right in facts.rights.iter_mut().flatten().take(2) {
            right.allowed = false;
        }
        let found = judged(facts);
        assert_eq!(codes(&found), ["nats.forbidden"]);
        let found = one(&found, Check::NatsRights);
        assert_eq!(
            found.means.as_deref(),
            Some("this login may not take jobs: the server forbids $JS.A, $JS.B")
        );
        assert_eq!(
            found.mend.as_deref(),
            Some(
                "give the user what deploy/nats/permissions.conf gives the user worker, or run this as that user"
            )
        );
    }

    #[test]
    fn a_login_that_may_not_ask_fails_and_hides_no_other_fault() {
        let facts = NatsFacts {
            jetstream: JetStream::Unknown("forbidden".into()),
            plan: Err("forbidden".into()),
            rights: Err("cut off".into()),
            round_trip: None,
            ..well()
        };
        let found = judged(facts);
        assert_eq!(codes(&found), ["nats.silent", "nats.untold", "nats.unseen"]);
        assert!(covers_all(&found));
    }

    #[test]
    fn an_account_that_fills_up_is_told_before_it_is_full() {
        let with = |storage, max_storage| {
            let account = Account { storage, max_storage: Some(max_storage), ..Account::default() };
            judged(NatsFacts { jetstream: JetStream::On(account), ..well() })
        };
        assert_well(&with(1 << 30, 64 << 30));
        assert_eq!(codes(&with(55 << 30, 64 << 30)), ["nats.filling"]);
        assert_eq!(codes(&with(64 << 30, 64 << 30)), ["nats.full"]);
        let short = with(0, 1 << 30);
        assert_eq!(codes(&short), ["nats.short"]);
        assert_eq!(
            one(&short, Check::NatsStorage).means.as_deref(),
            Some("the stream of jobs may grow to 8.0 GiB, and the account may have 1.0 GiB in all")
        );
        assert_eq!(codes(&with(0, 0)), ["nats.short"]);
    }

    #[test]
    fn an_account_that_may_have_too_few_streams_or_consumers_is_told_the_number() {
        let with =
            |account| codes(&judged(NatsFacts { jetstream: JetStream::On(account), ..well() })).concat();
        assert_eq!(with(Account { max_streams: Some(7), ..Account::default() }), "nats.narrow");
        assert_eq!(with(Account { max_consumers: Some(3), ..Account::default() }), "nats.narrow");
        assert_eq!(with(Account { max_streams: Some(8), max_consumers: Some(4), ..Account::default() }), "");
    }

    #[test]
    fn a_slow_server_and_small_messages_are_warnings() {
        let found = judged(NatsFacts {
            round_trip: Some(Duration::from_millis(900)),
            max_payload: 1 << 16,
            ..well()
        });
        assert_eq!(codes(&found), ["nats.small_payload", "nats.slow"]);
        assert!(found.iter().all(|finding| finding.status != Status::Fail));
    }
}
