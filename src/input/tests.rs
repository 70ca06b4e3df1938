use std::io::{self, Cursor, Read};

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn options() -> InputOptions {
    InputOptions {
        format: None,
        columns: Columns::default(),
        limits: Limits::default(),
        job: JobTemplate { analyses: Analysis::ALL.to_vec(), ..JobTemplate::default() },
    }
}

fn read_with(
    format: Format,
    bytes: impl Into<Vec<u8>>,
    options: InputOptions,
) -> Vec<Result<Job, InputError>> {
    JobReader::new(Cursor::new(bytes.into()), None, format, options).collect()
}

fn jsonl(bytes: impl Into<Vec<u8>>) -> Vec<Result<Job, InputError>> {
    read_with(Format::Jsonl, bytes, options())
}

fn csv(bytes: impl Into<Vec<u8>>) -> Vec<Result<Job, InputError>> {
    read_with(Format::Csv, bytes, options())
}

/// Restaurant ids of the jobs, error texts of the errors.
fn outline(items: Vec<Result<Job, InputError>>) -> Vec<String> {
    items
        .into_iter()
        .map(|item| item.map_or_else(|e| format!("error: {e}"), |job| job.restaurant_id))
        .collect()
}

fn only(items: Vec<Result<Job, InputError>>) -> Job {
    let [item] = <[_; 1]>::try_from(items).unwrap();
    item.unwrap()
}

fn only_error(items: Vec<Result<Job, InputError>>) -> String {
    let [item] = <[_; 1]>::try_from(items).unwrap();
    item.unwrap_err().to_string()
}

const GOOD: &str = r#"{"restaurant_id":"a","reviews":[{"id":"1","text":"good"}]}"#;

#[test]
fn a_restaurant_a_line_is_a_job_a_line() {
    let line = r#"{"restaurant_id":"a","name":"Ann's","city":"x","reviews":[
        {"id":"1","text":"good","rating":4.5,"created_at":"2019-05-25T15:54:00Z","likes":3}]}"#
        .replace('\n', " ");
    let job = only(jsonl(line));
    assert_eq!(job.restaurant_name.as_deref(), Some("Ann's"));
    assert_eq!(job.analyses, Analysis::ALL);
    assert_eq!(job.reviews[0].rating, Some(4.5));
    assert_eq!(job.reviews[0].created_at, crate::job::parse_time("2019-05-25 15:54"));
    assert!(job.job_id.starts_with("j-"));
}

#[test]
fn a_whole_job_keeps_its_own_fields() {
    let job = Job {
        job_id: "mine-1".into(),
        epoch: 7,
        analyses: vec![Analysis::Summary],
        language: Some(Language::Ko),
        options: JobOptions { top_k: Some(3), ..JobOptions::default() },
        enqueued_at: crate::job::parse_time("2020-01-01"),
        ..only(jsonl(GOOD))
    };
    assert_eq!(only(jsonl(serde_json::to_string(&job).unwrap())), job);
}

#[test]
fn the_same_line_gives_the_same_job_id_and_is_worked_twice() {
    let jobs: Vec<Job> = jsonl(format!("{GOOD}\n{GOOD}\n")).into_iter().map(Result::unwrap).collect();
    assert_eq!(jobs.len(), 2);
    assert_eq!(jobs[0].job_id, jobs[1].job_id);
}

#[test]
fn byte_order_mark_carriage_returns_and_blank_lines_are_no_content() {
    let text = format!("\u{feff}{GOOD}\r\n\r\n   \n{GOOD}");
    assert_eq!(outline(jsonl(text)), ["a", "a"]);
}

#[test]
fn a_bad_line_is_one_error_and_the_next_line_is_read() {
    let text = format!("{GOOD}\n{{\"restaurant_id\": \n{GOOD}\n");
    let found = outline(jsonl(text));
    assert_eq!(found.len(), 3);
    assert!(found[1].starts_with("error: line 2: not JSON"), "{}", found[1]);
    assert_eq!((found[0].as_str(), found[2].as_str()), ("a", "a"));
}

#[rstest]
#[case::no_restaurant(r#"{"reviews":[]}"#, "line 1: field `restaurant_id`: is missing")]
#[case::empty_restaurant(r#"{"restaurant_id":"","reviews":[]}"#, "field `restaurant_id`: is empty")]
#[case::no_reviews(r#"{"restaurant_id":"a"}"#, "field `reviews`: is missing; write a list")]
#[case::reviews_no_list(r#"{"restaurant_id":"a","reviews":"x"}"#, "field `reviews`: found a string")]
#[case::no_id(
    r#"{"restaurant_id":"a","reviews":[{"id":"1","text":""},{"text":"x"}]}"#,
    "`reviews[1].id`: is missing"
)]
#[case::fraction(r#"{"restaurant_id":1.5,"reviews":[]}"#, "`restaurant_id`: found a number; write a string")]
#[case::no_text(r#"{"restaurant_id":"a","reviews":[{"id":"1"}]}"#, "`reviews[0].text`: is missing")]
#[case::text_no_string(
    r#"{"restaurant_id":"a","reviews":[{"id":"1","text":3}]}"#,
    "`reviews[0].text`: found a number"
)]
#[case::not_an_object("3", "line 1: not JSON: found a number, not an object")]
#[case::analyses(r#"{"restaurant_id":"a","reviews":[],"analyses":["taste"]}"#, "field `analyses`")]
#[case::newer(r#"{"v":99,"restaurant_id":"a","reviews":[]}"#, "wire version is 99")]
#[case::odd_id(r#"{"restaurant_id":"a b","reviews":[]}"#, "line 1: restaurant id `a b` has characters")]
#[case::twice(
    r#"{"restaurant_id":"a","reviews":[{"id":"1","text":""},{"id":"1","text":""}]}"#,
    "`1` occurs twice"
)]
fn an_error_names_line_field_and_what_to_do(#[case] line: &str, #[case] expected: &str) {
    let message = only_error(jsonl(line));
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_restaurant_without_reviews_is_a_job() {
    assert!(only(jsonl(r#"{"restaurant_id":"a","reviews":[]}"#)).reviews.is_empty());
}

#[rstest]
#[case::nothing("")]
#[case::blank(" \n\r\n")]
fn an_empty_input_says_so(#[case] text: &str) {
    assert!(matches!(jsonl(text)[..], [Err(InputError::Empty)]));
    assert!(matches!(csv(text.trim())[..], [Err(InputError::Empty)]));
}

#[test]
fn a_csv_with_only_a_header_is_empty() {
    assert!(matches!(csv("restaurant_id,id,text\n")[..], [Err(InputError::Empty)]));
}

#[rstest]
#[case("[\n{\"restaurant_id\":\"a\"},\n{\"restaurant_id\":\"b\"}\n]")]
#[case("{\n  \"restaurant_id\": \"a\"\n}")]
fn one_document_over_many_lines_is_told_once(#[case] text: &str) {
    let message = only_error(jsonl(text));
    assert!(message.contains("jq -c"), "{message}");
}

#[test]
fn whole_numbers_are_ids_and_words_may_be_missing() {
    let job = only(jsonl(
        r#"{"restaurant_id":12,"reviews":[{"id":-3,"text":null,"rating":"4","recommended":"no"}]}"#,
    ));
    assert_eq!((job.restaurant_id.as_str(), job.reviews[0].id.as_str()), ("12", "-3"));
    assert_eq!(job.reviews[0].text, "");
    assert_eq!((job.reviews[0].rating, job.reviews[0].recommended), (Some(4.0), Some(false)));
}

#[test]
fn a_rating_outside_the_scale_is_unknown() {
    for stars in ["0", "7", "\"none\"", "null", "[5]"] {
        let line = format!(r#"{{"restaurant_id":"a","reviews":[{{"id":"1","text":"x","rating":{stars}}}]}}"#);
        assert_eq!(only(jsonl(line)).reviews[0].rating, None, "{stars}");
    }
}

#[test]
fn half_a_star_is_a_rating() {
    let job = only(jsonl(r#"{"restaurant_id":"a","reviews":[{"id":"1","text":"x","rating":0.5}]}"#));
    assert_eq!(job.reviews[0].rating, Some(0.5));
}

#[test]
fn control_characters_stay_in_the_text() {
    let job = only(jsonl(r#"{"restaurant_id":"a","reviews":[{"id":"1","text":"a\u0000b\u001b[31m\r\n"}]}"#));
    assert_eq!(job.reviews[0].text, "a\0b\u{1b}[31m\r\n");
}

#[test]
fn invalid_utf8_is_an_error_of_its_line() {
    let mut bytes = GOOD.as_bytes().to_vec();
    bytes.extend(b"\n{\"restaurant_id\":\"\xff\"}\n");
    bytes.extend(GOOD.as_bytes());
    let found = outline(jsonl(bytes));
    assert!(found[1].contains("line 2: invalid UTF-8 at byte 18"), "{}", found[1]);
    assert_eq!(found[2], "a");
}

#[test]
fn a_review_of_a_megabyte_is_refused_by_name() {
    let text = "x".repeat(1 << 20);
    let line = format!(r#"{{"restaurant_id":"a","reviews":[{{"id":"long","text":"{text}"}}]}}"#);
    let message = only_error(jsonl(line));
    assert!(
        message.contains("review `long` has 1048576 characters"),
        "{}",
        &message[..message.len().min(200)]
    );
}

/// Bytes without end until `left` is used up, without holding them.
struct Endless {
    left: u64,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(usize::try_from(self.left).unwrap());
        buffer[..count].fill(b'x');
        self.left -= count as u64;
        Ok(count)
    }
}

/// Gives a few bytes at a time, as a pipe does.
struct Dripping {
    bytes: Cursor<Vec<u8>>,
    most: usize,
}

impl Read for Dripping {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.most);
        self.bytes.read(&mut buffer[..most])
    }
}

proptest! {
    #[test]
    fn how_the_bytes_arrive_makes_no_difference(
        lines in proptest::collection::vec(prop_oneof![Just(GOOD), Just(""), Just("{"), Just("3"), Just("맛")], 0..8),
        csv_rows in proptest::collection::vec(prop_oneof![Just("a,1,x"), Just("b,\"2\",\"x\ny\""), Just("c,3")], 0..8),
        most in 1usize..9,
    ) {
        let csv_text = format!("restaurant_id,id,text\n{}", csv_rows.join("\n"));
        for (format, text) in [(Format::Jsonl, lines.join("\r\n")), (Format::Csv, csv_text)] {
            let bytes = Dripping { bytes: Cursor::new(text.clone().into_bytes()), most };
            let dripped = outline(JobReader::new(bytes, None, format, options()).collect());
            prop_assert_eq!(dripped, outline(read_with(format, text, options())));
        }
    }

    #[test]
    fn no_bytes_stop_the_program(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for format in [Format::Jsonl, Format::Csv] {
            // Every item is a job or an error, and there is at least one.
            prop_assert!(!read_with(format, bytes.clone(), options()).is_empty());
            let behind_a_header = [b"restaurant_id,id,text\n", &bytes[..]].concat();
            prop_assert!(!read_with(format, behind_a_header, options()).is_empty());
        }
    }
}

#[test]
fn a_line_over_the_limit_is_passed_over_without_being_held() {
    let limits = Limits { bytes_per_job: 1000, ..Limits::default() };
    let bytes = Endless { left: 64 << 20 }.chain(Cursor::new(format!("\n{GOOD}\n")));
    let mut lines = jsonl::Lines::new(bytes, InputOptions { limits, ..options() });
    assert!(matches!(lines.next(), Some(Err(InputError::TooLong { line: 1, max: 1000, .. }))));
    assert!(lines.held_bytes() <= 64 << 10, "{} bytes held", lines.held_bytes());
    assert_eq!(lines.next().unwrap().unwrap().restaurant_id, "a");
}

#[test]
fn a_line_of_exactly_the_limit_is_read() {
    let limits = Limits { bytes_per_job: GOOD.len(), ..Limits::default() };
    let found = read_with(Format::Jsonl, format!("{GOOD}\n{GOOD} \n"), InputOptions { limits, ..options() });
    assert!(matches!(found[..], [Ok(_), Err(InputError::TooLong { line: 2, .. })]));
}

#[test]
fn the_rows_of_a_restaurant_are_one_job() {
    let text = "restaurant_id,name,id,text,rating,created_at\n\
                a,Ann,1,\"good, really\nvery\",5,2020-01-02\na,Ann,2,bad,,\nb,,3,\"say \"\"hi\"\"\",2,x\n";
    let jobs: Vec<Job> = csv(text).into_iter().map(Result::unwrap).collect();
    assert_eq!(jobs.len(), 2);
    assert_eq!(jobs[0].restaurant_name.as_deref(), Some("Ann"));
    assert_eq!(jobs[0].reviews[0].text, "good, really\nvery");
    assert_eq!((jobs[0].reviews[0].rating, jobs[0].reviews[1].rating), (Some(5.0), None));
    assert_eq!(jobs[1].reviews[0].text, "say \"hi\"");
    assert_eq!((jobs[1].restaurant_name.as_deref(), jobs[1].reviews[0].created_at), (None, None));
}

#[test]
fn a_csv_job_equals_the_same_job_in_json() {
    let rows = "\u{feff}restaurant_id,id,text\r\na,1,good\r\n";
    assert_eq!(only(csv(rows)), only(jsonl(GOOD)));
}

#[test]
fn columns_of_other_names_are_mapped() {
    let columns = "restaurant_id=rid, text=Review Text,id=n".parse().unwrap();
    let found =
        read_with(Format::Csv, "n,Review Text,rid\n1,good,a\n", InputOptions { columns, ..options() });
    assert_eq!(only(found), only(jsonl(GOOD)));
}

#[rstest]
#[case("text", "not FIELD=COLUMN")]
#[case("txt=a", "no field `txt`")]
#[case("text=", "has no column")]
#[case("text=a,text=b", "named twice")]
fn a_bad_column_mapping_says_what_is_wrong(#[case] text: &str, #[case] expected: &str) {
    let error = text.parse::<Columns>().unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_missing_column_names_those_there_are() {
    let message = only_error(csv("restaurant_id,id,body\na,1,good\n"));
    assert!(message.contains("no column `text`, it has `restaurant_id`, `id`, `body`"), "{message}");
    assert!(message.contains("--columns text="), "{message}");
}

#[test]
fn a_mapped_column_that_is_missing_is_an_error_even_if_optional() {
    let columns = "rating=stars".parse().unwrap();
    let found =
        read_with(Format::Csv, "restaurant_id,id,text\na,1,x\n", InputOptions { columns, ..options() });
    assert!(only_error(found).contains("no column `stars`"));
}

#[test]
fn a_restaurant_that_comes_back_is_an_error_and_reading_goes_on() {
    let found = outline(csv("restaurant_id,id,text\na,1,x\nb,2,x\na,3,x\na,4,x\nc,5,x\n"));
    assert_eq!(found.len(), 4);
    assert_eq!((found[0].as_str(), found[1].as_str(), found[3].as_str()), ("a", "b", "c"));
    assert!(found[2].contains("line 4: restaurant `a` comes back"), "{}", found[2]);
}

#[rstest]
#[case::cells("a,2,too,many\n", "line 3: 4 cells, the header has 3")]
#[case::id("a,,x\n", "line 3: field `id`: is empty")]
fn a_bad_row_fails_its_restaurant_and_no_other(#[case] row: &str, #[case] expected: &str) {
    let found = outline(csv(format!("restaurant_id,id,text\na,1,x\n{row}a,3,x\nb,4,x\n")));
    assert_eq!(found.len(), 2);
    assert!(found[0].contains(expected), "{}", found[0]);
    assert_eq!(found[1], "b");
}

#[test]
fn a_row_without_a_restaurant_is_an_error_of_its_own() {
    let found = outline(csv("restaurant_id,id,text\na,1,x\n,2,x\na,3,x\n"));
    assert_eq!(found.len(), 2);
    assert!(found[0].contains("line 3: field `restaurant_id`"), "{}", found[0]);
    assert_eq!(found[1], "a");
}

#[test]
fn invalid_utf8_in_a_cell_names_line_and_field() {
    let message = only_error(csv(b"restaurant_id,id,text\na,1,ab\xff\n".to_vec()));
    assert!(message.contains("line 2: invalid UTF-8 at byte 2 of the field `text`"), "{message}");
}

#[test]
fn a_restaurant_over_the_limit_is_passed_over() {
    let limits = Limits { bytes_per_job: 100, ..Limits::default() };
    let rows = (0..20).map(|i| format!("a,{i},0123456789\n")).collect::<Vec<_>>().concat();
    let text = format!("restaurant_id,id,text\n{rows}b,1,x\n");
    let found = read_with(Format::Csv, text, InputOptions { limits, ..options() });
    assert!(matches!(found[..], [Err(InputError::TooLong { line: 2, max: 100, .. }), Ok(_)]));
}

#[test]
fn a_quote_left_open_ends_reading_instead_of_filling_memory() {
    let limits = Limits { bytes_per_job: 1000, ..Limits::default() };
    let head = Cursor::new("restaurant_id,id,text\na,1,\"never closed ");
    let bytes = head.chain(Endless { left: 64 << 20 });
    let reader = JobReader::new(bytes, None, Format::Csv, InputOptions { limits, ..options() });
    let (progress, found) = (reader.progress(), reader.collect::<Vec<_>>());
    assert!(only_error(found).contains("quote left open"));
    assert!(progress.bytes_read() < 1 << 20, "{} bytes read", progress.bytes_read());
}

#[test]
fn reading_that_breaks_off_is_an_error_after_what_came_before() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let bytes = Cursor::new(format!("{GOOD}\n")).chain(Broken);
    let found = outline(JobReader::new(bytes, None, Format::Jsonl, options()).collect());
    assert_eq!(found.len(), 2);
    assert!(found[1].contains("line 2: reading failed: the disk is gone"), "{}", found[1]);
}

#[test]
fn all_bytes_are_counted() {
    let text = format!("{GOOD}\n\n{GOOD}");
    let mut reader = JobReader::new(Cursor::new(text.clone()), None, Format::Jsonl, options());
    assert_eq!(reader.by_ref().count(), 2);
    assert_eq!(reader.bytes_read(), text.len() as u64);
}

#[test]
fn the_format_follows_the_extension() {
    assert_eq!(format_of(Path::new("x.JSONL")), Some(Format::Jsonl));
    assert_eq!(format_of(Path::new("x.csv")), Some(Format::Csv));
    assert_eq!(format_of(Path::new("/dev/fd/63")), Some(Format::Jsonl));
    assert_eq!(format_of(Path::new("x.xlsx")), None);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.jsonl");
    let error = JobReader::open(&missing, options()).err().unwrap().to_string();
    assert!(error.contains(&missing.display().to_string()), "{error}");
    let csv = InputOptions { format: Some(Format::Csv), ..options() };
    assert!(matches!(JobReader::open(folder.path(), csv).err().unwrap(), InputError::Open { .. }));
}
