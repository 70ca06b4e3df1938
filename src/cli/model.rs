//! `maitred model`: fetch, list, inspect and quantize model files.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytesize::ByteSize;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use unicode_width::UnicodeWidthStr;

use crate::model::fetch::{FetchEvent, Fetcher, HubReference, Outcome};
use crate::model::{Installed, ModelSpec, ModelStore, Provenance, QuantType, Quantizer, ResolvedModel};

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Download models, check them, and convert what needs converting
    Fetch {
        /// Names from `maitred model list`, or hf:OWNER/REPO/FILE.gguf[@REVISION]; the default set if none
        names: Vec<String>,
        /// Fetch every known model
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// Fetch again what is installed, and replace what is damaged
        #[arg(long)]
        force: bool,
        /// Do not ask before downloading (terms of use are shown all the same)
        #[arg(long, short)]
        yes: bool,
    },
    /// Quantize a model file
    Quantize {
        /// A name from `maitred model list`, or a path to a .gguf file
        input: String,
        /// The file to write
        output: PathBuf,
        /// Q8_0, Q4_0, Q4_K_M or F16
        #[arg(long = "type", value_name = "TYPE", default_value_t = QuantType::Q8_0)]
        kind: QuantType,
    },
    /// Verify a model and show what it is
    Info {
        /// A name from `maitred model list`, or a path to a .gguf file
        name_or_path: String,
    },
    /// Show the known models and what is installed
    List,
}

/// Runs a subcommand; what it reports goes to standard output, progress to standard error.
pub fn run(command: ModelCommand, store: &ModelStore) -> anyhow::Result<()> {
    match command {
        ModelCommand::Fetch { names, all, force, yes } => {
            let wanted = wanted(&names, all, store)?;
            fetch(&wanted, force, yes, store)
        }
        ModelCommand::Quantize { input, output, kind } => quantize(&input, &output, kind, store),
        ModelCommand::Info { name_or_path } => {
            let model = store.resolve(&name_or_path)?;
            say(format_args!("{}", describe(&model)))?;
            Ok(())
        }
        ModelCommand::List => {
            say(format_args!("{}", table(&rows(&store.list()?))))?;
            say(format_args!("\nModels lie in {}\n", store.dir().display()))?;
            Ok(())
        }
    }
}

/// Writes to standard output; unlike `print!` it does not panic when the reader of a pipe has gone.
fn say(text: std::fmt::Arguments<'_>) -> io::Result<()> {
    io::stdout().lock().write_fmt(text)
}

/// One thing to fetch.
enum Wanted {
    Known(&'static ModelSpec),
    Hub(HubReference),
}

fn wanted(names: &[String], all: bool, store: &ModelStore) -> anyhow::Result<Vec<Wanted>> {
    let registry = store.registry();
    if all {
        return Ok(registry.models().iter().map(Wanted::Known).collect());
    }
    if names.is_empty() {
        return Ok(registry.defaults().map(Wanted::Known).collect());
    }
    names
        .iter()
        .map(|name| match registry.get(name) {
            Some(spec) => Ok(Wanted::Known(spec)),
            None if HubReference::is_one(name) => Ok(Wanted::Hub(name.parse()?)),
            None => bail!(
                "{name:?} is not a known model (`maitred model list` shows them), nor of the form \
                 hf:OWNER/REPO/FILE.gguf"
            ),
        })
        .collect()
}

fn fetch(wanted: &[Wanted], force: bool, yes: bool, store: &ModelStore) -> anyhow::Result<()> {
    announce(wanted, force, store)?;
    if !yes && io::stdin().is_terminal() && !confirmed()? {
        bail!("nothing was downloaded");
    }
    let quantizer = quantizer();
    let fetcher = Fetcher::new(store, quantizer.as_deref()).with_force(force);
    for model in wanted {
        let bar = Bar::new();
        let mut watch = |event| bar.show(event);
        let (name, outcome) = match model {
            Wanted::Known(spec) => (spec.name.clone(), fetcher.fetch(spec, &mut watch)),
            Wanted::Hub(reference) => (reference.to_string(), fetcher.fetch_hub(reference, &mut watch)),
        };
        bar.finish();
        match outcome.with_context(|| format!("cannot fetch {name}"))? {
            Outcome::Present(path) => say(format_args!("{name}: installed already, {}\n", path.display()))?,
            Outcome::Installed { path, sha256, bytes } => {
                say(format_args!(
                    "{name}: {} ({}, sha256 {})\n",
                    path.display(),
                    size(bytes),
                    sha256.short()
                ))?;
            }
        }
    }
    Ok(())
}

/// Says what will happen, how big it is and under which terms.
fn announce(wanted: &[Wanted], force: bool, store: &ModelStore) -> io::Result<()> {
    say(format_args!("Into {}:\n", store.dir().display()))?;
    for model in wanted {
        match model {
            Wanted::Known(spec) => {
                let there = !force && store.path_of(&spec.file).exists();
                let download = if there {
                    "there already, will be verified".to_owned()
                } else {
                    format!("downloads {}, takes {}", size(spec.download_bytes()), size(spec.bytes))
                };
                say(format_args!("  {} — {}; {}; {download}\n", spec.name, spec.title, spec.licence))?;
            }
            Wanted::Hub(reference) => {
                say(format_args!("  {reference} — size and licence as the hub states them\n"))?;
            }
        }
    }
    let mut shown = Vec::new();
    for model in wanted {
        let Wanted::Known(spec) = model else { continue };
        if let Some(terms) = spec.terms_to_show().filter(|terms| !shown.contains(&&terms.notice)) {
            say(format_args!("\nTerms of {}:\n{}\n", spec.title, indented(&terms.notice)))?;
            shown.push(&terms.notice);
        }
    }
    say(format_args!("\n"))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn confirmed() -> io::Result<bool> {
    say(format_args!("Continue? [y/N] "))?;
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(feature = "llama")]
#[allow(clippy::unnecessary_wraps, reason = "without the engine there is none")]
fn quantizer() -> Option<Box<dyn Quantizer>> {
    Some(Box::new(crate::engine::llama::quantize::LlamaQuantizer))
}

#[cfg(not(feature = "llama"))]
fn quantizer() -> Option<Box<dyn Quantizer>> {
    None
}

fn quantize(input: &str, output: &Path, kind: QuantType, store: &ModelStore) -> anyhow::Result<()> {
    let Some(quantizer) = quantizer() else {
        bail!("this program was built without the engine; build it with the feature `llama` to quantize");
    };
    if output.exists() {
        bail!("{} exists; remove it first, or choose another name", output.display());
    }
    let model = store.resolve(input)?;
    say(format_args!(
        "{} ({}, {}) to {kind}\n",
        model.path.display(),
        model.header.quantization,
        size(model.bytes)
    ))?;
    quantizer.quantize(&model.path, output, kind).map_err(anyhow::Error::msg)?;
    // Resolving reads the new file back: a header that does not fit its file is found now, not at run time.
    let made = store.resolve(&output.to_string_lossy())?;
    say(format_args!("{} ({}, sha256 {})\n", made.path.display(), size(made.bytes), made.sha256))?;
    Ok(())
}

/// A progress bar on standard error; silent where that is no terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    fn show(&self, event: FetchEvent) {
        match event {
            FetchEvent::Stage { stage, total } => {
                let template = match total {
                    Some(_) => "{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}",
                    None => "{spinner} {msg}",
                };
                // Invariant: both templates are constants that indicatif knows.
                self.0.set_style(ProgressStyle::with_template(template).expect("a valid template"));
                self.0.set_length(total.unwrap_or(0));
                self.0.set_position(0);
                self.0.set_message(stage.to_string());
            }
            FetchEvent::Bytes(bytes) => self.0.set_position(bytes),
        }
    }

    fn finish(self) {
        self.0.finish_and_clear();
    }
}

fn describe(model: &ResolvedModel) -> String {
    let header = &model.header;
    let or_none =
        |value: Option<u64>| value.map_or_else(|| "not stated".to_owned(), |value| value.to_string());
    let mut lines = vec![
        ("name", model.name.clone()),
        ("kind", model.kind.to_string()),
        ("path", model.path.display().to_string()),
        ("size", size(model.bytes)),
        ("sha256", model.sha256.to_string()),
        ("architecture", header.architecture.clone()),
        ("quantization", header.quantization.clone()),
        ("parameters", format!("{:.1} million", header.parameters as f64 / 1e6)),
        ("layers", or_none(header.block_count)),
        ("context", format!("{} tokens", or_none(header.context_length))),
        ("width", or_none(header.embedding_length)),
        ("vocabulary", or_none(header.vocabulary)),
    ];
    if let Some(spec) = &model.spec {
        lines.push(("languages", spec.languages.join(", ")));
        lines.push(("licence", spec.licence.clone()));
    }
    if !model.text_prefix().is_empty() {
        lines.push(("text prefix", format!("{:?}", model.text_prefix())));
    }
    if let Some(record) = &model.record {
        lines.push(("installed", record.installed_at.date().to_string()));
        lines.push(("from", origin(&record.provenance)));
    }
    lines.into_iter().map(|(label, value)| format!("{label:<14}{value}\n")).collect::<Vec<_>>().concat()
}

fn origin(provenance: &Provenance) -> String {
    match provenance {
        Provenance::Packages { packages, recipe, .. } => format!("{}; {recipe}", packages.join(" + ")),
        Provenance::Hub { reference, digest_stated: true, .. } => {
            format!("{reference}; digest stated by the hub")
        }
        Provenance::Hub { reference, .. } => format!("{reference}; digest recorded on first use"),
    }
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().si().to_string()
}

const HEADINGS: [&str; 6] = ["NAME", "KIND", "LICENCE", "LANGUAGES", "SIZE", "INSTALLED"];

fn rows(models: &[Installed]) -> Vec<[String; 6]> {
    models.iter().map(row).collect()
}

fn row(model: &Installed) -> [String; 6] {
    let unknown = || "-".to_owned();
    let described = |text: fn(&ModelSpec) -> String| model.spec.map_or_else(unknown, text);
    let installed = if model.bytes.is_some() { "yes" } else { "no" };
    [
        model.name.clone(),
        described(|spec| spec.kind.to_string()),
        described(|spec| spec.licence.clone()),
        described(|spec| spec.languages.join(", ")),
        model.bytes.or(model.spec.map(|spec| spec.bytes)).map_or_else(unknown, size),
        installed.to_owned(),
    ]
}

/// Columns as wide as their widest cell, by the cells a terminal uses.
fn table(rows: &[[String; 6]]) -> String {
    let mut widths = HEADINGS.map(UnicodeWidthStr::width);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let line = |cells: [&str; 6]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| {
            let padding = width - cell.width();
            format!("{cell}{}", " ".repeat(padding))
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(HEADINGS)).chain(body).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: ModelCommand,
    }

    #[test]
    fn a_table_aligns_wide_characters_by_terminal_cells() {
        let row = |name: &str| [name, "language", "MIT", "ko", "1 MB", "yes"].map(str::to_owned);
        let text = table(&[row("모델"), row("four")]);
        let lines: Vec<&str> = text.lines().collect();
        let column = |line: &str| line[..line.find("language").unwrap()].width();
        assert_eq!(column(lines[1]), column(lines[2]));
    }

    #[test]
    fn the_quantization_type_is_parsed_in_any_case() {
        let cli =
            Cli::try_parse_from(["model", "quantize", "in.gguf", "out.gguf", "--type", "q4_k_m"]).unwrap();
        assert!(matches!(cli.command, ModelCommand::Quantize { kind: QuantType::Q4KM, .. }));
        assert!(Cli::try_parse_from(["model", "quantize", "a", "b", "--type", "q3"]).is_err());
    }

    #[test]
    fn naming_nothing_fetches_the_default_set() {
        let store = ModelStore::new(PathBuf::from("unused"));
        assert_eq!(wanted(&[], false, &store).unwrap().len(), store.registry().defaults().count());
        assert_eq!(wanted(&[], true, &store).unwrap().len(), store.registry().models().len());
    }

    #[test]
    fn a_misspelt_name_is_refused_before_anything_is_downloaded() {
        let store = ModelStore::new(PathBuf::from("unused"));
        let names = ["smollm2-135m".to_owned(), "smolm2".to_owned()];
        let error = wanted(&names, false, &store).err().expect("refused");
        assert!(error.to_string().contains("maitred model list"), "{error}");
    }

    #[test]
    fn the_list_says_what_is_not_installed() {
        let dir = tempfile::tempdir().unwrap();
        let store = ModelStore::new(dir.path().to_owned());
        let text = table(&rows(&store.list().unwrap()));
        assert!(text.lines().skip(1).all(|line| line.ends_with("no")), "{text}");
    }
}
