//! The report as one HTML page that needs nothing else: no script, no font, no server.

use std::fmt::Write as _;

use super::words::{self, NO_DATA, or_no_data};
use crate::cli::text::{percent, thousands};
use crate::report::svg::{self, Line, Time, escape};
use crate::report::{Count, Flow, Gpu, Jobs, Report, Service};

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(report: &Report) -> String {
    let period = escape(&words::period(report.period));
    let sections = [
        section("Jobs", &jobs(report.jobs.as_ref()), ""),
        section("Throughput and goodput", &flow(report.flow.as_ref()), ""),
        section("Service by lane and size", &service(report), "wide"),
        section("Hours of the day (UTC)", &hours(report), ""),
        section("Tokens", &facts(report.tokens.as_ref().map(words::tokens)), ""),
        section("Cost", &facts(report.cost.as_ref().map(words::cost)), ""),
        section("Workers", &workers(report), "wide"),
        section("Engine", &requests(report), "wide"),
        section("GPUs", &gpus(report), ""),
        section("Errors", &counts(report.errors.as_deref(), "code"), ""),
        section("Dead letters", &counts(report.dead_letters.as_deref(), "reason"), ""),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>maitred report, {period}</title>\n<style>\n{STYLE}</style>\n\
         <header><h1>maitred report</h1><p>{period}</p></header>\n<div class=\"tiles\">{}</div>\n\
         <main>\n{}</main>\n</html>\n",
        tiles(report),
        sections.concat()
    )
}

fn section(title: &str, body: &str, class: &str) -> String {
    let body = if body.is_empty() { format!("<p class=\"none\">{NO_DATA}</p>") } else { body.to_owned() };
    format!("<section class=\"{class}\"><h2>{title}</h2>{body}</section>\n")
}

fn tiles(report: &Report) -> String {
    let all = report.service.last();
    let tile = |name: &str, value: String| {
        format!("<div class=\"tile\"><b>{}</b><span>{name}</span></div>", escape(&value))
    };
    let flow = |of: fn(&Flow) -> f64| or_no_data(report.flow.as_ref(), |flow| words::per_second(of(flow)));
    [
        tile("jobs", or_no_data(report.jobs.as_ref(), |jobs| thousands(jobs.total))),
        tile("within the service level", words::share(all.and_then(Service::compliance))),
        tile("first answer, p95", words::p95(all.and_then(|all| all.ttft_ms))),
        tile("goodput", flow(|flow| flow.goodput_tps)),
        tile("throughput", flow(|flow| flow.throughput_tps)),
        tile("tokens saved", words::share(report.tokens.and_then(|tokens| tokens.saved_share))),
        tile(
            "per 1,000 restaurants",
            or_no_data(report.cost.and_then(|cost| cost.per_1000_restaurants), words::price),
        ),
    ]
    .concat()
}

/// Columns whose names begin with `#` hold numbers.
fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let class = |head: &str| if head.starts_with('#') { " class=\"n\"" } else { "" };
    let mut html = String::from("<div class=\"scroll\"><table><tr>");
    for head in heads {
        put(&mut html, format_args!("<th{}>{}</th>", class(head), escape(head.trim_start_matches('#'))));
    }
    html += "</tr>";
    for row in rows {
        html += "<tr>";
        for (cell, head) in row.iter().zip(heads) {
            put(&mut html, format_args!("<td{}>{}</td>", class(head), escape(cell)));
        }
        html += "</tr>";
    }
    html + "</table></div>"
}

fn put(to: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = to.write_fmt(what);
}

fn facts(facts: Option<Vec<(&'static str, String)>>) -> String {
    let Some(facts) = facts else { return String::new() };
    let row = |(name, value): &(&str, String)| {
        format!("<tr><th>{}</th><td class=\"w\">{}</td></tr>", escape(name), escape(value))
    };
    format!("<table>{}</table>", facts.iter().map(row).collect::<String>())
}

fn jobs(jobs: Option<&Jobs>) -> String {
    let Some(jobs) = jobs else { return String::new() };
    let row = |(lane, outcome, count): (&String, &String, &u64)| {
        vec![
            lane.clone(),
            outcome.clone(),
            thousands(*count),
            percent(*count as f64 / jobs.total.max(1) as f64),
        ]
    };
    let lines = jobs
        .lanes
        .iter()
        .flat_map(|(lane, outcomes)| outcomes.iter().map(move |(outcome, count)| (lane, outcome, count)));
    let rows: Vec<Vec<String>> = lines.map(row).collect();
    if rows.is_empty() {
        return "<p>none</p>".to_owned();
    }
    table(&["lane", "outcome", "#jobs", "#share"], &rows)
}

fn flow(flow: Option<&Flow>) -> String {
    let Some(flow) = flow else { return String::new() };
    let time = Time {
        from: flow.points.first().map_or(0, |point| point.second),
        step: flow.step_seconds,
        steps: flow.points.len(),
    };
    let lines = [
        Line { class: "s0", values: flow.points.iter().map(|point| point.throughput_tps).collect() },
        Line { class: "s1", values: flow.points.iter().map(|point| point.goodput_tps).collect() },
    ];
    let key = "<div class=\"key\"><span><i class=\"s0\"></i>throughput</span>\
               <span><i class=\"s1\"></i>goodput</span></div>";
    let label = "tokens per second of all workers over time: throughput and goodput";
    format!("{}{key}<p>tokens per second, all workers</p>", svg::lines(label, time, &lines, 0.0))
}

fn service(report: &Report) -> String {
    if report.service.is_empty() {
        return String::new();
    }
    let heads = ["lane", "size", "#jobs", "#within SLA", "#first answer p50", "#p95", "#stored p95"];
    table(&heads, &report.service.iter().map(words::service).collect::<Vec<_>>())
        + "<p>small: up to 5 reviews, medium: up to 30, large: more</p>"
}

fn hours(report: &Report) -> String {
    if report.hours.is_empty() {
        return String::new();
    }
    let counts: Vec<Option<f64>> = report.hours.iter().map(|hour| Some(hour.jobs as f64)).collect();
    let seconds: Vec<Option<f64>> =
        report.hours.iter().map(|hour| hour.ttft_p95_ms.map(|millis| millis / 1e3)).collect();
    let name = |hour: usize| format!("{hour:02}");
    format!(
        "{}<p>jobs</p>{}<p>seconds to the first answer, p95</p>",
        svg::bars("jobs by hour of the day", &counts, name),
        svg::bars("95th percentile of the time to the first answer by hour of the day", &seconds, name)
    )
}

fn workers(report: &Report) -> String {
    if report.workers.is_empty() {
        return String::new();
    }
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| NO_DATA.to_owned());
    let row = |worker: &crate::report::Worker| {
        vec![
            worker.worker.clone(),
            known(&worker.model),
            known(&worker.device),
            or_no_data(worker.slots, thousands),
            crate::cli::columns::span(worker.seconds),
            words::share(worker.busy_share),
            thousands(worker.jobs),
            thousands(worker.tokens),
            thousands(worker.starts),
        ]
    };
    let heads = ["worker", "model", "device", "#slots", "#there", "#busy", "#jobs", "#tokens", "#starts"];
    table(&heads, &report.workers.iter().map(row).collect::<Vec<_>>())
}

fn requests(report: &Report) -> String {
    if report.requests.is_empty() {
        return String::new();
    }
    let mean = |value: Option<f64>| or_no_data(value, words::millis);
    let row = |kind: &crate::report::Requests| {
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
    };
    let heads =
        ["requests", "#count", "#unanswered", "#queue", "#prefill", "#decode", "#per token p50", "#p95"];
    table(&heads, &report.requests.iter().map(row).collect::<Vec<_>>())
        + "<p>queue, prefill and decode are means</p>"
}

fn gpus(report: &Report) -> String {
    let time = |gpu: &Gpu| {
        let points = &report.flow.as_ref()?.points;
        let from = points.first()?.second;
        Some(Time { from, step: report.flow.as_ref()?.step_seconds, steps: gpu.over_time.len() })
    };
    let one = |gpu: &Gpu| {
        let title = format!("{} on {}, device {}", gpu.name, gpu.worker, gpu.device);
        let line = [Line {
            class: "s0",
            values: gpu.over_time.iter().map(|share| share.map(|share| share * 100.0)).collect(),
        }];
        let plot = time(gpu)
            .map(|time| svg::lines(&format!("utilization of {title}, per cent"), time, &line, 100.0));
        let row = vec![
            words::share(gpu.utilization),
            words::memory(gpu),
            or_no_data(gpu.power_watts, |watts| format!("{watts:.0} W")),
            or_no_data(gpu.temperature_celsius, |celsius| format!("{celsius:.0} °C")),
        ];
        let figures = table(&["utilization", "memory, most", "power", "hottest"], &[row]);
        format!("<p>{}</p>{}{figures}", escape(&title), plot.unwrap_or_default())
    };
    report.gpus.iter().map(one).collect()
}

fn counts(counts: Option<&[Count]>, what: &str) -> String {
    match counts {
        None => String::new(),
        Some([]) => "<p>none</p>".to_owned(),
        Some(counts) => {
            let row = |count: &Count| vec![count.name.clone(), thousands(count.count)];
            table(&[what, "#count"], &counts.iter().map(row).collect::<Vec<_>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{full, nothing};

    #[test]
    fn the_page_needs_nothing_but_itself() {
        let page = page(&full());
        for outside in ["http:", "https:", "<script", "<link", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"));
        assert_eq!(page.matches("<svg").count(), 4, "flow, two of hours, one GPU");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn a_page_without_rows_says_no_data_in_every_section_and_tile() {
        let page = page(&nothing());
        assert_eq!(page.matches("no data").count(), 11 + 7, "{page}");
        assert!(!page.contains("<svg"), "an empty plot would look like zero");
    }

    #[test]
    fn names_that_others_chose_are_text() {
        let mut report = full();
        report.gpus[0].name = "<img onerror=alert(1)>".into();
        report.workers[0].model = Some("</table><b>".into());
        let page = page(&report);
        assert!(!page.contains("<img") && !page.contains("</table><b>"), "{page}");
    }
}
