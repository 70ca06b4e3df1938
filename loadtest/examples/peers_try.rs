//! Asks a peer about the first restaurants of a file and shows what it answers: to try settings and prompts.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use maitred::input::{Columns, InputOptions, JobReader, JobTemplate};
use maitred::job::{Analysis, Job, Limits};
use maitred_loadtest::peers::{PeerServer, Restaurant, ServerOptions, Totals, llama_server, origin, server};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    LlamaServer,
    Origin,
}

#[derive(Parser)]
struct Arguments {
    /// Restaurants with their reviews.
    file: PathBuf,
    /// The language model's GGUF file.
    #[arg(long)]
    model: PathBuf,
    #[arg(long, value_enum, default_value = "llama-server")]
    way: Way,
    /// Restaurants to leave out at the begin of the file.
    #[arg(long, default_value_t = 0)]
    skip: usize,
    #[arg(long, default_value_t = 3)]
    restaurants: usize,
    /// Reviews of each; the origin reads all.
    #[arg(long, default_value_t = 20)]
    reviews: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, value_enum, default_value = "chained")]
    drive: llama_server::Drive,
    #[arg(long, value_enum, default_value = "task")]
    sharing: origin::Sharing,
    #[arg(long, default_value_t = 3)]
    tries: u32,
    #[arg(long)]
    flash_attention: Option<bool>,
    #[arg(long)]
    ubatch: Option<usize>,
    #[arg(long)]
    unified: Option<bool>,
    #[arg(long)]
    full_window: Option<bool>,
    /// Also writes each restaurant's answers.
    #[arg(long)]
    answers: bool,
}

impl Arguments {
    fn options(&self) -> ServerOptions {
        let mut options = match self.way {
            Way::LlamaServer => llama_server::options(&self.model, self.threads),
            Way::Origin => origin::server(&self.model, self.threads),
        };
        options.flash_attention = self.flash_attention.or(options.flash_attention);
        options.ubatch = self.ubatch.unwrap_or(options.ubatch);
        options.unified = self.unified.unwrap_or(options.unified);
        options.full_window = self.full_window.unwrap_or(options.full_window);
        options
    }

    fn jobs(&self) -> anyhow::Result<Vec<Job>> {
        let job = JobTemplate { analyses: Analysis::ALL.into(), ..JobTemplate::default() };
        let options =
            InputOptions { format: None, columns: Columns::default(), limits: Limits::default(), job };
        let jobs = JobReader::open(&self.file, options)?.skip(self.skip).take(self.restaurants);
        Ok(jobs.collect::<Result<_, _>>()?)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let jobs = arguments.jobs()?;
    let python = server::installed().context("no peer server: run scripts/install-peers.sh")?;
    let server = PeerServer::start(&python, &arguments.options())?;
    let answered = match arguments.way {
        Way::LlamaServer => {
            let restaurants: Vec<_> =
                jobs.iter().map(|job| Restaurant::first(job, arguments.reviews)).collect();
            llama_server::run(&server, &restaurants, arguments.drive)
        }
        Way::Origin => {
            let restaurants: Vec<_> = jobs.iter().map(Restaurant::of).collect();
            let options = origin::OriginOptions {
                sharing: arguments.sharing,
                tries: arguments.tries,
                ..origin::OriginOptions::default()
            };
            origin::run(&server, &restaurants, options)
        }
    };
    let mut out = std::io::stdout().lock();
    if arguments.answers {
        serde_json::to_writer_pretty(&mut out, &answered)?;
    }
    serde_json::to_writer(&mut out, &Totals::of(&answered))?;
    Ok(writeln!(out)?)
}
