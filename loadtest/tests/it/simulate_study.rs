//! A small study over the sample reviews, from file to table and pictures.

use std::path::{Path, PathBuf};

use maitred_loadtest::simulate::{Body, Class, Hold, Mix, Options, plots, study};

fn options() -> Options {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/sample-restaurants.jsonl");
    Options {
        files: vec![sample],
        seeds: vec![1, 2],
        jobs: 40,
        loads: vec![0.9, 1.2],
        lambdas: vec![1.0, 20.0],
        holds: vec![Hold::window(2), Hold { slots: Some(2), look_ahead: 8 }, Hold::ALL],
        mix: Mix {
            medium: Class { share: 0.2, least: 3, most: 4 },
            large: Class { share: 0.1, least: 8, most: 10 },
            ..Mix::default()
        },
        hold_loads: vec![0.9],
        threads: 1,
        ..Options::default()
    }
}

#[test]
fn a_study_has_every_run_and_no_violation_and_says_that_it_is_simulated() {
    let body = study(&options()).unwrap();
    assert_eq!(body.cells.len(), 2 * 2 * 4, "seeds, loads, orders");
    assert_eq!(body.rows.len(), 2 * 4);
    assert_eq!(body.holds.len(), 3);
    assert!(body.cells.iter().all(|cell| cell.figures.ok == 40));
    assert!(body.bound.passes > 0, "{:?}", body.bound);
    assert_eq!(body.bound.violations, 0);
    assert!(body.simulated && body.tokens_estimated);
    let table = body.table();
    for part in [
        "SIMULATED",
        "estimated from characters",
        "shortest first",
        "λ = ",
        "0 beyond the bound",
        "| all | 0 |",
    ] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    assert!(!table.contains("NaN") && !table.contains("inf"), "{table}");
}

#[test]
fn a_study_comes_out_the_same_on_any_number_of_threads() {
    let one = study(&options()).unwrap();
    let three = study(&Options { threads: 3, ..options() }).unwrap();
    assert!(one == three, "{}\n{}", one.table(), three.table());
}

#[test]
fn all_pictures_are_drawn_and_labelled() {
    let folder = tempfile::tempdir().unwrap();
    let body = study(&options()).unwrap();
    let paths: Vec<PathBuf> = plots(&body, folder.path()).unwrap();
    assert_eq!(paths.len(), 4);
    for path in paths {
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("SIMULATED"), "{}", path.display());
    }
}

#[test]
fn a_report_of_a_study_is_read_back() {
    let body = study(&options()).unwrap();
    let text = serde_json::to_string(&body).unwrap();
    let read = serde_json::from_str::<Body>(&text).unwrap();
    // Numbers may differ in their last digit, so what is counted and named is compared.
    let named = |body: &Body| -> Vec<_> {
        body.cells
            .iter()
            .map(|cell| (cell.file.clone(), cell.seed, cell.discipline.name(), cell.steps))
            .collect()
    };
    assert_eq!(named(&read), named(&body));
    assert_eq!((read.bound, read.choice.met), (body.bound, body.choice.met));
    assert_eq!(read.holds.iter().map(|row| row.hold).collect::<Vec<_>>(), options().holds);
}

#[test]
fn a_study_of_nothing_is_refused_in_words() {
    let refused = |options: Options| study(&options).unwrap_err().to_string();
    assert!(refused(Options { files: vec![], ..options() }).contains("no review files"));
    assert!(refused(Options { seeds: vec![], ..options() }).contains("seeds"));
    assert!(refused(Options { loads: vec![0.0], ..options() }).contains("above 0"));
    let lost = Options { files: vec!["nowhere.jsonl".into()], ..options() };
    assert!(refused(lost).contains("nowhere.jsonl"));
}
