//! The kill test: everything is killed, again and again, and every job ends once.
//!
//! The moments are drawn from a seed, which is printed; `MAITRED_KILL_SEED` repeats a run (as far as processes that
//! race can be repeated), `MAITRED_KILL_JOBS` makes it longer.

use std::time::{Duration, Instant};

use maitred_testkit::{Nats, Postgres, Program, Redis, wait_until};

use crate::common::fleet::{Checker, Workload, maitred};

/// Short, so that leases end many times in the test.
const ACK_WAIT: Duration = Duration::from_secs(4);

/// What happens to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// SIGKILL to a worker, which is started again at once.
    KillWorker,
    /// SIGSTOP to a worker for twice the ack wait: its leases end without its knowing.
    StopWorker,
    /// SIGKILL to nats-server, which is started again.
    KillNats,
    /// SIGKILL to Redis, which is started again.
    KillRedis,
    /// SIGKILL to Postgres, which is started again.
    KillPostgres,
}

/// The faults of a run: the named ones as often as the issue asks, in an order of the seed's, worker kills between all.
fn plan(random: &mut fastrand::Rng) -> Vec<Fault> {
    let mut rare =
        [Fault::KillNats, Fault::KillNats, Fault::KillRedis, Fault::KillPostgres, Fault::StopWorker];
    random.shuffle(&mut rare);
    rare.into_iter().flat_map(|fault| [Fault::KillWorker, fault, Fault::KillWorker]).collect()
}

struct Fleet {
    nats: Nats,
    redis: Redis,
    postgres: Postgres,
    workers: Vec<Program>,
}

impl Fleet {
    fn strike(&mut self, fault: Fault, random: &mut fastrand::Rng) {
        let victim = random.usize(..self.workers.len());
        match fault {
            Fault::KillWorker => self.workers[victim].restart(),
            Fault::StopWorker => {
                self.workers[victim].stop();
                std::thread::park_timeout(ACK_WAIT * 2);
                self.workers[victim].cont();
            }
            Fault::KillNats => {
                self.nats.kill();
                std::thread::park_timeout(Duration::from_millis(random.u64(100..2000)));
                self.nats.restart();
            }
            Fault::KillRedis => {
                self.redis.kill();
                std::thread::park_timeout(Duration::from_millis(random.u64(500..3000)));
                self.redis.restart();
            }
            Fault::KillPostgres => {
                self.postgres.kill();
                std::thread::park_timeout(Duration::from_millis(random.u64(500..3000)));
                self.postgres.restart();
            }
        }
    }
}

/// How many, and which when they are few.
fn told(problems: &[String]) -> String {
    if problems.len() > 3 { problems.len().to_string() } else { format!("{problems:?}") }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_ends_once_whatever_is_killed() {
    let seed = number("MAITRED_KILL_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let jobs = number("MAITRED_KILL_JOBS").unwrap_or(400) as usize;
    eprintln!("MAITRED_KILL_SEED={seed} MAITRED_KILL_JOBS={jobs}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (Some(nats), Some(redis), Some(postgres)) = (Nats::start(), Redis::start(), Postgres::start()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let maitred = maitred(folder.path())
        .set("nats.url", nats.url())
        .set("redis.url", redis.url())
        .set("postgres.url", postgres.url())
        .set("nats.ack_wait", format!("{}s", ACK_WAIT.as_secs()))
        .set("nats.max_deliver", "1000")
        .set("engine.backend", "sim")
        .set("sim.step", "60ms")
        .set("sim.token", "40us")
        .set("worker.slots", "4")
        .set("worker.look_ahead", "4")
        // Random kills hit innocents too; this test is not about poison.
        .set("worker.max_crashes", "50")
        .set("health.listen", "none")
        .set("log.level", "info");
    maitred.run(&["init"]).ended(0);
    let workload = Workload::new(seed, jobs);
    let file = folder.path().join("jobs.jsonl");
    workload.write(&file);
    maitred.run(&["submit", file.to_str().unwrap()]).ended(0);
    let workers = ["w-1", "w-2"].map(|name| maitred.worker(name)).into();
    let checker = Checker::of_all_jobs(&nats.url()).await;
    let mut fleet = Fleet { nats, redis, postgres, workers };
    let begun = Instant::now();
    for fault in plan(&mut random) {
        std::thread::park_timeout(Duration::from_millis(random.u64(1500..4000)));
        let problems = checker.look().await.problems;
        eprintln!("{:6.1} s {fault:?}, not done: {}", begun.elapsed().as_secs_f64(), told(&problems));
        fleet.strike(fault, &mut random);
    }
    let report = checker.wait(Duration::from_mins(5)).await;
    eprintln!("{:6.1} s all ended: {}", begun.elapsed().as_secs_f64(), report.told());
    assert_eq!(report.results.len(), jobs, "{}", report.told());
    for worker in &mut fleet.workers {
        worker.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(worker.wait_code(), 0);
    }
    wait_until("the workers are gone", || fleet.workers.iter_mut().all(|worker| !worker.is_running()));
}
