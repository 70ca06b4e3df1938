//! `maitred bench …`: runs a measurement and prints its figures.

use std::io::{self, Write};

use serde::Serialize;

use super::analyze::Print;
use super::bench::{BenchArgs, BenchCommand};
use super::text::thousands;
use crate::bench::efficiency::{self, EfficiencyFigures};
use crate::bench::ratios::{self, RatioFigures, VariantFigures};
use crate::bench::workload::Extent;
use crate::config::Settings;

/// Runs the measurement and prints to `to`.
pub async fn run(args: &BenchArgs, settings: &Settings, to: &mut impl Write) -> anyhow::Result<()> {
    let input = args.what.input();
    let open = || super::measure::open(&input.file, settings);
    match &args.what {
        BenchCommand::Engine(bench) => {
            let rounds = bench.rounds.get();
            let figures = efficiency::measure(settings, open, bench.limit, rounds).await?;
            print(input.format, &figures, efficiency_table, to)?;
        }
        BenchCommand::Ratios(bench) => {
            let extent = Extent { restaurants: bench.limit.get(), reviews: bench.reviews.get() };
            let figures = ratios::measure(settings, open()?, extent, bench.rounds.get()).await?;
            print(input.format, &figures, ratio_table, to)?;
        }
    }
    Ok(())
}

fn print<T: Serialize>(
    format: Print,
    figures: &T,
    table: impl FnOnce(&T) -> String,
    to: &mut impl Write,
) -> io::Result<()> {
    match format {
        Print::Json => {
            serde_json::to_writer_pretty(&mut *to, figures).map_err(io::Error::from)?;
            writeln!(to)
        }
        Print::Table => to.write_all(table(figures).as_bytes()),
    }
}

fn efficiency_table(figures: &EfficiencyFigures) -> String {
    let mut lines = vec![
        format!(
            "{}: {} restaurants, {} reviews, {} prompt and {} sampled tokens in {} calls, {:.1} sequences a call",
            figures.model,
            figures.restaurants,
            thousands(figures.reviews),
            thousands(figures.prompt_tokens),
            thousands(figures.sampled_tokens),
            thousands(figures.decode_calls),
            figures.sequences_per_call
        ),
        String::new(),
        "round   tokens  engine s  decode s  bare s  ratio  embedding s  wall s".to_owned(),
    ];
    lines.extend(figures.rounds.iter().enumerate().map(|(index, round)| {
        format!(
            "{:<5} {:>8}  {:>8.2}  {:>8.2}  {:>6.2}  {:>5.3}  {:>11.2}  {:>6.2}",
            index + 1,
            round.tokens,
            round.engine_seconds,
            round.decode_seconds,
            round.bare_seconds,
            round.ratio(),
            round.embedding_seconds,
            round.wall_seconds
        )
    }));
    lines.extend([
        String::new(),
        format!("{:<28} {:>8.1}", "engine tokens per second", figures.engine_tokens_per_second),
        format!("{:<28} {:>8.1}", "bare tokens per second", figures.bare_tokens_per_second),
        format!("{:<28} {:>8.3}", "ratio", figures.ratio),
        format!("{:<28} {:>8.3}", "decode share of engine time", figures.decode_share),
        String::new(),
    ]);
    lines.join("\n")
}

fn ratio_table(figures: &RatioFigures) -> String {
    let mut lines = vec![
        format!(
            "{}: {} reviews, {} labels, {} claims, {} round(s)",
            figures.model, figures.reviews, figures.labels, figures.claims, figures.rounds
        ),
        String::new(),
        format!(
            "{:<20} {:>8} {:>7}  {:>8} {:>8} {:>9} {:>6} {:>7}  {:>6} {:>5}",
            "variant", "wall s", "ratio", "prompt", "reused", "generated", "calls", "cells", "agree", "whole"
        ),
    ];
    lines.extend(figures.variants.iter().map(variant_line));
    if let [ours, ..] = figures.variants.as_slice() {
        let [least, most] = ours.spread_seconds;
        lines.extend([String::new(), format!("ours, over all its runs: {least:.2} to {most:.2} s")]);
    }
    if figures.variants.iter().any(|variant| !variant.sound) {
        lines.push("in brackets: the answers are not those asked for, so the time says little".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

fn variant_line(variant: &VariantFigures) -> String {
    let ratio =
        if variant.sound { format!("{:.2} ", variant.ratio) } else { format!("({:.2})", variant.ratio) };
    format!(
        "{:<20} {:>8.2} {ratio:>8}{:>8} {:>8} {:>9} {:>6} {:>7}  {:>6.3} {:>5}",
        variant.name,
        variant.wall_seconds,
        variant.prompt_tokens,
        variant.reused_tokens,
        variant.generated_tokens,
        variant.decode_calls,
        variant.cells,
        variant.label_agreement,
        variant.whole_claims
    )
}
