use proptest::prelude::*;

use super::*;
use crate::broker::names;
use crate::config::Settings;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

fn desired() -> Topology {
    Topology::desired(&Settings::default().nats)
}

fn find<'a>(topology: &'a Topology, name: &str) -> &'a Stream {
    topology.streams.iter().find(|stream| stream.object.name == name).unwrap()
}

#[test]
fn every_lane_has_a_consumer_of_its_own_jobs_without_backoff() {
    let topology = desired();
    let filters: Vec<_> = topology.consumers.iter().map(|consumer| consumer.filter.join("|")).collect();
    assert_eq!(filters, ["jobs.analysis.hi.>", "jobs.analysis.live.>", "jobs.analysis.backfill.>", ""]);
    for consumer in &topology.consumers {
        assert!(consumer.pull && consumer.explicit_ack && consumer.backoff.is_empty(), "{}", consumer.object);
        assert_eq!(consumer.max_batch, Some(64));
    }
    let names: Vec<_> = topology.consumers.iter().map(|consumer| consumer.object.name.as_str()).collect();
    assert_eq!(names, ["worker-hi", "worker-live", "worker-backfill", "sweeper"]);
    assert_eq!(topology.consumers[3].max_deliver, None);
}

#[test]
fn history_can_be_replayed_and_nobody_can_wipe_it_with_one_message() {
    for stream in desired().streams.iter().filter(|stream| stream.object.kind == Kind::Stream) {
        assert_eq!(stream.retention, Retention::Limits, "{}", stream.object);
        assert_eq!(stream.storage, Storage::File, "{}", stream.object);
        assert!(stream.allow_direct && !stream.allow_rollup, "{}", stream.object);
    }
}

#[test]
fn a_result_is_recognised_as_a_second_one_for_longer_than_a_job_is() {
    let topology = desired();
    assert_eq!(find(&topology, names::JOBS_STREAM).duplicate_window, Duration::from_mins(10));
    assert_eq!(find(&topology, names::RESULTS_STREAM).duplicate_window, Duration::from_hours(2));
}

#[test]
fn an_object_stays_as_long_as_anything_that_refers_to_it() {
    let mut settings = Settings::default().nats;
    for (jobs, results) in [(HOUR, HOUR * 5), (HOUR * 5, HOUR)] {
        (settings.jobs_max_age, settings.results_max_age) = (jobs, results);
        assert_eq!(find(&Topology::desired(&settings), names::OBJECTS_BUCKET).max_age, HOUR * 5);
    }
}

#[test]
fn the_mark_of_an_attempt_can_be_deleted_and_outlives_the_server() {
    let topology = desired();
    let attempts = find(&topology, names::ATTEMPTS_BUCKET);
    assert!(!attempts.deny_delete && attempts.storage == Storage::File);
}

#[test]
fn advisories_of_jobs_are_kept_and_of_nothing_else() {
    let topology = desired();
    assert_eq!(
        find(&topology, names::ADVISORIES_STREAM).subjects,
        [
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.REVIEW_JOBS.*",
            "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.REVIEW_JOBS.*"
        ]
    );
}

#[test]
fn a_window_is_never_longer_than_the_age_that_the_server_allows_it() {
    let mut settings = Settings::default().nats;
    (settings.jobs_max_age, settings.results_max_age) = (MINUTE, MINUTE);
    for stream in Topology::desired(&settings).streams {
        let bounded = stream.max_age.is_zero() || stream.duplicate_window <= stream.max_age;
        assert!(bounded && !stream.duplicate_window.is_zero(), "{}", stream.object);
    }
}

#[test]
fn all_is_made_where_there_is_nothing_streams_before_their_consumers() {
    let topology = desired();
    let plan = topology.plan(&Topology::default());
    assert!(plan.iter().all(|step| step.action == Action::Create));
    assert_eq!(plan.len(), topology.streams.len() + topology.consumers.len());
    assert!(plan.is_sorted_by_key(|step| step.object.kind == Kind::Consumer));
}

#[test]
fn the_order_of_subjects_is_no_difference() {
    let (wanted, mut actual) = (desired(), desired());
    actual.streams.iter_mut().for_each(|stream| stream.subjects.reverse());
    assert_eq!(differences(&wanted, &actual), []);
}

#[test]
fn a_difference_is_told_with_object_field_found_and_wanted() {
    let (wanted, mut actual) = (desired(), desired());
    actual.consumers[1].ack_wait = Duration::from_millis(1500);
    actual.streams[0].max_bytes = None;
    let told: Vec<_> = differences(&wanted, &actual).iter().map(Difference::to_string).collect();
    assert_eq!(
        told,
        [
            "stream REVIEW_JOBS: max_bytes is unlimited, 8589934592 is wanted",
            "consumer worker-live: ack_wait is 1s 500ms, 30s is wanted"
        ]
    );
}

#[test]
fn what_cannot_be_changed_in_place_is_refused_whatever_else_differs() {
    let (wanted, mut actual) = (desired(), desired());
    actual.streams[0].retention = Retention::WorkQueue;
    actual.streams[0].max_age = HOUR;
    actual.streams[1].deny_delete = true;
    actual.consumers[0].explicit_ack = false;
    let plan = wanted.plan(&actual);
    let refused = |index: usize| match &plan[index].action {
        Action::Refuse(found) => found.iter().map(|difference| difference.field).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(0), ["retention"]);
    assert_eq!(refused(1), ["deny_delete"]);
    assert_eq!(refused(wanted.streams.len()), ["ack"]);
}

/// Applies what the server would.
fn apply(wanted: &Topology, actual: &mut Topology) {
    for step in wanted.plan(actual) {
        if matches!(step.action, Action::Keep | Action::Refuse(_)) {
            continue;
        }
        actual.streams.retain(|stream| stream.object != step.object);
        actual.consumers.retain(|consumer| consumer.object != step.object);
        actual.streams.extend(wanted.stream(&step.object).cloned());
        actual.consumers.extend(wanted.consumer(&step.object).cloned());
    }
}

proptest! {
    #[test]
    fn a_plan_that_refuses_nothing_leaves_nothing_to_do(
        missing in prop::collection::vec(any::<bool>(), 12),
        ages in prop::collection::vec(1u64..100_000, 12),
        pending in 1u64..5000,
        rollup in any::<bool>(),
    ) {
        let wanted = desired();
        let mut actual = wanted.clone();
        for (stream, age) in actual.streams.iter_mut().zip(&ages) {
            stream.max_age = Duration::from_secs(*age);
            stream.allow_rollup = rollup;
        }
        actual.consumers[0].max_ack_pending = pending;
        let mut place = missing.iter();
        actual.streams.retain(|_| !place.next().copied().unwrap_or(false));
        actual.consumers.retain(|_| !place.next().copied().unwrap_or(false));
        apply(&wanted, &mut actual);
        prop_assert!(wanted.plan(&actual).iter().all(|step| step.action == Action::Keep));
    }

    #[test]
    fn a_difference_is_found_exactly_where_something_was_changed(which in 0usize..12, field in 0usize..6) {
        let wanted = desired();
        let mut actual = wanted.clone();
        let streams = wanted.streams.len();
        let (object, name) = if which < streams {
            let stream = &mut actual.streams[which];
            let name = match field {
                0 => { stream.subjects.push("other".to_owned()); "subjects" }
                1 => { stream.max_age += Duration::from_nanos(1); "max_age" }
                2 => { stream.replicas += 1; "replicas" }
                3 => { stream.allow_direct = false; "allow_direct" }
                4 => { stream.max_per_subject = Some(7); "max_msgs_per_subject" }
                _ => { stream.duplicate_window *= 2; "duplicate_window" }
            };
            (stream.object.clone(), name)
        } else {
            let consumer = &mut actual.consumers[which - streams];
            let name = match field {
                0 => { consumer.filter.push("other".to_owned()); "filter" }
                1 => { consumer.max_deliver = Some(7); "max_deliver" }
                2 => { consumer.max_batch = None; "max_batch" }
                3 => { consumer.pull = false; "delivery" }
                4 => { consumer.backoff.push(HOUR); "backoff" }
                _ => { consumer.ack_wait *= 2; "ack_wait" }
            };
            (consumer.object.clone(), name)
        };
        let found = differences(&wanted, &actual);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!((&found[0].object, found[0].field), (&object, name));
        prop_assert_ne!(&found[0].actual, &found[0].desired);
    }
}
