//! Row "stream deleted / drift": the worker names what is wrong, leaves it alone, and goes on when `maitred init` has
//! mended it.

use async_nats::jetstream;
use async_nats::jetstream::consumer::{Consumer, pull};
use maitred::broker::names;
use maitred::scheduler::Lane;
use maitred_testkit::jetstream;
use rstest::rstest;

use super::super::faults::{Fleet, health, until_ready};
use super::until_it_complains;
use crate::common::fleet::{Checker, Workload};
use crate::fleet::ground::until;

/// What somebody does to the server.
#[derive(Debug, Clone, Copy)]
enum Change {
    DeleteStream,
    DeleteConsumer,
    AckWait,
    Subjects,
}

impl Change {
    async fn make(self, context: &jetstream::Context) {
        let lane = names::lane_consumer(Lane::Live);
        match self {
            Self::DeleteStream => {
                context.delete_stream(names::JOBS_STREAM).await.unwrap();
            }
            Self::DeleteConsumer => {
                context.delete_consumer_from_stream(lane, names::JOBS_STREAM).await.unwrap();
            }
            Self::AckWait => {
                let consumer: Consumer<pull::Config> =
                    context.get_consumer_from_stream(&lane, names::JOBS_STREAM).await.unwrap();
                let mut config = consumer.cached_info().config.clone();
                config.ack_wait = std::time::Duration::from_secs(77);
                context.update_consumer_on_stream(config, names::JOBS_STREAM).await.unwrap();
            }
            Self::Subjects => {
                let mut config = stream(context).await.unwrap();
                config.subjects.push("other.jobs.>".into());
                context.update_stream(config).await.unwrap();
            }
        }
    }

    /// Whether it is as it was made: nobody has corrected it.
    async fn is_there(self, context: &jetstream::Context) -> bool {
        let lane = names::lane_consumer(Lane::Live);
        let consumer: Option<Consumer<pull::Config>> =
            context.get_consumer_from_stream(&lane, names::JOBS_STREAM).await.ok();
        let ack_wait = consumer.as_ref().map(|consumer| consumer.cached_info().config.ack_wait.as_secs());
        match self {
            Self::DeleteStream => stream(context).await.is_none(),
            Self::DeleteConsumer => consumer.is_none(),
            Self::AckWait => ack_wait == Some(77),
            Self::Subjects => stream(context).await.is_some_and(|stream| stream.subjects.len() == 2),
        }
    }

    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::DeleteStream => &["stream REVIEW_JOBS", "missing", "maitred init"],
            Self::DeleteConsumer => &["consumer worker-live", "missing", "maitred init"],
            Self::AckWait => &["consumer worker-live: ack_wait is 1m 17s, 3s is wanted"],
            Self::Subjects => &["stream REVIEW_JOBS: subjects", "other.jobs.>"],
        }
    }
}

async fn stream(context: &jetstream::Context) -> Option<jetstream::stream::Config> {
    Some(context.get_stream(names::JOBS_STREAM).await.ok()?.cached_info().config.clone())
}

#[rstest]
#[case::stream_deleted(Change::DeleteStream)]
#[case::consumer_deleted(Change::DeleteConsumer)]
#[case::ack_wait_changed(Change::AckWait)]
#[case::subjects_changed(Change::Subjects)]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_before_the_start_or_since_is_named_and_left_alone(#[case] change: Change) {
    let Some(fleet) = Fleet::new() else { return };
    let context = jetstream(fleet.nats.connect().await);
    change.make(&context).await;
    let mut worker = fleet.worker("w-1");
    for (round, when) in ["before the start", "since"].into_iter().enumerate() {
        let named = until_it_complains(&mut worker, change.words());
        eprintln!("{change:?} {when}: named after {named:.1?}");
        assert_eq!(health(&mut worker, "/livez").0, 200);
        assert!(change.is_there(&context).await, "the worker corrected it {when}");
        fleet.maitred.run(&["init"]).ended(0);
        until_ready(&mut worker, true);
        fleet.submit(&Workload::new(60 + round as u64, 2));
        // Not told from the jobs in the stream: those of a stream that was deleted have their results still.
        let checker = Checker::new(&fleet.nats.url(), []).await;
        until("all jobs have ended", async || {
            let found = checker.look().await;
            assert!(found.dead.is_empty() && found.results.values().all(|count| *count == 1), "{found:?}");
            (found.results.len() == 2 * (round + 1)).then_some(())
        })
        .await;
        if round == 0 {
            change.make(&context).await;
        }
    }
    assert!(worker.is_running());
}
