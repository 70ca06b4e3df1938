use super::*;
use crate::broker::backfill::{Backfill, Position};
use crate::broker::presence::{Pace, Stores, Totals};
use crate::broker::status::{Alarm, Server, Waiting};
use crate::scheduler::Lane;
use time::macros::datetime;
use unicode_width::UnicodeWidthStr;

const NOW: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);
const STYLE: Style = Style { width: 80, color: false, unicode: true };

fn status() -> Status {
    let stream = |name: &str, messages: u64| Stream {
        name: name.into(),
        messages,
        bytes: messages * 1024,
        max_bytes: None,
        max_age_seconds: 0,
        first_sequence: 1,
        last_sequence: messages,
        oldest: (messages > 0).then_some(NOW - time::Duration::hours(76)),
    };
    let lane = |lane, pending, oldest: Option<Waiting>| LaneStatus {
        lane,
        pending,
        in_flight: pending / 2,
        redelivered: 1,
        waiting: 2,
        ack_floor: 0,
        oldest,
    };
    let waiting = Waiting { sequence: 7, since: NOW - time::Duration::seconds(90) };
    let backfill = Backfill::new("b".into(), 1, 100, NOW - time::Duration::seconds(10));
    let at = Position { delivered: 50, ack_floor: 50, pending: 50, in_flight: 0 };
    let worker = Worker {
        slots: 2,
        look_ahead: 2,
        running: 2,
        queued: 1,
        stores: Stores { redis: Home::Down, postgres: Home::Embedded },
        pace: Pace { jobs_per_minute: 12.34, tokens_per_second: 456.7 },
        totals: Totals { results: 1234, ..Totals::default() },
        ..Worker::new("kitchen-1", NOW - time::Duration::minutes(61))
    };
    Status {
        at: NOW,
        server: Server { version: "2.14.6".into(), name: "n".into(), address: "127.0.0.1:4222".into() },
        streams: vec![stream("REVIEW_JOBS", 12_345), stream("ANALYSIS_DLQ", 0)],
        lanes: vec![lane(Lane::Hi, 0, None), lane(Lane::Live, 1500, Some(waiting))],
        workers: vec![worker],
        backfills: vec![Running { progress: backfill.progress(Some(at), NOW), backfill, lost: false }],
        dead_letters: 3,
        alarms: vec![Alarm::Ageing { lane: Lane::Live, sequence: 7, share: 0.85 }],
    }
}

#[test]
fn the_fleet_is_shown_in_tables() {
    let expected = "\
nats 2.14.6 at 127.0.0.1:4222

stream        messages      size  first   last  oldest
REVIEW_JOBS     12,345  12.1 MiB      1  12345   3d 4h
ANALYSIS_DLQ         0       0 B      1      0       -

lane  pending  in flight  redelivered  waiting pulls  oldest
hi          0          0            1              2       -
live    1,500        750            1              2  1m 30s

worker     state     running  queued  jobs/min  tokens/s  results     up
kitchen-1  no redis      2/2     1/2      12.3       457    1,234  1h 1m
1 worker · 12.3 jobs a minute · 457 tokens a second

backfill  from   to  done  pending  in flight  jobs/s  left
b            1  100  50 %       50          0     5.0   10s

3 dead letters: `maitred dlq ls` lists them

alarm: job 7 in lane live has waited for 85 % of the time that jobs are kept,
and will be deleted unworked: add workers, or raise `nats.jobs_max_age` and run
`maitred init`
";
    assert_eq!(text(&status(), STYLE), expected);
}

#[test]
fn every_line_fits_eighty_columns_whatever_a_worker_is_called() {
    let mut status = status();
    status.workers[0].name = "kitchen-with-a-name-of-its-own-that-somebody-thought-about".into();
    status.workers[0].stores.postgres = Home::Down;
    for line in text(&status, STYLE).lines() {
        assert!(line.width() <= STYLE.width, "{line}");
    }
}

#[test]
fn gpus_are_shown_with_what_they_tell() {
    let mut status = status();
    let well = GpuSample {
        device: 0,
        name: "NVIDIA H100 80GB HBM3".into(),
        utilization: Some(0.37),
        memory_used_bytes: Some(3 << 30),
        memory_total_bytes: Some(80 << 30),
        power_watts: Some(251.6),
        temperature_celsius: Some(61.0),
    };
    let lost = GpuSample { device: 1, name: well.name.clone(), ..GpuSample::default() };
    status.workers[0].gpus = vec![well, lost];
    let expected = "
gpu of     no.  name                   busy      memory  power  temp.
kitchen-1    0  NVIDIA H100 80GB HBM3  37 %  3.0/80 GiB  252 W  61 °C
kitchen-1    1  NVIDIA H100 80GB HBM3     -           -      -      -

";
    let text = text(&status, STYLE);
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_quiet_fleet_says_so() {
    let quiet = Status { workers: vec![], backfills: vec![], dead_letters: 0, alarms: vec![], ..status() };
    let text = text(&quiet, STYLE);
    assert!(text.contains("\nno workers\n") && text.ends_with("no dead letters\n"), "{text}");
}
