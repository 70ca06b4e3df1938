//! `maitred status`: how the fleet is.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use owo_colors::AnsiColors;
use time::OffsetDateTime;

use super::columns::{Align, list, span};
use super::text::{Style, counted, percent, thousands, wrap};
use crate::broker::nats::Broker;
use crate::broker::presence::{Home, Worker};
use crate::broker::status::{LaneStatus, Running, Status, Stream};
use crate::config::Settings;
use crate::gpu::GpuSample;

/// How often `--watch` looks.
const BEAT: Duration = Duration::from_secs(2);
/// What makes a terminal begin anew at its upper left.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Arguments of `maitred status`.
#[derive(Debug, Clone, Copy, Args)]
pub struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Look again every two seconds, until interrupted
    #[arg(long)]
    pub watch: bool,
}

/// Runs the command.
pub async fn run(args: StatusArgs, settings: &Settings, to: &mut impl Write) -> anyhow::Result<()> {
    let broker = Broker::connect(&settings.nats, "maitred status").await?;
    if !args.watch {
        let status = broker.status(OffsetDateTime::now_utc()).await?;
        return Ok(print(&status, args.json, to)?);
    }
    let clear = !args.json && io::stdout().is_terminal();
    let mut beat = tokio::time::interval(BEAT);
    loop {
        beat.tick().await;
        let status = broker.status(OffsetDateTime::now_utc()).await;
        if clear {
            to.write_all(CLEAR.as_bytes())?;
        }
        match status {
            Ok(status) => print(&status, args.json, to)?,
            // Whoever watches wants to see it come back.
            Err(error) if error.may_pass() => eprintln!("error: {error}"),
            Err(error) => return Err(error.into()),
        }
        to.flush()?;
    }
}

fn print(status: &Status, json: bool, to: &mut impl Write) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *to, status)?;
        return writeln!(to);
    }
    to.write_all(text(status, Style::of_stdout()).as_bytes())
}

fn text(status: &Status, style: Style) -> String {
    let server = &status.server;
    let mut blocks = vec![
        format!("{} {} at {}\n", style.bold("nats"), server.version, server.address),
        streams(status, style),
        lanes(status, style),
        workers(status, style),
    ];
    if status.workers.iter().any(|worker| !worker.gpus.is_empty()) {
        blocks.push(gpus(&status.workers, style));
    }
    if !status.backfills.is_empty() {
        blocks.push(backfills(&status.backfills, style));
    }
    blocks.push(match status.dead_letters {
        0 => "no dead letters\n".to_owned(),
        some => format!("{}: `maitred dlq ls` lists them\n", counted(some, "dead letter")),
    });
    for alarm in &status.alarms {
        let lines = wrap(&format!("alarm: {}", alarm.text()), style.width);
        blocks.push(lines.iter().map(|line| style.paint(line, AnsiColors::Red) + "\n").collect());
    }
    blocks.join("\n")
}

fn streams(status: &Status, style: Style) -> String {
    let heads = [
        ("stream", Align::Left),
        ("messages", Align::Right),
        ("size", Align::Right),
        ("first", Align::Right),
        ("last", Align::Right),
        ("oldest", Align::Right),
    ];
    let row = |stream: &Stream| {
        vec![
            stream.name.clone(),
            thousands(stream.messages),
            ByteSize::b(stream.bytes).display().iec().to_string(),
            stream.first_sequence.to_string(),
            stream.last_sequence.to_string(),
            age(stream.oldest, status.at),
        ]
    };
    list(&heads, &status.streams.iter().map(row).collect::<Vec<_>>(), style)
}

fn lanes(status: &Status, style: Style) -> String {
    let heads = [
        ("lane", Align::Left),
        ("pending", Align::Right),
        ("in flight", Align::Right),
        ("redelivered", Align::Right),
        ("waiting pulls", Align::Right),
        ("oldest", Align::Right),
    ];
    let row = |lane: &LaneStatus| {
        vec![
            lane.lane.to_string(),
            thousands(lane.pending),
            thousands(lane.in_flight),
            thousands(lane.redelivered),
            thousands(lane.waiting),
            age(lane.oldest.map(|job| job.since), status.at),
        ]
    };
    list(&heads, &status.lanes.iter().map(row).collect::<Vec<_>>(), style)
}

fn workers(status: &Status, style: Style) -> String {
    if status.workers.is_empty() {
        return "no workers\n".to_owned();
    }
    let heads = [
        ("worker", Align::Left),
        ("state", Align::Left),
        ("running", Align::Right),
        ("queued", Align::Right),
        ("jobs/min", Align::Right),
        ("tokens/s", Align::Right),
        ("results", Align::Right),
        ("up", Align::Right),
    ];
    let row = |worker: &Worker| {
        vec![
            worker.name.clone(),
            state(worker),
            format!("{}/{}", worker.running, worker.slots),
            format!("{}/{}", worker.queued, worker.look_ahead),
            format!("{:.1}", worker.pace.jobs_per_minute),
            format!("{:.0}", worker.pace.tokens_per_second),
            thousands(worker.totals.results),
            age(Some(worker.started_at), status.at),
        ]
    };
    let table = list(&heads, &status.workers.iter().map(row).collect::<Vec<_>>(), style);
    let sum = |of: fn(&Worker) -> f64| status.workers.iter().map(of).sum::<f64>();
    let (jobs, tokens) = (sum(|w| w.pace.jobs_per_minute), sum(|w| w.pace.tokens_per_second));
    let count = counted(status.workers.len() as u64, "worker");
    let parts = [count, format!("{jobs:.1} jobs a minute"), format!("{tokens:.0} tokens a second")];
    format!("{table}{}\n", parts.join(style.dot()))
}

/// What a worker is at, if it is not simply working: which of its stores are away.
fn state(worker: &Worker) -> String {
    let stores = [("no redis", worker.stores.redis), ("no postgres", worker.stores.postgres)];
    let away = stores.into_iter().filter(|(_, home)| *home == Home::Down).map(|(text, _)| text);
    let all: Vec<&str> = worker.draining.then_some("draining").into_iter().chain(away).collect();
    if all.is_empty() { "working".to_owned() } else { all.join(", ") }
}

fn gpus(workers: &[Worker], style: Style) -> String {
    let heads = [
        ("gpu of", Align::Left),
        ("no.", Align::Right),
        ("name", Align::Left),
        ("busy", Align::Right),
        ("memory", Align::Right),
        ("power", Align::Right),
        ("temp.", Align::Right),
    ];
    // What a GPU does not tell, or not now, is not zero.
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let memory = |gpu: &GpuSample| {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        Some(format!("{:.1}/{:.0} GiB", gib(gpu.memory_used_bytes?), gib(gpu.memory_total_bytes?)))
    };
    let row = |worker: &Worker, gpu: &GpuSample| {
        vec![
            worker.name.clone(),
            gpu.device.to_string(),
            gpu.name.clone(),
            or_dash(gpu.utilization.map(percent)),
            or_dash(memory(gpu)),
            or_dash(gpu.power_watts.map(|watts| format!("{watts:.0} W"))),
            or_dash(gpu.temperature_celsius.map(|degrees| format!("{degrees:.0} °C"))),
        ]
    };
    let rows = workers.iter().flat_map(|worker| worker.gpus.iter().map(move |gpu| row(worker, gpu)));
    list(&heads, &rows.collect::<Vec<_>>(), style)
}

fn backfills(running: &[Running], style: Style) -> String {
    let heads = [
        ("backfill", Align::Left),
        ("from", Align::Right),
        ("to", Align::Right),
        ("done", Align::Right),
        ("pending", Align::Right),
        ("in flight", Align::Right),
        ("jobs/s", Align::Right),
        ("left", Align::Right),
    ];
    let row = |Running { backfill, progress, .. }: &Running| {
        vec![
            backfill.id.clone(),
            backfill.from.to_string(),
            backfill.to.to_string(),
            percent(progress.done as f64 / progress.total.max(1) as f64),
            thousands(progress.pending),
            thousands(progress.in_flight),
            format!("{:.1}", progress.per_second),
            progress.seconds_left.map_or_else(|| "-".to_owned(), span),
        ]
    };
    list(&heads, &running.iter().map(row).collect::<Vec<_>>(), style)
}

fn age(since: Option<OffsetDateTime>, now: OffsetDateTime) -> String {
    since.map_or_else(|| "-".to_owned(), |since| span((now - since).as_seconds_f64()))
}

#[cfg(test)]
mod tests;
