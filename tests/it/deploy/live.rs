//! The dashboards' own queries and the rules, asked of a real Prometheus that scraped a real fleet.
//!
//! Two workers with the simulated engine work fifty restaurants, and then the same with a review more each, so that facts
//! are known; a message that is no job makes a dead letter.

use std::collections::BTreeSet;
use std::time::Duration;

use maitred::broker::names;
use maitred::scheduler::Lane;
use maitred_testkit::{Maitred, Nats, Port, Postgres, Program, Prometheus, Redis, poll, wait_until};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::common::fleet::{Workload, maitred};
use crate::deploy::dashboards::dashboards;
use crate::deploy::file::{document, files};

const RESTAURANTS: usize = 50;
/// Debug builds, on a machine that does other things too.
const LIMIT: Duration = Duration::from_mins(5);
/// Panels that this run cannot fill, and why.
const EMPTY: [(&str, &str); 6] = [
    ("GPU utilization", "there is no GPU"),
    ("GPU memory", "there is no GPU"),
    ("GPU power", "there is no GPU"),
    ("GPU temperature", "there is no GPU"),
    ("GPU readings that failed", "there is no GPU"),
    ("In time, last window of each worker", "the first window closes after a minute"),
];
/// What must not fire over a fleet that is well but for one dead letter.
const MAY_FIRE: [&str; 1] = ["MaitredDeadLettersArriving"];

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_has_data_after_a_run_over_fifty_restaurants() {
    let Some(fleet) = Fleet::start() else { return };
    fleet.work().await;
    let Fleet { prometheus, began, .. } = &fleet;
    let until = unix_now();

    let (mut empty, mut excused) = (Vec::new(), BTreeSet::new());
    for (name, dashboard) in dashboards() {
        for panel in dashboard.panels() {
            if EMPTY.iter().any(|(title, _)| *title == panel.title) {
                excused.insert(panel.title.clone());
                continue;
            }
            for (legend, expression) in &panel.queries {
                let answer = prometheus.query_range(&filled_in(expression), *began, until, 1);
                if !has_a_number(&answer) {
                    empty.push(format!("{name}, {}, {legend}: {answer}", panel.title));
                }
            }
        }
    }
    assert!(empty.is_empty(), "panels without data:\n{}", empty.join("\n"));
    assert_eq!(excused.len(), EMPTY.len(), "excuses for panels that there are not");

    fleet.check_recorded(until);
    fleet.check_rules();
    fleet.check_variables();
}

/// The fleet and who watches it.
struct Fleet {
    nats: Nats,
    _redis: Redis,
    _postgres: Postgres,
    prometheus: Prometheus,
    program: Maitred,
    workers: Vec<Program>,
    folder: tempfile::TempDir,
    /// Unix time.
    began: u64,
}

impl Fleet {
    fn start() -> Option<Self> {
        let (nats, redis, postgres) = (Nats::start()?, Redis::start()?, Postgres::start()?);
        let ports = [Port::free(), Port::free()];
        let addresses: Vec<String> =
            ports.iter().map(|port| format!("127.0.0.1:{}", port.number())).collect();
        let prometheus = Prometheus::start(&addresses)?;
        let folder = tempfile::tempdir().unwrap();
        let program = maitred(folder.path())
            .set("nats.url", nats.url())
            .set("redis.url", redis.url())
            .set("postgres.url", postgres.url())
            // The server promises no more than its disk has.
            .set("nats.jobs_max_bytes", "64 MiB")
            .set("engine.backend", "sim")
            // What the simulated engine says leans hardly to a side. So every clause counts, and claims are written.
            .set("analysis.clause_margin", "0.0")
            .set("analysis.min_support", "1")
            .set("log.level", "info");
        program.run(&["init"]).ended(0);
        let start = |(n, address): (usize, &String)| {
            let mut worker = program.clone().set("health.listen", address).worker(&format!("w-{n}"));
            worker.wait_line("models are ready");
            worker
        };
        let workers = addresses.iter().enumerate().map(start).collect();
        let fleet = Self {
            nats,
            _redis: redis,
            _postgres: postgres,
            prometheus,
            program,
            workers,
            folder,
            began: unix_now(),
        };
        // Both are scraped before there is work: what is counted later is counted from nought.
        wait_until("Prometheus sees both workers", || fleet.number("sum(maitred_worker_ready)") == Some(2.0));
        Some(fleet)
    }

    /// Everything that panels are about happens.
    async fn work(&self) {
        let mut workload = Workload::new(11, RESTAURANTS);
        self.submit(&workload, "first.jsonl", "1");
        self.wait_jobs(RESTAURANTS);
        for (n, restaurant) in workload.restaurants.iter_mut().enumerate() {
            let more = json!({ "id": format!("more-{n}"), "text": format!("The {n} dumplings were juicy and hot.") });
            restaurant["reviews"].as_array_mut().unwrap().push(more);
        }
        self.submit(&workload, "second.jsonl", "2");
        self.wait_jobs(2 * RESTAURANTS);
        let client = self.nats.connect().await;
        client.publish(names::job_subject(Lane::Hi, "r"), "no job".into()).await.unwrap();
        client.flush().await.unwrap();
        let seen = poll(LIMIT, || {
            self.number("max(maitred_dead_letters_waiting)").filter(|letters| *letters >= 1.0)
        });
        assert!(seen.is_some(), "a dead letter is told of");
    }

    fn submit(&self, workload: &Workload, name: &str, epoch: &str) {
        let file = self.folder.path().join(name);
        workload.write(&file);
        self.program.run(&["submit", file.to_str().unwrap(), "--epoch", epoch]).ended(0);
    }

    /// Until Prometheus has seen so many ends.
    fn wait_jobs(&self, jobs: usize) {
        let seen =
            poll(LIMIT, || self.number("sum(maitred_jobs_total)").filter(|ended| *ended >= jobs as f64));
        assert!(
            seen.is_some(),
            "{jobs} jobs were to end, {:?} did\n{}",
            self.number("sum(maitred_jobs_total)"),
            self.workers[0].log()
        );
    }

    /// The value of an expression that has one.
    fn number(&self, expression: &str) -> Option<f64> {
        let answer: Value = serde_json::from_str(&self.prometheus.query(expression)).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// What alerts are about is recorded, unless nothing of the kind can be there.
    fn check_recorded(&self, until: u64) {
        for rule in
            document("deploy/prometheus/rules/recording.yml")["groups"][0]["rules"].as_array().unwrap()
        {
            let series = rule["record"].as_str().unwrap();
            let answer = self.prometheus.query_range(series, self.began, until, 1);
            assert!(series.contains("gpu") || has_a_number(&answer), "{series}: {answer}");
        }
    }

    /// All rules can be evaluated, and nothing fires or is about to without a reason.
    fn check_rules(&self) {
        let answer: Value = serde_json::from_str(&self.prometheus.get("/api/v1/rules")).unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
        assert!(rules.len() > 20, "{answer}");
        for rule in rules {
            assert_eq!(rule["health"], "ok", "{rule}");
            let name = rule["name"].as_str().unwrap();
            let quiet = rule["type"] == "recording" || rule["state"] == "inactive";
            // A pending one may be of a moment in which nobody had asked the lanes yet.
            assert!(quiet || rule["state"] == "pending" || MAY_FIRE.contains(&name), "{rule}");
        }
    }

    /// What one can choose on a dashboard is there to be chosen.
    fn check_variables(&self) {
        let values = |label: &str, series: &str| {
            let answer = self.prometheus.get(&format!("/api/v1/label/{label}/values?match[]={series}"));
            let answer: Value = serde_json::from_str(&answer).unwrap();
            answer["data"].as_array().unwrap().len()
        };
        assert_eq!(values("instance", "maitred_worker_ready"), 2);
        assert_eq!(values("lane", "maitred_lane_pending"), 3);
    }
}

/// As Grafana sends it, with everything chosen.
fn filled_in(expression: &str) -> String {
    let filled =
        expression.replace("$__rate_interval", "10s").replace("$worker", ".*").replace("$lane", ".*");
    assert!(!filled.contains('$'), "{filled}");
    filled.trim().to_owned()
}

/// Whether there is a sample that is a number: a share of nothing is NaN.
fn has_a_number(answer: &str) -> bool {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let series = answer["data"]["result"].as_array().into_iter().flatten();
    let samples = series.flat_map(|series| series["values"].as_array().into_iter().flatten());
    let numbers = samples.filter_map(|sample| sample[1].as_str()?.parse::<f64>().ok());
    numbers.into_iter().any(f64::is_finite)
}

/// In seconds, as Prometheus counts.
fn unix_now() -> u64 {
    OffsetDateTime::now_utc().unix_timestamp().unsigned_abs()
}

#[test]
fn what_is_no_number_is_no_data() {
    let answer = |value: &str| format!(r#"{{"data":{{"result":[{{"values":[[1,"{value}"]]}}]}}}}"#);
    assert!(has_a_number(&answer("0")));
    assert!(!has_a_number(&answer("NaN")) && !has_a_number(&answer("+Inf")));
    assert!(!has_a_number(r#"{"status":"error"}"#) && !has_a_number(r#"{"data":{"result":[]}}"#));
}

#[test]
fn no_file_of_rules_is_forgotten() {
    // absence-keda.yml takes the place of absence.yml where KEDA scales.
    let named = crate::deploy::file::read("deploy/prometheus/prometheus.yml");
    for file in files("deploy/prometheus/rules", ".yml") {
        assert!(named.contains(file.trim_start_matches("deploy/prometheus/")), "{file}");
    }
}
