//! Text for a terminal: widths, wrapping, bars, colours.
//!
//! Reviews are other people's bytes: whatever a terminal would obey is taken out by [`printable`] before it is
//! shown. All widths are terminal columns, so Korean letters count two.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use owo_colors::{AnsiColors, OwoColorize};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Wider lines are hard to read even where there is room.
const WIDEST: usize = 120;
/// Narrower ones have no room for the columns; the terminal may wrap them.
const NARROWEST: usize = 40;

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// Whether colours are wanted.
    pub color: bool,
    /// Whether block characters are understood.
    pub unicode: bool,
}

impl Style {
    /// For stdout: colours only on a terminal and unless `NO_COLOR` is set, blocks only in a UTF-8 locale.
    pub fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        Self {
            width: width.clamp(NARROWEST, WIDEST),
            color: terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb"),
            unicode: is_utf8(locale.as_deref()),
        }
    }

    /// The text in a colour, if colours are wanted.
    pub fn paint(self, text: &str, color: AnsiColors) -> String {
        if self.color { text.color(color).to_string() } else { text.to_owned() }
    }

    /// The text in bold, if colours are wanted.
    pub fn bold(self, text: &str) -> String {
        if self.color { text.bold().to_string() } else { text.to_owned() }
    }

    /// The text dimmed, if colours are wanted.
    pub fn dim(self, text: &str) -> String {
        if self.color { text.dimmed().to_string() } else { text.to_owned() }
    }

    /// What separates parts of a line.
    pub const fn dot(self) -> &'static str {
        if self.unicode { " · " } else { ", " }
    }

    /// A bar of at most `cells` columns for a share from 0 to 1. A share above zero always shows.
    pub fn bar(self, share: f32, cells: usize) -> String {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        if !self.unicode {
            let full = (share * cells as f32).round() as usize;
            return "#".repeat(full.max(usize::from(share > 0.0)));
        }
        let eighths = ((share * (cells * 8) as f32).round() as usize).max(usize::from(share > 0.0));
        let mut bar = "█".repeat(eighths / 8);
        if !eighths.is_multiple_of(8) {
            bar.push(EIGHTHS[eighths % 8]);
        }
        bar
    }

    /// One character a value, each from 0 to 1; tenths as digits where there are no blocks.
    pub fn sparkline(self, shares: impl Iterator<Item = f32>) -> String {
        shares
            .map(|share| {
                let level = |steps: f32| (share.clamp(0.0, 1.0) * steps).round() as usize;
                if self.unicode {
                    LEVELS[level(7.0)]
                } else {
                    // At most nine: one digit.
                    char::from(b'0' + level(9.0) as u8)
                }
            })
            .collect()
    }
}

/// Whether a locale says UTF-8. One that is not set says nothing, and the texts are UTF-8 in any case.
fn is_utf8(locale: Option<&str>) -> bool {
    locale.is_none_or(|name| {
        let name = name.to_ascii_lowercase();
        name.ends_with("utf-8") || name.ends_with("utf8")
    })
}

/// The text without what a terminal obeys: control characters and direction overrides; runs of blanks become one.
pub fn printable(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let plain: String = text.chars().map(|c| if obeyed(c) { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text padded with blanks to `width` columns.
pub fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// The text cut to `width` columns, with an ellipsis if something is missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = take_width(text, width.saturating_sub(1)).trim_end().to_owned();
    short.push('…');
    short
}

/// Lines of at most `width` columns, broken at blanks, and inside a word only if it fits on no line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut lines = vec![String::new()];
    for mut word in text.split_whitespace() {
        // There is always a last line.
        let used = lines.last().map_or(0, |line| line.width());
        if used > 0 && used + 1 + word.width() > width {
            lines.push(String::new());
        }
        while word.width() > width {
            let head = take_width(word, width);
            lines.last_mut().into_iter().for_each(|line| line.push_str(head));
            lines.push(String::new());
            word = &word[head.len()..];
        }
        if let Some(line) = lines.last_mut() {
            let gap = if line.is_empty() { "" } else { " " };
            // Writing to a String cannot fail.
            let _ = write!(line, "{gap}{word}");
        }
    }
    lines
}

/// The longest beginning of at most `width` columns, and at least one character.
fn take_width(text: &str, width: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find_map(|(at, c)| {
        used += c.width().unwrap_or(0);
        (used > width && at > 0).then_some(at)
    });
    &text[..end.unwrap_or(text.len())]
}

/// A whole number with its thousands apart: `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 review`, `2 reviews`.
pub fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// A share from 0 to 1 as whole per cent. What is not all is never shown as 100 %, what is not nothing never as 0 %.
pub fn percent(share: f64) -> String {
    let rounded = (share * 100.0).round();
    let shown = if share > 0.0 && share < 1.0 { rounded.clamp(1.0, 99.0) } else { rounded };
    format!("{shown} %")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCKS: Style = Style { width: 80, color: false, unicode: true };
    const PLAIN: Style = Style { unicode: false, ..BLOCKS };

    #[test]
    fn what_a_terminal_obeys_is_taken_out() {
        assert_eq!(printable("a\u{1b}[31mb\r\n c\u{202e}d\0"), "a [31mb c d");
    }

    #[test]
    fn a_bar_is_exact_to_an_eighth_and_a_little_always_shows() {
        assert_eq!(BLOCKS.bar(0.5, 4), "██");
        assert_eq!(BLOCKS.bar(0.53, 4), "██▏");
        assert_eq!(BLOCKS.bar(0.0001, 4), "▏");
        assert_eq!(BLOCKS.bar(0.0, 4), "");
        assert_eq!(BLOCKS.bar(f32::NAN, 4), "");
        assert_eq!(PLAIN.bar(0.5, 4), "##");
        assert_eq!(PLAIN.bar(0.01, 4), "#");
    }

    #[test]
    fn a_sparkline_has_a_character_a_value() {
        assert_eq!(BLOCKS.sparkline([0.0, 0.5, 1.0].into_iter()), "▁▅█");
        assert_eq!(PLAIN.sparkline([0.0, 0.5, 1.0].into_iter()), "059");
    }

    #[test]
    fn colours_are_only_used_when_wanted() {
        assert_eq!(BLOCKS.paint("a", AnsiColors::Red), "a");
        assert_ne!(Style { color: true, ..BLOCKS }.paint("a", AnsiColors::Red), "a");
    }

    #[test]
    fn a_locale_that_is_not_set_does_not_forbid_blocks() {
        assert!(is_utf8(None) && is_utf8(Some("en_US.UTF-8")) && is_utf8(Some("C.utf8")));
        assert!(!is_utf8(Some("C")) && !is_utf8(Some("de_DE.ISO-8859-1")));
    }

    #[test]
    fn korean_is_wrapped_by_columns_not_letters() {
        assert_eq!(wrap("생선구이가 정말 맛있어요", 16), ["생선구이가 정말", "맛있어요"]);
        assert_eq!(wrap("맛있어요", 5), ["맛있", "어요"]);
        assert_eq!(cut("맛있어요", 5), "맛있…");
    }

    #[test]
    fn numbers_are_grouped_and_shares_never_rounded_to_all_or_nothing() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(percent(0.999), "99 %");
        assert_eq!(percent(0.001), "1 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(-0.5), "-50 %");
    }

    proptest! {
        #[test]
        fn no_wrapped_line_is_too_wide_and_no_letter_is_lost(text in "[a-c가-나 ]{0,60}", width in 2usize..20) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| line.width() <= width), "{lines:?}");
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }

        #[test]
        fn a_bar_is_never_wider_than_its_cells(share in -1f32..2.0, cells in 1usize..50) {
            prop_assert!(BLOCKS.bar(share, cells).width() <= cells);
            prop_assert!(PLAIN.bar(share, cells).width() <= cells);
        }
    }
}
