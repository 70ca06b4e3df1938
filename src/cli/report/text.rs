//! The report as a table on a terminal.

use super::words::{self, NO_DATA, or_no_data};
use crate::cli::columns::{Align, list, record, span};
use crate::cli::text::{Style, thousands};
use crate::report::{Count, Flow, Gpu, Jobs, Report, Service, Worker};

/// All of it.
pub fn table(report: &Report, style: Style) -> String {
    let part = |title: &str, body: String| {
        let body = if body.is_empty() { format!("{NO_DATA}\n") } else { body };
        format!("{}\n{body}", style.bold(title))
    };
    let mut parts = vec![
        format!("{}\n", words::period(report.period)),
        part("jobs", or_nothing(report.jobs.as_ref(), |all| jobs(all, style))),
        part("service", service(&report.service, style)),
        part("flow", or_nothing(report.flow.as_ref(), |all| flow(all, style))),
        part("tokens", or_nothing(report.tokens.as_ref(), |all| record(&words::tokens(all), style))),
        part("hours of the day (UTC)", hours(report, style)),
        part("engine", requests(report, style)),
        part("gpus", gpus(&report.gpus, style)),
        part("workers", workers(&report.workers, style)),
        part("cost", or_nothing(report.cost.as_ref(), |cost| record(&words::cost(cost), style))),
        part("errors", or_nothing(report.errors.as_ref(), |counts| counted(counts, "code", style))),
    ];
    let letters = or_nothing(report.dead_letters.as_ref(), |counts| counted(counts, "reason", style));
    parts.push(part("dead letters", letters));
    parts.join("\n")
}

fn or_nothing<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map(text).unwrap_or_default()
}

fn jobs(jobs: &Jobs, style: Style) -> String {
    if jobs.lanes.is_empty() {
        return "none\n".to_owned();
    }
    let mut outcomes: Vec<&str> =
        jobs.lanes.values().flat_map(|lane| lane.keys().map(String::as_str)).collect();
    outcomes.sort_unstable();
    outcomes.dedup();
    let mut heads = vec![("lane", Align::Left), ("jobs", Align::Right)];
    heads.extend(outcomes.iter().map(|outcome| (*outcome, Align::Right)));
    let row = |(lane, counts): (&String, &std::collections::BTreeMap<String, u64>)| {
        let mut cells = vec![lane.clone(), thousands(counts.values().sum())];
        cells.extend(outcomes.iter().map(|outcome| thousands(counts.get(*outcome).copied().unwrap_or(0))));
        cells
    };
    let mut rows: Vec<Vec<String>> = jobs.lanes.iter().map(row).collect();
    if rows.len() > 1 {
        let sum =
            |outcome: &str| -> u64 { jobs.lanes.values().filter_map(|counts| counts.get(outcome)).sum() };
        let mut all = vec!["all".to_owned(), thousands(jobs.total)];
        all.extend(outcomes.iter().map(|outcome| thousands(sum(outcome))));
        rows.push(all);
    }
    list(&heads, &rows, style)
}

fn service(lines: &[Service], style: Style) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let heads = [
        ("lane", Align::Left),
        ("size", Align::Left),
        ("jobs", Align::Right),
        ("within SLA", Align::Right),
        ("ttft p50", Align::Right),
        ("p95", Align::Right),
        ("total p95", Align::Right),
    ];
    list(&heads, &lines.iter().map(words::service).collect::<Vec<_>>(), style)
}

fn flow(flow: &Flow, style: Style) -> String {
    let most = flow.points.iter().filter_map(|point| point.throughput_tps).fold(0.0, f64::max);
    // The axis has at most 96 steps; a terminal has 60 to spare for them.
    let every = flow.points.len().div_ceil(60).max(1);
    let spark = |of: fn(&crate::report::FlowPoint) -> Option<f64>| {
        let chunk = |points: &[crate::report::FlowPoint]| points.iter().filter_map(of).max_by(f64::total_cmp);
        let cells = flow.points.chunks(every).map(chunk).map(|value| match value {
            Some(value) if most > 0.0 => style.sparkline(std::iter::once((value / most) as f32)),
            Some(_) => style.sparkline(std::iter::once(0.0)),
            None => " ".to_owned(),
        });
        cells.collect::<String>()
    };
    let line = |name: &'static str, rate: f64, points: String| {
        format!("{name:<14}{:<20}{points}", words::per_second(rate)).trim_end().to_owned() + "\n"
    };
    let step = span(flow.step_seconds as f64 * every as f64);
    line("throughput", flow.throughput_tps, spark(|point| point.throughput_tps))
        + &line("goodput", flow.goodput_tps, spark(|point| point.goodput_tps))
        + &format!("{:<14}{step} a step, up to {}\n", "", words::per_second(most))
}

fn hours(report: &Report, style: Style) -> String {
    let most = report.hours.iter().map(|hour| hour.jobs).max().unwrap_or(0);
    if most == 0 {
        return String::new();
    }
    let heads = [
        ("hour", Align::Right),
        ("jobs", Align::Right),
        ("", Align::Left),
        ("within SLA", Align::Right),
        ("ttft p95", Align::Right),
    ];
    let busy = report.hours.iter().filter(|hour| hour.jobs > 0);
    let rows: Vec<Vec<String>> = busy
        .map(|hour| {
            vec![
                format!("{:02}", hour.hour),
                thousands(hour.jobs),
                style.bar(hour.jobs as f32 / most as f32, 24),
                words::share(hour.compliance),
                or_no_data(hour.ttft_p95_ms, words::millis),
            ]
        })
        .collect();
    list(&heads, &rows, style)
}

fn requests(report: &Report, style: Style) -> String {
    if report.requests.is_empty() {
        return String::new();
    }
    let heads = [
        ("requests", Align::Left),
        ("count", Align::Right),
        ("unanswered", Align::Right),
        ("queue", Align::Right),
        ("prefill", Align::Right),
        ("decode", Align::Right),
        ("tpot p50", Align::Right),
        ("p95", Align::Right),
    ];
    let mean = |value: Option<f64>| or_no_data(value, words::millis);
    let rows: Vec<Vec<String>> = report
        .requests
        .iter()
        .map(|kind| {
            vec![
                kind.kind.clone(),
                thousands(kind.requests),
                thousands(kind.unanswered),
                mean(kind.queue_ms),
                mean(kind.prefill_ms),
                mean(kind.decode_ms),
                words::p50(kind.tpot_ms),
                words::p95(kind.tpot_ms),
            ]
        })
        .collect();
    list(&heads, &rows, style)
}

fn gpus(gpus: &[Gpu], style: Style) -> String {
    if gpus.is_empty() {
        return String::new();
    }
    let heads = [
        ("worker", Align::Left),
        ("gpu", Align::Left),
        ("utilization", Align::Right),
        ("memory", Align::Right),
        ("power", Align::Right),
        ("hottest", Align::Right),
    ];
    let row = |gpu: &Gpu| {
        vec![
            gpu.worker.clone(),
            format!("{} {}", gpu.device, gpu.name),
            words::share(gpu.utilization),
            words::memory(gpu),
            or_no_data(gpu.power_watts, |watts| format!("{watts:.0} W")),
            or_no_data(gpu.temperature_celsius, |celsius| format!("{celsius:.0} °C")),
        ]
    };
    list(&heads, &gpus.iter().map(row).collect::<Vec<_>>(), style)
}

fn workers(workers: &[Worker], style: Style) -> String {
    if workers.is_empty() {
        return String::new();
    }
    let heads = [
        ("worker", Align::Left),
        ("model", Align::Left),
        ("device", Align::Left),
        ("slots", Align::Right),
        ("there", Align::Right),
        ("busy", Align::Right),
        ("jobs", Align::Right),
        ("tokens", Align::Right),
        ("starts", Align::Right),
    ];
    let row = |worker: &Worker| {
        vec![
            worker.worker.clone(),
            worker.model.clone().unwrap_or_else(|| NO_DATA.to_owned()),
            worker.device.clone().unwrap_or_else(|| NO_DATA.to_owned()),
            or_no_data(worker.slots, thousands),
            span(worker.seconds),
            words::share(worker.busy_share),
            thousands(worker.jobs),
            thousands(worker.tokens),
            thousands(worker.starts),
        ]
    };
    list(&heads, &workers.iter().map(row).collect::<Vec<_>>(), style)
}

fn counted(counts: &[Count], what: &'static str, style: Style) -> String {
    if counts.is_empty() {
        return "none\n".to_owned();
    }
    let rows: Vec<Vec<String>> =
        counts.iter().map(|count| vec![count.name.clone(), thousands(count.count)]).collect();
    list(&[(what, Align::Left), ("count", Align::Right)], &rows, style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{full, nothing};

    const PLAIN: Style = Style { width: 100, color: false, unicode: true };

    #[test]
    fn a_report_without_rows_says_no_data_in_every_part_and_has_no_figure() {
        let text = table(&nothing(), PLAIN);
        assert_eq!(text.matches("no data").count(), 11, "{text}");
        let figures = text.lines().skip(1).any(|line| line.chars().any(|c| c.is_ascii_digit()));
        assert!(!figures, "{text}");
    }

    #[test]
    fn every_part_of_a_full_report_is_shown() {
        let expected = include_str!("golden.txt");
        let text = table(&full(), PLAIN);
        assert_eq!(text, expected, "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_nor_holds_blocks_where_there_are_none() {
        let style = Style { width: 60, color: false, unicode: false };
        let text = table(&full(), style);
        assert!(text.chars().all(|c| c.is_ascii() || c == '°' || c == '…'), "{text}");
    }
}
