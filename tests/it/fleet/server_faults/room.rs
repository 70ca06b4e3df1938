//! Row "NATS disk full": a result that cannot be stored is held until it can.

use std::time::Duration;

use async_nats::jetstream;
use maitred_testkit::{Nats, NatsConfig, jetstream, wait_until};

use super::super::faults::{ACK_WAIT, Fleet, settled, until_ready};
use super::{jobs, said};
use crate::common::fleet::Workload;

/// All that the server may store.
const STORE: u64 = 8 << 20;

/// Publishes to a stream of its own until the server takes no more, not even a little.
async fn fill(context: &jetstream::Context) {
    let config = jetstream::stream::Config {
        name: "FILL".into(),
        subjects: vec!["fill".into()],
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    for size in [256 << 10, 16 << 10, 1 << 10, 32] {
        let block = vec![b'x'; size];
        while let Ok(ack) = context.publish("fill", block.clone().into()).await {
            if ack.await.is_err() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_find_no_room_are_held_until_there_is_some() {
    let config = NatsConfig { max_store: Some(STORE), ..NatsConfig::default() };
    let Some(nats) = Nats::start_with(&config) else { return };
    let mut fleet = Fleet::on(nats, ACK_WAIT);
    fleet.maitred = fleet.maitred.set("nats.jobs_max_bytes", "1 MiB").set("worker.look_ahead", 4);
    fleet.maitred.run(&["init"]).ended(0);
    fleet.submit(&Workload::new(91, 6));
    let context = jetstream(fleet.nats.connect().await);
    fill(&context).await;
    let mut worker = fleet.worker("w-1");
    worker.wait_line("failed; trying until it works");
    until_ready(&mut worker, true);
    // Held for three ack waits, told in renewals: the leases must be renewed all the time.
    let enough = jobs(&mut worker, "renewals") + 6 * 3 * 3;
    wait_until("leases are renewed", || jobs(&mut worker, "renewals") >= enough);
    assert_eq!((settled(&worker), jobs(&mut worker, "held")), (0, 6));
    context.delete_stream("FILL").await.unwrap();
    let freed = std::time::Instant::now();
    let report = fleet.all_end().await;
    let took: Duration = freed.elapsed();
    assert_eq!((report.results.len(), report.dead.len()), (6, 0), "{}", report.told());
    assert_eq!(said(&worker, "delivered=1 "), 6, "a job was delivered again");
    eprintln!("all done {took:.1?} after there was room, {} renewals", jobs(&mut worker, "renewals"));
}
