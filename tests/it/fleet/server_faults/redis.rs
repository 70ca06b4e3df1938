//! Row "Redis down, slow, WRONGTYPE, maxmemory": it costs time, no job.

use maitred_testkit::{Redis, wait_until};
use rstest::rstest;

use super::super::faults::{Fleet, until_ready};
use super::{said, work};
use crate::common::fleet::Workload;

/// What happens to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Killed,
    Stopped,
    /// Another program has written something else under all our keys.
    WrongType,
    Full,
}

impl Trouble {
    fn begin(self, redis: &mut Redis) {
        match self {
            Self::Killed => redis.kill(),
            Self::Stopped => redis.stop(),
            Self::WrongType => {
                let set = "for _,k in ipairs(redis.call('KEYS','*')) do redis.call('DEL',k) \
                           redis.call('RPUSH',k,'x') end return 1";
                assert_eq!(redis.command(&format!("EVAL \"{set}\" 0")), ":1\r\n");
            }
            Self::Full => {
                redis.command("CONFIG SET maxmemory-policy noeviction");
                assert_eq!(redis.command("CONFIG SET maxmemory 1"), "+OK\r\n");
            }
        }
    }

    fn end(self, redis: &mut Redis) {
        match self {
            Self::Killed => redis.restart(),
            Self::Stopped => redis.cont(),
            Self::WrongType => {
                redis.command("FLUSHALL");
            }
            Self::Full => {
                redis.command("CONFIG SET maxmemory 0");
            }
        }
    }
}

#[rstest]
#[case::killed(Trouble::Killed)]
#[case::stopped(Trouble::Stopped)]
#[case::wrong_type(Trouble::WrongType)]
#[case::full(Trouble::Full)]
#[tokio::test(flavor = "multi_thread")]
async fn results_flow_without_redis_and_with_it_again(#[case] trouble: Trouble) {
    let Some(mut redis) = Redis::start() else { return };
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.maitred = fleet.maitred.set("redis.url", redis.url()).set("redis.rest", "2s");
    // Only one that stands still is to run into this.
    let timeout = if trouble == Trouble::Stopped { "1s" } else { "20s" };
    fleet.maitred = fleet.maitred.set("redis.timeout", timeout);
    let mut worker = fleet.worker("w-1");
    until_ready(&mut worker, true);
    let (_, before) = work(&fleet, &Workload::with(71, 8, |_| 4)).await;
    wait_until("facts are kept", || {
        redis.command("EXISTS maitred:last:r71-0000 maitred:last:r71-0007") == ":2\r\n"
    });
    trouble.begin(&mut redis);
    // The same again with a review less, whose keys are there and are read; and others.
    let mut again = Workload::with(71, 8, |_| 4);
    for restaurant in &mut again.restaurants {
        restaurant["reviews"].as_array_mut().unwrap().pop();
    }
    fleet.submit(&again);
    let (report, during) = work(&fleet, &Workload::with(72, 8, |_| 4)).await;
    assert_eq!((report.results.len(), report.dead.len()), (24, 0), "{}", report.told());
    let refused = said(&worker, "WRONGTYPE") + said(&worker, "OOM");
    let opened = said(&worker, "facts are computed without their store until it answers");
    trouble.end(&mut redis);
    let mut round = 730;
    wait_until("facts are kept again", || {
        fleet.submit(&Workload::with(round, 1, |_| 4));
        round += 1;
        redis.command("KEYS maitred:last:r[0-9][0-9][0-9]*") != "*0\r\n"
    });
    let report = fleet.all_end().await;
    assert!(report.dead.is_empty(), "{}", report.told());
    eprintln!(
        "{trouble:?}: {before:.2?} a job before, {during:.2?} without Redis (all 16 jobs, by the 8 new ones); {refused} refusals"
    );
    // A refusal is an answer: nothing is given up for it.
    let silent = matches!(trouble, Trouble::Killed | Trouble::Stopped);
    assert_eq!(opened, usize::from(silent), "told once, not for each call");
    assert_eq!(refused > 0, !silent, "{refused} refusals");
    if silent {
        worker.wait_line("the store of facts answers again");
    }
    assert!(worker.is_running());
}
