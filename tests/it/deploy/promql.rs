//! Which series and labels an expression of PromQL names: enough of the language to hold it against a list of metrics.

use std::collections::BTreeSet;

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Series, as they are written.
    pub series: BTreeSet<String>,
    /// Labels in braces, each with its series.
    pub matched: BTreeSet<(String, String)>,
    /// Labels in `by (…)`, `on (…)` and the like.
    pub grouped: BTreeSet<String>,
}

/// Words that take a list of labels.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words that are neither series nor functions.
const OPERATORS: [&str; 7] = ["and", "or", "unless", "offset", "bool", "inf", "nan"];

/// Reads an expression.
pub fn names(expression: &str) -> Names {
    let mut names = Names::default();
    let mut rest = expression;
    let mut series = String::new();
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_alphabetic() || first == '_' || first == ':' {
            let (word, after) = split(rest);
            rest = after.trim_start();
            if GROUPING.contains(&word) && rest.starts_with('(') {
                let (inner, after) = until(&rest[1..], ')');
                names.grouped.extend(list(inner).map(str::to_owned));
                rest = after;
            } else if !is_called(rest) && !OPERATORS.contains(&word.to_lowercase().as_str()) {
                word.clone_into(&mut series);
                names.series.insert(series.clone());
            }
        } else if first == '{' {
            let (inner, after) = until(&rest[1..], '}');
            let labels = list(inner).filter_map(|matcher| matcher.split(['=', '!']).next());
            names.matched.extend(labels.map(|label| (series.clone(), label.trim().to_owned())));
            rest = after;
        } else if first == '[' {
            rest = until(&rest[1..], ']').1;
        } else if first.is_ascii_digit() {
            // With the unit of a duration.
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else if first == '"' {
            rest = until(&rest[1..], '"').1;
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    names
}

/// Whether what stands here calls what stood before: an argument, or how an aggregation groups.
fn is_called(rest: &str) -> bool {
    rest.starts_with('(') || ["by", "without"].contains(&split(rest).0)
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    text.split_at(end.unwrap_or(text.len()))
}

/// What stands before the mark and after it. Marks in quotes do not count.
fn until(text: &str, mark: char) -> (&str, &str) {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        if c == mark && !quoted {
            return (&text[..at], &text[at + c.len_utf8()..]);
        }
        quoted ^= c == '"';
    }
    panic!("no {mark} in {text}");
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    // A comma in a quoted value only makes a further part, which has no `=` before it and so no name of ours.
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[test]
fn series_and_labels_are_found_and_nothing_else() {
    let found = names(
        r#"histogram_quantile(0.95, sum by (le, size) (rate(a_seconds_bucket{lane=~"x|y}",job!="up"}[5m])))
           / on (instance) group_left () (b:c:max offset 15m > 0) unless up == 1e3"#,
    );
    assert_eq!(found.series.iter().collect::<Vec<_>>(), ["a_seconds_bucket", "b:c:max", "up"]);
    assert_eq!(found.grouped.iter().collect::<Vec<_>>(), ["instance", "le", "size"]);
    let of = |label: &str| ("a_seconds_bucket".to_owned(), label.to_owned());
    assert_eq!(found.matched, BTreeSet::from([of("lane"), of("job")]));
}
