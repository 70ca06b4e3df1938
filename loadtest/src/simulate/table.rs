//! The study as text: what a person reads first.

use std::fmt::Write as _;

use super::plots::distinct;
use super::{Body, Discipline, Hold, HoldRow, Row};

/// Everything, as Markdown. Writing to a `String` cannot fail.
pub(super) fn all(body: &Body) -> String {
    let mut text = String::new();
    about(body, &mut text);
    weights(body, &mut text);
    orders(body, &mut text);
    drained(body, &mut text);
    holds(body, &mut text);
    text
}

fn about(body: &Body, out: &mut String) {
    let device = body.device;
    let tokens = if body.tokens_estimated { "estimated from characters" } else { "by the model's tokenizer" };
    let files = body.rows.iter().map(|row| row.file.as_str());
    let mut files: Vec<&str> = files.collect();
    files.sort_unstable();
    files.dedup();
    let _ = writeln!(
        out,
        "SIMULATED: the engine's core on a virtual clock; a decode call takes {} ms and {} ms a token, {} sequences of \
         which {} are pinned, {} tokens a call.\n{} jobs a trace, seeds {:?}, files {}; tokens {tokens}.",
        device.step * 1e3,
        device.token * 1e3,
        device.sequences,
        device.pinned,
        device.batch_tokens,
        body.jobs,
        body.seeds,
        files.join(", "),
    );
    let bound = body.bound;
    let _ = writeln!(
        out,
        "Bound on passing: {} runs, {} passes, {} beyond the bound.\n",
        bound.runs, bound.passes, bound.violations
    );
}

fn weights(body: &Body, out: &mut String) {
    let (choice, criterion) = (&body.choice, &body.choice.criterion);
    let _ = writeln!(
        out,
        "λ, loads {} to {}, medians over {} traces and loads of ratios within one trace:\n\n\
         | λ | small p50, to shortest first | small p95, to shortest first | small p50, to fifo | large TTFT p99, to fifo | large end p99, to fifo | throughput, to fifo |\n\
         |---|---|---|---|---|---|---|",
        criterion.loads.0, criterion.loads.1, choice.runs
    );
    for candidate in &choice.candidates {
        let mark = if candidate.lambda.total_cmp(&choice.lambda).is_eq() { "**" } else { "" };
        let _ = writeln!(
            out,
            "| {mark}{}{mark} | {:.2} | {:.2} | {:.3} | {:.2} | {:.2} | {:.3} |",
            candidate.lambda,
            candidate.small_p50,
            candidate.small_p95,
            candidate.small_p50_to_fifo,
            candidate.large_p99,
            candidate.large_end_p99,
            candidate.throughput,
        );
    }
    let _ = writeln!(
        out,
        "\nChosen: λ = {}{}. Criterion: the smallest λ with small p50 and p95 within {} of shortest first and large end \
         p99 within {} of fifo.\n",
        choice.lambda,
        if choice.met { "" } else { ", though none meets all of the criterion" },
        criterion.small,
        criterion.large,
    );
}

fn orders(body: &Body, out: &mut String) {
    let shown = [Discipline::Fifo, Discipline::Weighted(body.choice.lambda), Discipline::Shortest];
    let mut files: Vec<&str> = body.rows.iter().map(|row| row.file.as_str()).collect();
    files.dedup();
    files.sort_unstable();
    files.dedup();
    for file in files {
        let _ = writeln!(
            out,
            "{file}, medians over seeds, seconds; within the level: first token in {} s:\n\n\
             | load | order | small p50 | p95 | medium p50 | p95 | large p50 | p99 | large end p99 | within the level | jobs/s | goodput |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|",
            body.sla
        );
        for load in distinct(body.rows.iter().map(|row| row.load)) {
            for discipline in shown {
                let like = |row: &&Row| {
                    row.file == file && row.load.total_cmp(&load).is_eq() && row.discipline == discipline
                };
                if let Some(row) = body.rows.iter().find(like) {
                    order_line(row, out);
                }
            }
        }
        let _ = writeln!(out);
    }
}

fn order_line(row: &Row, out: &mut String) {
    let _ = writeln!(
        out,
        "| {} | {} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {:.1} % | {:.3} | {:.3} |",
        row.load,
        row.discipline.name(),
        row.small_p50,
        row.small_p95,
        row.medium_p50,
        row.medium_p95,
        row.large_p50,
        row.large_p99,
        row.large_end_p99,
        row.compliance * 100.0,
        row.throughput,
        row.goodput,
    );
}

fn drained(body: &Body, out: &mut String) {
    let _ = writeln!(
        out,
        "A backlog of {} jobs, drained, seconds:\n\n\
         | file | seed | tokens | cost of a small, medium, large job | fifo | λ = {} | shortest first | jobs/s |\n\
         |---|---|---|---|---|---|---|---|",
        body.jobs, body.choice.lambda
    );
    for trace in &body.traces {
        let [small, medium, large] = trace.mean_costs;
        let [fifo, ours, shortest] = trace.makespans;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {small:.2}, {medium:.1}, {large:.1} | {fifo:.0} | {ours:.0} | {shortest:.0} | {:.3} |",
            trace.file, trace.seed, trace.tokens, trace.capacity
        );
    }
    let _ = writeln!(out);
}

fn holds(body: &Body, out: &mut String) {
    let _ = writeln!(
        out,
        "What a worker holds of a first-come-first-served queue, λ = {}, medians over files and seeds, seconds:\n\n\
         | load | slots | look-ahead | small p50 | small p95 | large end p99 | within the level | jobs/s |\n\
         |---|---|---|---|---|---|---|---|",
        body.choice.lambda
    );
    for row in &body.holds {
        hold_line(row, out);
    }
}

fn hold_line(row: &HoldRow, out: &mut String) {
    let Hold { slots, look_ahead } = row.hold;
    let _ = writeln!(
        out,
        "| {} | {} | {look_ahead} | {:.2} | {:.2} | {:.0} | {:.1} % | {:.3} |",
        row.load,
        slots.map_or_else(|| "all".to_owned(), |slots| slots.to_string()),
        row.small_p50,
        row.small_p95,
        row.large_end_p99,
        row.compliance * 100.0,
        row.throughput,
    );
}
