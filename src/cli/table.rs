//! A result as a person reads it: one block a restaurant.
//!
//! A view, not a format: quotes are cut to fit and control characters taken out. `--format json` has everything.

use owo_colors::AnsiColors;
use unicode_width::UnicodeWidthStr;

use super::text::{Style, counted, cut, pad, percent, printable, thousands, wrap};
use crate::result::{
    AnalysisResult, AspectFinding, Claim, Evidence, Origin, Outcome, Polarity, Sentiment, Strength,
    StrengthKind, Strengths, Summary,
};

/// Columns of the bar that stands for all reviews, where there is room.
const BAR_CELLS: usize = 30;
/// Columns of a name from `config/` at most.
const NAME_CELLS: usize = 20;
/// Columns before the findings.
const INDENT: usize = 4;
/// Fewer months are no trend.
const MIN_MONTHS: usize = 3;

/// The block of one restaurant, with a blank line behind it.
pub fn block(result: &AnalysisResult, style: Style) -> String {
    let mut block = Block { style, text: String::new() };
    block.head(result);
    if let Some(sentiment) = &result.sentiment {
        block.sentiment(sentiment);
    }
    if let Some(summary) = &result.summary {
        block.summary(summary);
    }
    if let Some(strengths) = &result.strengths {
        block.strengths(strengths);
    }
    block.troubles(result);
    block.line("");
    block.text
}

struct Block {
    style: Style,
    text: String,
}

impl Block {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// Name, how many reviews, language, outcome.
    fn head(&mut self, result: &AnalysisResult) {
        let name = printable(result.restaurant_name.as_deref().unwrap_or(&result.restaurant_id));
        let name = cut(&name, self.style.width / 2);
        let about = [
            counted(u64::from(result.usage.reviews), "review"),
            result.language.code().to_owned(),
            self.outcome(&result.outcome),
        ];
        let line = format!("{}  {}", self.style.bold(&name), about.join(self.style.dot()));
        self.line(&line);
    }

    fn outcome(&self, outcome: &Outcome) -> String {
        let color = match outcome {
            Outcome::Ok | Outcome::Unchanged => AnsiColors::Green,
            Outcome::Partial { .. } | Outcome::NoData | Outcome::Stale => AnsiColors::Yellow,
            Outcome::Failed { .. } => AnsiColors::Red,
        };
        self.style.paint(&outcome.status().replace('_', " "), color)
    }

    fn sentiment(&mut self, sentiment: &Sentiment) {
        let rows = [
            (Polarity::Positive, sentiment.positive, sentiment.positive_share),
            (Polarity::Negative, sentiment.negative, sentiment.negative_share),
            (Polarity::Neutral, sentiment.neutral, sentiment.neutral_share),
        ];
        // Beside the bar: label, per cent, count.
        let cells = BAR_CELLS.min(self.style.width.saturating_sub(28));
        for (polarity, count, share) in rows {
            let bar = self.style.bar(share, cells);
            let painted = self.style.paint(&bar, color_of(polarity));
            let gap = " ".repeat(cells - bar.width());
            let line = format!(
                "  {}  {painted}{gap}  {:>5}  {}",
                pad(polarity.name(), 8),
                percent(f64::from(share)),
                thousands(u64::from(count)),
            );
            self.line(&line);
        }
        self.trend(sentiment);
        if sentiment.scope == crate::job::Scope::Selected {
            let read = u64::from(sentiment.total);
            self.note(&format!("a sample: {} selected", counted(read, "review")));
        }
        if sentiment.unread > 0 {
            self.note(&format!("{} not read", counted(u64::from(sentiment.unread), "review")));
        }
    }

    /// Positive share by month.
    fn trend(&mut self, sentiment: &Sentiment) {
        // As many of the latest months as stand between the label and the two dates.
        let room = self.style.width.saturating_sub(32).max(MIN_MONTHS);
        let months = &sentiment.trend[sentiment.trend.len().saturating_sub(room)..];
        let [first, .., last] = months else { return };
        if months.len() < MIN_MONTHS {
            return;
        }
        let shares = months.iter().map(|month| {
            let total = month.positive + month.negative + month.neutral;
            month.positive as f32 / total.max(1) as f32
        });
        let spark = self.style.sparkline(shares);
        let line = format!("  {}  {spark}  {} to {}", pad("by month", 8), first.month, last.month);
        self.line(&line);
    }

    fn summary(&mut self, summary: &Summary) {
        self.title("overall");
        self.claim(&summary.overall);
        self.title("aspects");
        if summary.aspects.is_empty() {
            self.note("no aspect is spoken of by enough guests");
        }
        let width = column(summary.aspects.iter().map(|a| a.aspect.as_str()));
        for aspect in &summary.aspects {
            self.aspect(aspect, width);
        }
    }

    fn aspect(&mut self, aspect: &AspectFinding, width: usize) {
        let (sign, share) = match aspect.polarity {
            Polarity::Positive => ("+", format!("{} positive", percent(f64::from(aspect.positive_share)))),
            Polarity::Negative => ("-", format!("{} negative", percent(f64::from(aspect.negative_share)))),
            Polarity::Neutral => ("=", format!("{} positive", percent(f64::from(aspect.positive_share)))),
        };
        let about = [counted(u64::from(aspect.support), "review"), share].join(self.style.dot());
        self.finding((sign, color_of(aspect.polarity)), &aspect.aspect, width, &about);
        self.claim(&aspect.claim);
        self.quote(&aspect.claim, &aspect.evidence);
    }

    fn strengths(&mut self, strengths: &Strengths) {
        self.title("strengths");
        if strengths.items.is_empty() {
            self.note("nothing is praised by enough guests");
        }
        let width = column(strengths.items.iter().map(|s| s.aspect.as_str()));
        for strength in &strengths.items {
            self.strength(strength, width);
        }
    }

    fn strength(&mut self, strength: &Strength, width: usize) {
        let (sign, kind) = match strength.kind {
            StrengthKind::Distinct => ("*", "distinct"),
            StrengthKind::Representative => ("+", "representative"),
        };
        let mut parts = vec![counted(u64::from(strength.support), "review"), kind.to_owned()];
        parts.extend(strength.lift.map(|lift| format!("{lift:.1} times as often as elsewhere")));
        let about = parts.join(self.style.dot());
        self.finding((sign, AnsiColors::Green), &strength.aspect, width, &about);
        self.claim(&strength.claim);
        self.quote(&strength.claim, &strength.evidence);
    }

    /// The line over a finding: its sign, its aspect and what was counted.
    fn finding(&mut self, (sign, color): (&str, AnsiColors), aspect: &str, width: usize, about: &str) {
        let name = pad(&cut(&printable(aspect), NAME_CELLS), width);
        let about = cut(about, self.style.width.saturating_sub(INDENT + width + 2));
        let line = format!("  {} {name}  {about}", self.style.paint(sign, color));
        self.line(&line);
    }

    /// The claim, wrapped, with marks for where it comes from.
    fn claim(&mut self, claim: &Claim) {
        let mut text = printable(&claim.text);
        if claim.origin == Origin::Extractive {
            text += " [extractive]";
        }
        if claim.carried {
            text += " [carried]";
        }
        for line in wrap(&text, self.style.width - INDENT) {
            self.line(&format!("{}{line}", " ".repeat(INDENT)));
        }
    }

    /// The first quote that is not the claim itself, on one line, with the review's id.
    fn quote(&mut self, claim: &Claim, evidence: &[Evidence]) {
        let other = evidence.iter().find(|e| e.quote != claim.text).or(evidence.first());
        let Some(Evidence { review_id, quote }) = other else { return };
        let id = cut(&printable(review_id), 24);
        let room = self.style.width.saturating_sub(INDENT + id.width() + 5);
        let quote = format!("\"{}\" ({id})", cut(&printable(quote), room));
        let line = format!("{}{}", " ".repeat(INDENT), self.style.dim(&quote));
        self.line(&line);
    }

    /// What each analysis that did not end well says, once per message.
    fn troubles(&mut self, result: &AnalysisResult) {
        let mut told = Vec::new();
        for outcome in std::iter::once(&result.outcome).chain(result.outcomes.values()) {
            let message = match outcome {
                Outcome::Failed { code, message } => format!("{code}: {message}"),
                Outcome::Partial { message } => message.clone(),
                Outcome::NoData => "there is nothing to read in its reviews".to_owned(),
                Outcome::Stale => "a newer job of this restaurant exists".to_owned(),
                Outcome::Ok | Outcome::Unchanged => continue,
            };
            if !told.contains(&message) {
                self.note(&message);
                told.push(message);
            }
        }
    }

    fn title(&mut self, title: &str) {
        let line = format!("  {}", self.style.dim(title));
        self.line(&line);
    }

    fn note(&mut self, note: &str) {
        for line in wrap(&printable(note), self.style.width - INDENT) {
            let line = format!("{}{}", " ".repeat(INDENT), self.style.dim(&line));
            self.line(&line);
        }
    }
}

const fn color_of(polarity: Polarity) -> AnsiColors {
    match polarity {
        Polarity::Positive => AnsiColors::Green,
        Polarity::Negative => AnsiColors::Red,
        Polarity::Neutral => AnsiColors::Yellow,
    }
}

/// Columns that the widest name takes.
fn column<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| printable(name).width()).max().unwrap_or(0).min(NAME_CELLS)
}

#[cfg(test)]
mod tests;
