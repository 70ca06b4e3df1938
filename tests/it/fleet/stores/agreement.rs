//! What Postgres says of a request, and what the engine's own step log says of the calls that it was in.
//!
//! The two come from different places: a row from the stamps and counts that an answer brings along, a line from the
//! step loop. With one sequence requests run one after the other, so that the log's calls can be dealt out to them by
//! their tokens alone, and times be taken from the log.

use maitred::engine::step_log::StepLine;
use maitred::scheduler::Lane;
use maitred_testkit::{LIMIT, Maitred, Postgres};
use nix::sys::signal::Signal;

use crate::fleet::worker_faults::team::{Team, long_job};

/// A row of `llm_metrics`, times in seconds on the engine's clock.
#[derive(Debug)]
struct Row {
    kind: String,
    prefill_tokens: u32,
    generated: u32,
    received: f64,
    admitted: f64,
    first: f64,
    finished: f64,
    prefill_ms: f64,
    decode_ms: f64,
    ttft_ms: f64,
    tpot_ms: Option<f64>,
}

/// Steps of ten milliseconds, in which nothing is read.
fn simulated(program: Maitred) -> Maitred {
    program.set("sim.step", "10ms").set("sim.token", "10us")
}

/// Lets a worker work some jobs; its rows in the order of admission, and its log without what came before the jobs.
async fn worked(
    jobs: usize,
    change: impl FnOnce(Maitred) -> Maitred,
) -> Option<(Postgres, Vec<Row>, Vec<StepLine>)> {
    let postgres = Postgres::start()?;
    let team = Team::new(|program| {
        let program = program
            .set("postgres.url", postgres.url())
            .set("log.steps", "steps.jsonl")
            // The simulated model leans a little to one side or the other: so that each leaning is a claim to write.
            .set("analysis.min_support", 1)
            .set("analysis.clause_margin", 0);
        change(program)
    })
    .await?;
    team.program.run(&["init"]).ended(0);
    let mut worker = team.worker("w-1");
    for n in 0..jobs {
        team.publish(Lane::Live, &long_job(n, 1 + n % 3)).await;
    }
    team.checker((0..jobs).map(|n| format!("j-{n}"))).await.wait(LIMIT).await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait_code(), 0);
    let rows = rows(&postgres);
    let begun = rows.iter().map(|row| row.received).fold(f64::INFINITY, f64::min);
    let text = std::fs::read_to_string(team.folder.path().join("steps.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    // Before the first job the worker calibrates: that belongs to nobody.
    let lines = lines.filter(|line: &StepLine| line.at > begun).collect();
    Some((postgres, rows, lines))
}

fn rows(postgres: &Postgres) -> Vec<Row> {
    let told = postgres.sql(
        "SELECT kind, prompt_tokens + forced_tokens, generated_tokens, at_received_ms, queue_ms, ttft_ms, total_ms,
                prefill_ms, decode_ms, ttft_ms, tpot_ms
         FROM llm_metrics ORDER BY at_received_ms + queue_ms",
    );
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        let number = |at: usize| cells[at].parse::<f64>().unwrap();
        Row {
            kind: cells[0].to_owned(),
            prefill_tokens: cells[1].parse().unwrap(),
            generated: cells[2].parse().unwrap(),
            received: number(3) / 1e3,
            admitted: (number(3) + number(4)) / 1e3,
            first: (number(3) + number(5)) / 1e3,
            finished: (number(3) + number(6)) / 1e3,
            prefill_ms: number(7),
            decode_ms: number(8),
            ttft_ms: number(9),
            tpot_ms: cells[10].parse().ok(),
        }
    };
    told.lines().map(row).collect()
}

/// The log's calls dealt out to the requests, by tokens alone.
fn deal<'l>(rows: &[Row], mut log: &'l [StepLine]) -> Vec<&'l [StepLine]> {
    let mut dealt = Vec::with_capacity(rows.len());
    for row in rows {
        let (mut fed, mut sampled, mut calls) = (0, 0, 0);
        while (fed, sampled) != (row.prefill_tokens, row.generated) {
            let line = log.get(calls).unwrap_or_else(|| panic!("the log ends before {row:?}"));
            (fed, sampled, calls) = (fed + line.prefill, sampled + line.generated, calls + 1);
            assert!(fed <= row.prefill_tokens && sampled <= row.generated, "{line:?} is not all of {row:?}");
            assert_eq!(line.sequences, 1);
        }
        let (own, rest) = log.split_at(calls);
        dealt.push(own);
        log = rest;
    }
    assert_eq!(log.len(), 0, "every call belongs to a request");
    dealt
}

/// A figure of the database beside the log's.
struct Compared {
    what: &'static str,
    told: f64,
    logged: f64,
}

/// What both say of one request, in milliseconds.
fn compare(row: &Row, calls: &[StepLine]) -> Vec<Compared> {
    let (begun, last) = (calls[0].begun_at(), calls[calls.len() - 1]);
    // Labels are known with the last call, words from the first sampled token on.
    let first = match row.kind.as_str() {
        "probe" => last,
        _ => *calls.iter().find(|line| line.generated > 0).unwrap(),
    };
    let decode = (last.decoded_at() - first.decoded_at()) * 1e3;
    let mut compared = vec![
        Compared { what: "prefill_ms", told: row.prefill_ms, logged: (first.decoded_at() - begun) * 1e3 },
        Compared { what: "ttft_ms", told: row.ttft_ms, logged: (first.decoded_at() - row.received) * 1e3 },
    ];
    if row.generated > 1 {
        let each = decode / f64::from(row.generated - 1);
        compared.push(Compared { what: "decode_ms", told: row.decode_ms, logged: decode });
        compared.push(Compared { what: "tpot_ms", told: row.tpot_ms.unwrap(), logged: each });
    } else {
        // All that is left after the first answer is to give it.
        assert!(row.decode_ms <= last.reading * 1e3 + 1e-3, "{row:?}: {last:?}");
    }
    compared
}

#[tokio::test(flavor = "multi_thread")]
async fn times_in_postgres_agree_with_the_engines_step_log_within_five_per_cent() {
    times_agree(simulated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_in_postgres_are_those_of_the_engines_step_log_to_the_last_one() {
    tokens_agree(simulated).await;
}

#[cfg(feature = "llama")]
mod with_the_real_model {
    use super::{Maitred, times_agree, tokens_agree};
    use crate::common;

    /// The models of the default settings; `false`, said on stderr, where they are not fetched.
    fn fetched() -> bool {
        ["gemma-3-270m-q8_0.gguf", "all-minilm-l6-v2-f16.gguf"].map(common::model).iter().all(Option::is_some)
    }

    fn real(program: Maitred) -> Maitred {
        program.set("engine.backend", "llama")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn times_in_postgres_agree_with_the_engines_step_log_within_five_per_cent() {
        if fetched() {
            times_agree(real).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tokens_in_postgres_are_those_of_the_engines_step_log_to_the_last_one() {
        if fetched() {
            tokens_agree(real).await;
        }
    }
}

/// Times of each request within 5 %, over four jobs.
async fn times_agree(engine: impl FnOnce(Maitred) -> Maitred) {
    // Calls so long that what passes between two looks at the clock is little beside them.
    let alone = |program: Maitred| engine(program.set("engine.sequences", 1)).set("sim.step", "40ms");
    let Some((_postgres, rows, log)) = worked(4, alone).await else { return };
    let compared: Vec<Compared> =
        rows.iter().zip(deal(&rows, &log)).flat_map(|(row, calls)| compare(row, calls)).collect();
    for what in ["prefill_ms", "ttft_ms", "decode_ms", "tpot_ms"] {
        let pairs: Vec<&Compared> = compared.iter().filter(|pair| pair.what == what).collect();
        let sum = |of: fn(&Compared) -> f64| pairs.iter().map(|pair| of(pair)).sum::<f64>();
        let (told, logged) = (sum(|pair| pair.told), sum(|pair| pair.logged));
        let worst = pairs.iter().map(|pair| (pair.told / pair.logged - 1.0).abs()).fold(0.0, f64::max);
        eprintln!(
            "{what}: {told:.1} ms in Postgres, {logged:.1} ms in the log over {} requests; the worst differs by {:.2} %",
            pairs.len(),
            worst * 100.0
        );
        assert!(!pairs.is_empty(), "{what}: nothing to compare");
        assert!((told / logged - 1.0).abs() <= 0.05, "{what}: {told} and {logged}");
        // A busy machine may stop the thread between two looks at the clock; it can do that to a few, not to all.
        let apart = pairs.iter().filter(|pair| (pair.told / pair.logged - 1.0).abs() > 0.05).count();
        assert!(apart <= pairs.len().div_ceil(20), "{what}: {apart} of {} differ by more", pairs.len());
    }
}

/// Sums of tokens to the last one, over eight jobs.
async fn tokens_agree(engine: impl FnOnce(Maitred) -> Maitred) {
    let several = |program: Maitred| engine(program.set("worker.slots", 4).set("engine.sequences", 8));
    let Some((postgres, rows, log)) = worked(8, several).await else { return };
    assert!(log.iter().any(|line| line.sequences > 1), "requests were in work at the same time");
    let prefilled: u64 = log.iter().map(|line| u64::from(line.prefill)).sum();
    let generated: u64 = log.iter().map(|line| u64::from(line.generated)).sum();
    assert!(prefilled > 0 && generated > 0);
    for table in ["llm_metrics", "analysis_metrics", "job_metrics"] {
        let sums = postgres
            .sql(&format!("SELECT sum(prompt_tokens + forced_tokens), sum(generated_tokens) FROM {table}"));
        assert_eq!(sums, format!("{prefilled}|{generated}"), "{table}");
    }
    // Each first label or token was known at the end of a call, and nothing was answered between calls.
    for row in rows {
        assert!(
            row.received <= row.admitted && row.admitted <= row.first && row.first <= row.finished,
            "{row:?}"
        );
        let call = log.iter().any(|line| (line.decoded_at() - row.first).abs() < 1e-6);
        assert!(call, "no call ended at {row:?}");
    }
    assert_eq!(
        postgres.sql(
            "SELECT count(*) FROM job_metrics WHERE at_received_ms <= at_admitted_ms AND at_admitted_ms <= at_first_token_ms
                AND at_first_token_ms <= at_prefilled_ms AND at_prefilled_ms <= at_published_ms AND config <> ''
                AND device = 'cpu' AND deliveries = 1"
        ),
        "8"
    );
    assert_eq!(
        postgres.sql("SELECT ending, ended_at > started_at, slots, sequences FROM worker_lives"),
        "drained|t|4|8"
    );
    let windows = postgres.sql("SELECT sum(jobs), sum(tokens), sum(busy_seconds) > 0 FROM goodput_windows");
    assert_eq!(
        windows,
        format!("8|{}|t", prefilled + generated),
        "what is left of a minute is written at the end"
    );
}
