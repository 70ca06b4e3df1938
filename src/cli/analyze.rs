//! Arguments of `maitred analyze`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Overrides;
use crate::config::Settings;
use crate::input::{Columns, Format, InputOptions, JobTemplate};
use crate::job::{JobOptions, Scope};

/// Analyse the restaurants of a file.
#[derive(Debug, Clone, Args)]
pub struct AnalyzeArgs {
    /// Reviews as JSONL (one restaurant a line) or CSV (one review a row); - reads stdin.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write results here, one JSON object a line; - writes them to stdout instead of the table.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write what the run did and spent here, as JSON.
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,
    /// What to print on stdout.
    #[arg(long, value_enum, default_value_t = Print::Table)]
    pub format: Print,
    /// Stop after this many restaurants.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// What to ask: sentiment, summary, strengths; separated by commas.
    #[arg(long, value_name = "LIST")]
    pub analyses: Option<String>,
    /// Which reviews the model reads.
    #[arg(long, value_name = "all|selected")]
    pub scope: Option<Scope>,
    /// Language model: a name from `maitred model list` or a GGUF file.
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
    /// Embedding model: a name, a GGUF file, or auto.
    #[arg(long, value_name = "NAME|FILE")]
    pub embedding: Option<String>,
    /// Language of the reviews: en, ko, or auto.
    #[arg(long, value_name = "auto|en|ko")]
    pub lang: Option<String>,
    /// Shape of the input, if its name does not say.
    #[arg(long, value_enum)]
    pub input_format: Option<Format>,
    /// Names of CSV columns, such as restaurant_id=rid,text=review_text.
    #[arg(long, value_name = "FIELD=COLUMN,…")]
    pub columns: Option<Columns>,
    /// Where what was read is kept for the next run: a file, auto (beside --out) or none.
    #[arg(long, value_name = "FILE|auto|none")]
    pub cache: Option<String>,
    /// Let the model write no claims: quote the evidence instead.
    #[arg(long)]
    pub no_words: bool,
    /// Restaurants in work at the same time.
    #[arg(long, value_name = "N")]
    pub concurrency: Option<usize>,
}

/// What goes to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Print {
    /// A readable block for each restaurant, and what was spent.
    Table,
    /// The results, one JSON object a line.
    Json,
}

impl AnalyzeArgs {
    /// The settings that flags give.
    pub fn overrides(&self) -> Overrides {
        Overrides::default()
            .set("analysis.analyses", "--analyses", self.analyses.as_ref())
            .set("analysis.scope", "--scope", self.scope)
            .set("models.language", "--model", self.model.as_ref())
            .set("models.embedding", "--embedding", self.embedding.as_ref())
            .set("analysis.language", "--lang", self.lang.as_ref())
            .set("store.cache", "--cache", self.cache.as_ref())
            .set("analysis.words", "--no-words", self.no_words.then_some("false"))
            .set("analysis.concurrent_restaurants", "--concurrency", self.concurrency)
    }

    /// How to read the input under these settings.
    pub fn input_options(&self, settings: &Settings) -> InputOptions {
        InputOptions {
            format: self.input_format,
            columns: self.columns.clone().unwrap_or_default(),
            limits: settings.limits.clone(),
            job: JobTemplate {
                analyses: settings.analysis.analyses.clone(),
                language: settings.analysis.language,
                // Absent options follow the settings: a job of the file may still bring its own.
                options: JobOptions::default(),
            },
        }
    }

    /// Whether stdout carries results, so that nothing else may be printed there.
    pub fn stdout_is_json(&self) -> bool {
        self.format == Print::Json || self.out.as_ref().is_some_and(|out| out.as_os_str() == "-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cache, Config};
    use crate::job::{Analysis, Language};
    use clap::{CommandFactory, FromArgMatches, Parser};

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: AnalyzeArgs,
    }

    fn parse(line: &str) -> Result<AnalyzeArgs, clap::Error> {
        let matches = Wrapper::command().try_get_matches_from(line.split(' '))?;
        Ok(Wrapper::from_arg_matches(&matches)?.args)
    }

    fn settings(line: &str) -> Settings {
        Config::load(None, &[], &parse(line).unwrap().overrides().0).unwrap().settings
    }

    #[test]
    fn every_flag_reaches_its_setting() {
        let settings = settings(
            "analyze f.jsonl --analyses summary,sentiment --scope selected --model m.gguf --embedding e \
             --lang ko --cache c.db --no-words --concurrency 2",
        );
        assert_eq!(settings.analysis.analyses, [Analysis::Sentiment, Analysis::Summary]);
        assert_eq!(settings.analysis.scope, Scope::Selected);
        assert_eq!(settings.models.language, "m.gguf");
        assert_eq!(settings.models.embedding.as_deref(), Some("e"));
        assert_eq!(settings.analysis.language, Some(Language::Ko));
        assert_eq!(settings.store.cache, Cache::At("c.db".into()));
        assert!(!settings.analysis.words);
        assert_eq!(settings.analysis.concurrent_restaurants, 2);
    }

    #[test]
    fn without_flags_the_defaults_stand() {
        assert_eq!(settings("analyze f.jsonl"), Settings::default());
    }

    #[test]
    fn a_bad_flag_value_is_refused_by_clap_or_names_its_flag() {
        assert!(parse("analyze f.jsonl --limit 0").is_err());
        assert!(parse("analyze f.jsonl --scope some").is_err());
        assert!(parse("analyze f.csv --columns txt=a").is_err());
        assert!(parse("analyze").is_err());
        let flags = parse("analyze f.jsonl --lang fr").unwrap().overrides().0;
        let error = Config::load(None, &[], &flags).unwrap_err().to_string();
        assert!(error.contains("flag --lang") && error.contains("\"ko\""), "{error}");
    }

    #[test]
    fn results_on_stdout_leave_no_room_for_the_table() {
        assert!(parse("analyze - --format json").unwrap().stdout_is_json());
        assert!(parse("analyze f.jsonl --out -").unwrap().stdout_is_json());
        assert!(!parse("analyze f.jsonl --out r.jsonl").unwrap().stdout_is_json());
    }
}
