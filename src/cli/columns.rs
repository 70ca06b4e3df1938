//! Lists and records on a terminal: aligned columns that fit its width.

use unicode_width::UnicodeWidthStr;

use super::text::{Style, cut, pad, printable, wrap};

/// Columns between columns.
const GAP: &str = "  ";
/// Columns of a label, with the gap behind it.
const LABEL: usize = 14;

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A list under its heads, one row a line. Where the columns are too wide together, those of words are cut.
pub fn list(heads: &[(&str, Align)], rows: &[Vec<String>], style: Style) -> String {
    let mut cells: Vec<Vec<String>> = vec![heads.iter().map(|(name, _)| (*name).to_owned()).collect()];
    cells.extend(rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()));
    let mut widths: Vec<usize> =
        (0..heads.len()).map(|at| cells.iter().map(|row| row[at].width()).max().unwrap_or(0)).collect();
    narrow(&mut widths, heads, style.width);
    let mut text = String::new();
    for (index, row) in cells.iter().enumerate() {
        let line: Vec<String> = row
            .iter()
            .zip(heads.iter().zip(&widths))
            .map(|(cell, ((_, align), width))| match align {
                Align::Left => pad(&cut(cell, *width), *width),
                Align::Right => format!("{}{cell}", " ".repeat(width.saturating_sub(cell.width()))),
            })
            .collect();
        let line = line.join(GAP);
        let line = line.trim_end();
        text += &if index == 0 { style.dim(line) } else { line.to_owned() };
        text.push('\n');
    }
    text
}

/// Takes from the widest column of words, one by one, until all fit or none is wider than its head.
fn narrow(widths: &mut [usize], heads: &[(&str, Align)], room: usize) {
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
    while total(widths) > room {
        let words =
            (0..widths.len()).filter(|at| heads[*at].1 == Align::Left && widths[*at] > heads[*at].0.width());
        let Some(widest) = words.max_by_key(|at| widths[*at]) else { return };
        widths[widest] -= 1;
    }
}

/// A record, one field a line, long values wrapped.
pub fn record(fields: &[(&str, String)], style: Style) -> String {
    let mut text = String::new();
    for (label, value) in fields {
        let labels = std::iter::once(*label).chain(std::iter::repeat(""));
        let lines = wrap(&printable(value), style.width.saturating_sub(LABEL));
        for (label, line) in labels.zip(lines) {
            text += format!("{}{line}", pad(label, LABEL)).trim_end();
            text.push('\n');
        }
    }
    text
}

/// A span of time in its two largest units: `3d 4h`, `2m 5s`, `12s`.
pub fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let parts = units.iter().scan(seconds, |left, (unit, length)| {
        let count = *left / length;
        *left %= length;
        Some((count, *unit))
    });
    let parts: Vec<String> = parts
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style { width: 30, color: false, unicode: true };

    #[test]
    fn columns_are_aligned_and_the_widest_words_give_way() {
        let heads = [("lane", Align::Left), ("jobs", Align::Right), ("reason", Align::Left)];
        let row =
            |lane: &str, jobs: &str, reason: &str| vec![lane.to_owned(), jobs.to_owned(), reason.to_owned()];
        let rows = [row("hi", "7", "short"), row("backfill", "1,234", "a reason that is long\x1b[2J")];
        let expected = "\
lane       jobs  reason
hi            7  short
backfill  1,234  a reason tha…
";
        let text = list(&heads, &rows, STYLE);
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.width() <= STYLE.width));
    }

    #[test]
    fn a_long_value_goes_on_under_itself() {
        let text = record(&[("job", "j-1".into()), ("reason", "the body is not a job".into())], STYLE);
        assert_eq!(text, "job           j-1\nreason        the body is not\n              a job\n");
    }

    #[test]
    fn a_span_has_two_units_at_most() {
        let spans = [0.4, 12.0, 125.0, 3600.0, 7260.0, 86_400.0 * 3.0 + 4.0 * 3600.0 + 59.0, 86_405.0];
        assert_eq!(spans.map(span), ["0s", "12s", "2m 5s", "1h", "2h 1m", "3d 4h", "1d"]);
    }
}
