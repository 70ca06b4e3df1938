//! Small charts as SVG, for a page that brings colours along: series are classes `s0`, `s1`; text and grid are `t` and
//! `g`. Nothing is drawn where there is no data; what is missing within a line is a gap in it.

use std::fmt::Write as _;

use time::OffsetDateTime;

use super::scale::Scale;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 410.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 164.0;
/// Beyond this a time is told by its day.
const DAYS: i64 = 2 * 86_400;

/// A line of a chart.
pub struct Line<'a> {
    /// Class of its colour.
    pub class: &'a str,
    /// Value at the start of each step; absent: not known.
    pub values: Vec<Option<f64>>,
}

/// Steps of a time axis.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// Start of the first, in Unix seconds.
    pub from: i64,
    /// Length of one.
    pub step: i64,
    /// How many.
    pub steps: usize,
}

/// Lines over time, from zero to `most` at least. `label` is for those who do not see it.
pub fn lines(label: &str, time: Time, lines: &[Line<'_>], most: f64) -> String {
    let values = lines.iter().flat_map(|line| line.values.iter().flatten().copied());
    let scale = Scale::from_zero(values.fold(most, f64::max));
    let mut svg = begin(label);
    grid(&mut svg, scale);
    for place in 0..4 {
        let step = time.steps as f64 * f64::from(place) / 4.0;
        let second = time.from + (step * time.step as f64) as i64;
        text(&mut svg, across(step, time.steps), BOTTOM + 16.0, &moment(second, time), "start");
    }
    for line in lines {
        let points = line.values.iter().enumerate().map(|(step, value)| {
            value.map(|value| (across(step as f64 + 0.5, time.steps), down(scale, value)))
        });
        let (mut path, mut run) = (String::new(), Vec::new());
        for point in points.chain([None]) {
            match point {
                Some(point) => run.push(point),
                None => stroke(&mut path, &mut run),
            }
        }
        put(&mut svg, format_args!("<path class=\"l {}\" d=\"{path}\"/>", line.class));
    }
    svg + "</svg>"
}

/// A bar for each value, named below every third; absent values have none.
pub fn bars(label: &str, values: &[Option<f64>], names: impl Fn(usize) -> String) -> String {
    let scale = Scale::from_zero(values.iter().flatten().copied().fold(0.0, f64::max));
    let mut svg = begin(label);
    grid(&mut svg, scale);
    for (place, value) in values.iter().enumerate() {
        let (from, to) =
            (across(place as f64 + 0.12, values.len()), across(place as f64 + 0.88, values.len()));
        if let Some(value) = value {
            let top = down(scale, *value);
            put(
                &mut svg,
                format_args!(
                    "<rect class=\"b s0\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                    to - from,
                    BOTTOM - top
                ),
            );
        }
        if place % 3 == 0 {
            text(&mut svg, f64::midpoint(from, to), BOTTOM + 16.0, &names(place), "middle");
        }
    }
    svg + "</svg>"
}

fn begin(label: &str) -> String {
    let label = escape(label);
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">")
}

fn grid(svg: &mut String, scale: Scale) {
    for tick in scale.ticks() {
        let y = down(scale, tick.value);
        put(svg, format_args!("<path class=\"g\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>"));
        text(svg, LEFT - 6.0, y + 4.0, &tick.label, "end");
    }
}

/// Moves a run of points into the path; one that stands alone becomes a dot, which a line of no length draws.
fn stroke(path: &mut String, run: &mut Vec<(f64, f64)>) {
    for (place, (x, y)) in run.iter().enumerate() {
        let command = if place == 0 { 'M' } else { 'L' };
        put(path, format_args!("{command}{x:.1} {y:.1}"));
    }
    if let [(x, y)] = run[..] {
        put(path, format_args!("L{x:.1} {y:.1}"));
    }
    run.clear();
}

fn text(svg: &mut String, x: f64, y: f64, text: &str, anchor: &str) {
    let text = escape(text);
    put(
        svg,
        format_args!("<text class=\"t\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"),
    );
}

/// Text as it stands in HTML and SVG, between tags and in attributes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

fn put(to: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = to.write_fmt(what);
}

fn across(place: f64, places: usize) -> f64 {
    LEFT + place / places.max(1) as f64 * (RIGHT - LEFT)
}

fn down(scale: Scale, value: f64) -> f64 {
    BOTTOM - scale.place(value) * (BOTTOM - TOP)
}

/// A moment as a short word, in UTC.
fn moment(second: i64, time: Time) -> String {
    let Ok(at) = OffsetDateTime::from_unix_timestamp(second) else { return String::new() };
    if time.step * time.steps as i64 > DAYS {
        format!("{:02}-{:02}", u8::from(at.month()), at.day())
    } else {
        format!("{:02}:{:02}", at.hour(), at.minute())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Time = Time { from: 1_769_851_800, step: 60, steps: 4 };

    #[test]
    fn what_is_missing_in_a_line_is_a_gap_and_a_lone_value_a_dot() {
        let line = Line { class: "s0", values: vec![Some(10.0), None, Some(5.0), Some(0.0)] };
        let svg = lines("tokens", TIME, &[line], 10.0);
        let path = svg.split("<path class=\"l s0\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(path, "M91.5 10.0L91.5 10.0M273.5 87.0L364.5 164.0");
        assert!(svg.contains(">09:30</text>"), "{svg}");
    }

    #[test]
    fn a_chart_of_days_names_days() {
        let svg = lines("tokens", Time { step: 86_400, ..TIME }, &[], 1.0);
        assert!(svg.contains(">01-31</text>") && svg.contains(">02-01</text>"), "{svg}");
    }

    #[test]
    fn a_bar_is_as_high_as_its_value_and_none_is_no_bar() {
        let svg = bars("jobs", &[Some(0.0), Some(4.0), None], |place| place.to_string());
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains("height=\"0.0\"") && svg.contains("height=\"154.0\""), "{svg}");
    }

    #[test]
    fn what_is_named_cannot_leave_its_place() {
        let svg = lines("a\"><script>", TIME, &[], 1.0);
        assert!(!svg.contains("<script>"), "{svg}");
    }
}
