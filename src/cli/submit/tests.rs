use clap::{CommandFactory, FromArgMatches, Parser};

use super::*;
use crate::config::Config;
use crate::job::{Analysis, Language};

#[derive(Parser)]
struct Wrapper {
    #[command(flatten)]
    args: SubmitArgs,
}

fn parse(line: &str) -> Result<SubmitArgs, clap::Error> {
    let matches = Wrapper::command().try_get_matches_from(line.split(' '))?;
    Ok(Wrapper::from_arg_matches(&matches)?.args)
}

fn jobs(args: &SubmitArgs, lines: &'static str) -> Vec<Job> {
    let settings = Config::load(None, &[], &args.overrides().0).unwrap().settings;
    let reader = JobReader::new(lines.as_bytes(), None, Format::Jsonl, args.input_options(&settings));
    reader.map(|job| args.complete(job.unwrap(), OffsetDateTime::UNIX_EPOCH)).collect()
}

#[test]
fn every_flag_reaches_the_job() {
    let args =
        parse("submit f.jsonl --lane hi --epoch 7 --analyses summary --scope selected --lang ko").unwrap();
    assert_eq!(args.lane, Lane::Hi);
    let job = &jobs(&args, r#"{"restaurant_id":"r","reviews":[{"id":"a","text":"good"}]}"#)[0];
    assert_eq!((job.epoch, &job.analyses[..]), (7, &[Analysis::Summary][..]));
    assert_eq!((job.options.scope, job.language), (Some(Scope::Selected), Some(Language::Ko)));
    assert_eq!(job.enqueued_at, Some(OffsetDateTime::UNIX_EPOCH));
}

#[test]
fn an_epoch_changes_the_ids_that_were_made_and_none_that_was_given() {
    let lines = concat!(
        r#"{"restaurant_id":"made","reviews":[]}"#,
        "\n",
        r#"{"restaurant_id":"given","job_id":"mine","reviews":[]}"#,
        "\n",
        r#"{"restaurant_id":"own","epoch":3,"reviews":[]}"#,
    );
    let (before, after) =
        (jobs(&parse("submit -").unwrap(), lines), jobs(&parse("submit - --epoch 9").unwrap(), lines));
    assert_eq!(after.iter().map(|job| job.epoch).collect::<Vec<_>>(), [9, 9, 3]);
    assert_ne!(before[0].job_id, after[0].job_id);
    assert_eq!(after[1].job_id, "mine");
    assert_eq!(before[2], after[2]);
}

#[test]
fn a_dry_run_has_nothing_to_wait_for() {
    assert!(parse("submit f.jsonl --wait --dry-run").is_err());
    assert!(parse("submit f.jsonl --lane slow").is_err());
    assert!(parse("submit f.jsonl --limit 0").is_err());
}
