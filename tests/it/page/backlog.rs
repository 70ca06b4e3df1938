//! What a fleet is scaled by: told when there is no worker, and never a zero that nobody knows.

use maitred_testkit::{http_get, wait_until};
use serde_json::Value;

use crate::page::rig::{Page, Rig};

impl Page {
    /// Status and body of what a scaler asks for.
    fn backlog(&self) -> (u16, Value) {
        let port = self.address().rsplit(':').next().unwrap().parse().unwrap();
        let (status, body) = http_get(port, "/api/backlog").expect("the page is served");
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    /// Waits until this many jobs are told at that place of the answer; all of it.
    fn wait_backlog(&self, at: &str, jobs: u64) -> Value {
        let told = || Some(self.backlog()).filter(|(status, _)| *status == 200).map(|(_, told)| told);
        let count = |told: &Value| told.pointer(at).and_then(Value::as_u64);
        wait_until(at, || told().is_some_and(|told| count(&told) == Some(jobs)));
        told().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_begun_without_a_worker_is_told_until_a_worker_has_worked_it() {
    let Some(rig) = Rig::new() else { return };
    let page = rig.ui(None);
    page.wait_backlog("/total/jobs", 0);
    rig.submit_some(3, 5);
    let told = page.wait_backlog("/lanes/live/jobs", 5);
    assert_eq!((&told["total"]["pending"], &told["replays"]["jobs"]), (&5.into(), &0.into()));
    let mut worker = rig.worker("ada");
    page.wait_backlog("/total/jobs", 0);
    worker.program.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(worker.program.wait_code(), 0);

    rig.maitred.run(&["backfill", "start", "--from", "2", "--id", "again"]).ended(0);
    // Newer jobs are not the backfill's, though its consumer counts them.
    rig.submit_some(4, 2);
    page.wait_backlog("/lanes/live/jobs", 2);
    let told = page.wait_backlog("/replays/jobs", 4);
    assert_eq!(told["backfills"]["again"], told["replays"]);
    assert_eq!((&told["replays"]["pending"], &told["replays"]["in_flight"]), (&4.into(), &0.into()));
    assert_eq!(told["total"]["jobs"], 6);
    let status = rig.maitred.run(&["status"]).ended(0).stdout;
    assert!(status.contains("jobs wait (6) and no worker is alive"), "{status}");

    let _worker = rig.worker("bea");
    page.wait_backlog("/total/jobs", 0);
    // It is over, and forgotten.
    wait_until("no backfill", || page.backlog().1["backfills"] == serde_json::json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_an_error_and_says_why() {
    let Some(mut rig) = Rig::new() else { return };
    let page = rig.ui(None);
    page.wait_backlog("/total/jobs", 0);
    rig.nats.kill();
    wait_until("an error", || page.backlog().0 == 503);
    let why = page.backlog().1["error"].to_string();
    assert!(why.contains("has not been known for"), "{why}");
    // And from the start on: never a zero that nobody has read.
    let late = rig.ui(None);
    let (status, told) = late.backlog();
    assert_eq!((status, told.get("total")), (503, None), "{told}");
    rig.nats.restart();
    page.wait_backlog("/total/jobs", 0);
    late.wait_backlog("/total/jobs", 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_streams_is_an_error_and_no_empty_fleet() {
    let Some(rig) = Rig::without_streams() else { return };
    let page = rig.ui(None);
    wait_until("the reason", || page.backlog().1["error"].to_string().contains("maitred init"));
    assert_eq!(page.backlog().0, 503);
    rig.maitred.run(&["init"]).ended(0);
    page.wait_backlog("/total/jobs", 0);
}
