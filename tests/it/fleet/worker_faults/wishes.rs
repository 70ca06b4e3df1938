//! `maitred cancel`, wherever the job is.

use std::time::Duration;

use maitred::result::Outcome;
use maitred::scheduler::Lane;

use super::team::{Team, job, job_of, long_job};
use crate::fleet::ground::until;

const LIMIT: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_as_one_result_that_says_so_wherever_it_was() {
    let Some(team) = Team::new(|program| {
        program.set("sim.step", "600ms").set("worker.slots", "1").set("worker.look_ahead", "1")
    })
    .await
    else {
        return;
    };
    // In the stream: nobody works yet.
    team.publish(Lane::Live, &job(0)).await;
    let told = team.program.run(&["cancel", "j-0"]).ended(0).stdout;
    assert!(told.contains("taken out of the queue"), "{told}");
    // Running, for many seconds; queued at the worker, which takes longer to read it; and a short one behind both that
    // is not cancelled.
    for job in [job(1), long_job(2, 60), job_of("j-3", "r-3", "The soup was hot.")] {
        team.publish(Lane::Live, &job).await;
    }
    let worker = team.worker("w-1");
    worker.wait_jobs("running", |running| running == 1);
    worker.wait_jobs("queued", |queued| queued == 1);
    // The worker answers, however long that takes.
    let told = team.program.run(&["cancel", "j-2", "--patience", "60"]).ended(0).stdout;
    assert!(told.contains("waited at a worker"), "{told}");
    let told = team.program.run(&["cancel", "j-1", "--patience", "60"]).ended(0).stdout;
    assert!(told.contains("a worker is running it"), "{told}");
    let jobs = (0..=3).map(|n| format!("j-{n}"));
    team.checker(jobs).await.wait(LIMIT).await;
    for n in 0..=2 {
        let result = team.result(&format!("j-{n}")).await.result;
        assert!(
            matches!(&result.outcome, Outcome::Failed { code, .. } if code == "cancelled"),
            "{}: {:?}",
            result.job_id,
            result.outcome
        );
    }
    assert!(team.result("j-3").await.result.outcome.has_findings());
    until("no marks are left", async || team.attempts().await.is_empty().then_some(())).await;
}
