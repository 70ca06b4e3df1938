//! A review cut into clauses: the unit of evidence.
//!
//! A clause is a byte range of the review, never a rewritten text. For any input and rules:
//!
//! - ranges lie in order on character boundaries and do not overlap;
//! - each has at least one letter or digit, and no white space at its ends;
//! - every letter and digit of the review lies in exactly one range;
//! - none has more than `max_chars` characters.
//!
//! Whether a clause is worth reading is not decided here.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::boundaries::{self, Cut, Strength, is_bullet};

/// How a language's reviews are cut. Sentence ends, line breaks, list markers and semicolons need no rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClauseRules {
    /// Whole words, or short phrases, that begin a contrast; the cut is before them ("but", "하지만").
    pub contrast_words: Vec<String>,
    /// Word endings that close the first half of a contrast; the cut is after them ("지만", "는데"). A contrast
    /// word that happens to have such an ending counts as a word.
    pub contrast_endings: Vec<String>,
    /// Fragments with fewer characters join a neighbour.
    pub min_chars: usize,
    /// Longer clauses are cut at a comma, an " and ", a space, or, failing all, anywhere. Taken as at least
    /// twice `min_chars`.
    pub max_chars: usize,
}

impl Default for ClauseRules {
    fn default() -> Self {
        Self { contrast_words: Vec::new(), contrast_endings: Vec::new(), min_chars: 8, max_chars: 200 }
    }
}

/// Cuts `text` into clauses.
pub fn split(text: &str, rules: &ClauseRules) -> Vec<Range<usize>> {
    let max = rules.max_chars.max(2 * rules.min_chars).max(1);
    let pieces = pieces(text, &boundaries::find(text, rules));
    let mut clauses = Vec::with_capacity(pieces.len());
    for piece in join_short(pieces, text, rules.min_chars) {
        shorten(text, piece, rules.min_chars, max, &mut clauses);
    }
    clauses
}

/// A trimmed part of the text and how strongly it is parted from the one before.
struct Piece {
    range: Range<usize>,
    before: Strength,
}

/// The parts between cuts that have something to read. A part without counts for no separation of its own: the
/// strongest cut around it parts its neighbours.
fn pieces(text: &str, cuts: &[Cut]) -> Vec<Piece> {
    let end = Cut { at: text.len(), strength: Strength::Line };
    let mut pieces = Vec::new();
    let (mut from, mut before) = (0, Strength::Line);
    for cut in cuts.iter().chain([&end]) {
        if let Some(range) = trim(text, from..cut.at) {
            pieces.push(Piece { range, before });
            before = cut.strength;
        } else {
            before = before.max(cut.strength);
        }
        from = cut.at;
    }
    pieces
}

/// Joins every fragment to the neighbour it is less strongly parted from, the earlier one where both are alike.
fn join_short(pieces: Vec<Piece>, text: &str, min: usize) -> Vec<Range<usize>> {
    let is_short = |range: &Range<usize>| has_fewer_chars(&text[range.clone()], min);
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(pieces.len());
    let mut pieces = pieces.into_iter();
    let Some(mut current) = pieces.next() else { return joined };
    for next in pieces {
        if !is_short(&current.range) {
            joined.push(current.range);
            current = next;
        } else if let Some(last) = joined.last_mut().filter(|_| current.before <= next.before) {
            last.end = current.range.end;
            current = next;
        } else {
            current.range.end = next.range.end;
        }
    }
    match joined.last_mut() {
        Some(last) if is_short(&current.range) => last.end = current.range.end,
        _ => joined.push(current.range),
    }
    joined
}

/// Pushes `range`, cut into parts of at most `max` characters.
fn shorten(text: &str, mut range: Range<usize>, min: usize, max: usize, into: &mut Vec<Range<usize>>) {
    let mut left = text[range.clone()].chars().count();
    while left > max {
        let window = max.min(left.saturating_sub(min)).max(1);
        let part = &text[range.clone()];
        let cut = cut_within(part, window, (max / 3).max(min).min(window));
        into.extend(trim(text, range.start..range.start + cut));
        left -= part[..cut].chars().count();
        range.start += cut;
    }
    into.extend(trim(text, range));
}

/// The best byte offset to cut `part` at, from `least` to `most` characters in: after the last comma, else before
/// the last " and ", else after the last space, else after `most` characters.
fn cut_within(part: &str, most: usize, least: usize) -> usize {
    let (mut comma, mut and, mut space) = (None, None, None);
    let mut hard = part.len();
    for (n, (at, c)) in part.char_indices().enumerate() {
        if n >= most {
            hard = at;
            break;
        }
        let end = at + c.len_utf8();
        let after_digit = part[..at].ends_with(|c: char| c.is_numeric());
        if n + 1 < least {
            continue;
        }
        if matches!(c, '，' | '、') || c == ',' && !(after_digit && part[end..].starts_with(char::is_numeric))
        {
            comma = Some(end);
        } else if c.is_whitespace() {
            space = Some(end);
            let word = part.as_bytes().get(end..end + 4);
            if word.is_some_and(|word| word.eq_ignore_ascii_case(b"and ")) {
                and = Some(end);
            }
        }
    }
    comma.or(and).or(space).unwrap_or_else(|| whole_character(part, hard))
}

/// Moves a forced cut back so that a combining mark or joiner stays with its base, within reason.
fn whole_character(part: &str, cut: usize) -> usize {
    let leans = |c: char| matches!(c, '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}');
    let mut at = cut;
    for c in part[..cut].chars().rev().take(8) {
        if !part[at..].starts_with(leans) {
            return at;
        }
        at -= c.len_utf8();
    }
    if at == 0 { cut } else { at }
}

/// The range without what only separates at its ends; nothing if no letter or digit is left.
fn trim(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let part = &text[range.clone()];
    if !part.contains(char::is_alphanumeric) {
        return None;
    }
    let blank = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    let separates =
        |c: char| matches!(c, ',' | ';' | '-' | '–' | '—' | '|' | '·' | '，' | '；' | '、') || is_bullet(c);
    let leads = |c: char| {
        blank(c)
            || separates(c)
            || matches!(c, '.' | '!' | '?' | '…' | '*' | '/' | ')' | ']' | ':' | '=' | '>' | '~')
    };
    let from = range.start + (part.len() - part.trim_start_matches(leads).len());
    let to = range.start + part.trim_end_matches(|c| blank(c) || separates(c)).len();
    Some(from..to)
}

fn has_fewer_chars(text: &str, n: usize) -> bool {
    text.len() < n || text.chars().take(n).count() < n
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn rules(min_chars: usize, max_chars: usize) -> ClauseRules {
        let words = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        ClauseRules {
            contrast_words: words(&[
                "but",
                "however",
                "although",
                "though",
                "while",
                "whereas",
                "except",
                "yet",
                "하지만",
                "그러나",
                "근데",
                "그런데",
                "on the other hand",
            ]),
            contrast_endings: words(&["지만", "는데", "은데", "으나"]),
            min_chars,
            max_chars,
        }
    }

    fn cut<'a>(text: &'a str, rules: &ClauseRules) -> Vec<&'a str> {
        split(text, rules).into_iter().map(|range| &text[range]).collect()
    }

    #[rstest]
    #[case::sentence_ends("Great food! Rude staff? Never again.", &["Great food!", "Rude staff?", "Never again."])]
    #[case::full_stop_without_a_space("Food is good.we ordered fish", &["Food is good.", "we ordered fish"])]
    #[case::stop_on_the_wrong_side_of_its_space("hot soup .the fish was cold", &["hot soup .", "the fish was cold"])]
    #[case::lower_case_after_a_stop("good food . had lunch there", &["good food .", "had lunch there"])]
    #[case::runs_of_dots("must try.. great food... will come", &["must try..", "great food...", "will come"])]
    #[case::ellipsis_character("nice place…slow service", &["nice place…", "slow service"])]
    #[case::mixed_run("Really?!! It was cold", &["Really?!!", "It was cold"])]
    #[case::decimals_stay("Paid 1.5 times more. Not worth it", &["Paid 1.5 times more.", "Not worth it"])]
    #[case::currency_stays("Rs. 200 for a soup. Too much", &["Rs. 200 for a soup.", "Too much"])]
    #[case::dotted_abbreviations("Many dishes, e.g. fish, are good.", &["Many dishes, e.g. fish, are good."])]
    #[case::titles("Mr. Das served us well.", &["Mr. Das served us well."])]
    #[case::titles_within_a_sentence("We all thank Mr. Das for it", &["We all thank Mr. Das for it"])]
    #[case::addresses("Order at www.place.com.au or a@b.com now", &["Order at www.place.com.au or a@b.com now"])]
    #[case::bare_domain("Booked on zomato.com for four", &["Booked on zomato.com for four"])]
    #[case::lines("Food: 4/5\nService: 2/5\r\nWould not go", &["Food: 4/5", "Service: 2/5", "Would not go"])]
    #[case::bullets("• good pasta • slow bar", &["good pasta", "slow bar"])]
    #[case::dashes_at_line_starts("- good pasta\n- slow bar", &["good pasta", "slow bar"])]
    #[case::numbered_lines("1. good pasta\n2. slow bar", &["1. good pasta", "2. slow bar"])]
    #[case::numbered_inline("1) good pasta 2) slow bar", &["1) good pasta", "2) slow bar"])]
    #[case::semicolons("The soup was hot; the fish was cold", &["The soup was hot", "the fish was cold"])]
    #[case::html_entities("Fish &amp; chips were fine", &["Fish &amp; chips were fine"])]
    #[case::winking_smiley("Loved it all ;) so much", &["Loved it all ;) so much"])]
    #[case::emoji_close_a_sentence("Loved it \u{1f60d}\u{1f60d} The bar was slow", &["Loved it \u{1f60d}\u{1f60d}", "The bar was slow"])]
    #[case::emoji_within_a_sentence("We really \u{2764}\u{fe0f} the food here", &["We really \u{2764}\u{fe0f} the food here"])]
    #[case::emoji_after_a_stop("So good! \u{1f60d} The bar was slow", &["So good! \u{1f60d}", "The bar was slow"])]
    #[case::quotes_close_with_the_sentence("He said \"wait there.\" Then he left", &["He said \"wait there.\"", "Then he left"])]
    fn text_is_cut_where_a_reader_would_pause(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(cut(text, &rules(4, 200)), expected);
    }

    #[rstest]
    #[case::before_a_word("The food was good, but the waiter was rude", &["The food was good", "but the waiter was rude"])]
    #[case::at_the_start_of_a_sentence("But the waiter was rude", &["But the waiter was rude"])]
    #[case::whole_words_only("The butter and the yeti were good", &["The butter and the yeti were good"])]
    #[case::any_case("Good food BUT slow bar", &["Good food", "BUT slow bar"])]
    #[case::a_phrase("Good food on the other hand a slow bar", &["Good food", "on the other hand a slow bar"])]
    #[case::even_goes_with_though("We waited long even though we had booked", &["We waited long", "even though we had booked"])]
    #[case::nothing_but("I have nothing but praise for them", &["I have nothing but praise for them"])]
    #[case::a_while("We had to wait a while for the soup", &["We had to wait a while for the soup"])]
    #[case::yet_to("They have two dishes yet to be tried", &["They have two dishes yet to be tried"])]
    #[case::after_an_ending("음식은 맛있지만 서비스는 별로예요", &["음식은 맛있지만", "서비스는 별로예요"])]
    #[case::after_an_ending_and_a_comma("분위기는 좋은데, 음식이 짜요", &["분위기는 좋은데", "음식이 짜요"])]
    #[case::a_korean_word("음식은 맛있다 하지만 비싸다", &["음식은 맛있다", "하지만 비싸다"])]
    #[case::an_ending_inside_a_word("지만이네 식당은 좋아요", &["지만이네 식당은 좋아요"])]
    fn contrasts_are_cut(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(cut(text, &rules(4, 200)), expected);
    }

    #[rstest]
    #[case::to_the_earlier_one("The food was good. Yum! The bar was slow.", &["The food was good. Yum!", "The bar was slow."])]
    #[case::over_the_weaker_boundary("Great evening\nFood. It was really hot", &["Great evening", "Food. It was really hot"])]
    #[case::at_the_start("Wow! The food was good.", &["Wow! The food was good."])]
    #[case::at_the_end("The food was good, though.", &["The food was good, though."])]
    #[case::alone("Yum", &["Yum"])]
    fn a_short_fragment_joins_a_neighbour(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(cut(text, &rules(8, 200)), expected);
    }

    #[test]
    fn a_long_clause_is_cut_at_commas_then_and_then_spaces() {
        let tight = rules(4, 30);
        assert_eq!(
            cut("we had the fish, the soup and bread with oil", &tight),
            ["we had the fish", "the soup and bread with oil"]
        );
        assert_eq!(
            cut("we had the good fish and the bread with oil", &tight),
            ["we had the good fish", "and the bread with oil"]
        );
        assert_eq!(
            cut("we had the good fish with the bread with oil", &tight),
            ["we had the good fish with the", "bread with oil"]
        );
    }

    #[test]
    fn cutting_a_long_clause_leaves_no_fragment() {
        assert_eq!(
            cut("they serve the best fish here ok", &rules(8, 30)),
            ["they serve the best", "fish here ok"]
        );
    }

    #[test]
    fn a_figure_is_not_cut_at_its_comma() {
        assert_eq!(
            cut("we two paid Rs 2,000 for it all", &rules(2, 25)),
            ["we two paid Rs 2,000 for", "it all"]
        );
    }

    #[test]
    fn text_without_letters_or_digits_has_no_clause() {
        for empty in ["", "   ", "...!!!", "\u{1f60d}\u{1f60d}", "\n\n-\n", "\0\u{feff}"] {
            assert!(split(empty, &rules(4, 200)).is_empty(), "{empty:?}");
        }
    }

    #[test]
    fn a_rant_without_a_full_stop_is_cut_into_bounded_clauses() {
        let text = "the waiter came late and the soup was cold ".repeat(120);
        let clauses = cut(&text, &rules(8, 120));
        assert!(clauses.len() >= 43, "{}", clauses.len());
        assert!(clauses.iter().all(|clause| (8..=120).contains(&clause.chars().count())));
    }

    /// Text such as guests type: the characters that matter to the rules, words, and anything at all.
    fn review() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => "[a-zA-Z]{1,8}",
            2 => "[가-힣]{1,4}(지만|는데)?",
            4 => prop::sample::select(vec![
                " ", " ", ". ", ".", "..", "...", "…", "!", "?!", "\n", "\r\n", "; ", ";", ", ", ",", " but ", " 하지만 ",
                " even though ", " and ", "1.5", "Rs. 200", "e.g. ", "- ", "• ", "✔", "2) ", "3. ", "\u{1f60d}",
                "\u{2764}\u{fe0f}", "e\u{301}", "\u{0}", "\u{200b}", "www.a.com", "&amp;", "\"", ")", "“", "①", "½",
            ]).prop_map(String::from),
            1 => "\\PC{0,6}",
            1 => any::<String>(),
        ];
        prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn clauses_keep_their_invariants_for_any_text(text in review(), min in 0_usize..20, extra in 0_usize..60) {
            let rules = rules(min, min + extra);
            let clauses = split(&text, &rules);
            let mut end = 0;
            for range in &clauses {
                prop_assert!(range.start >= end && range.end > range.start);
                end = range.end;
                let clause = text.get(range.clone()).expect("on character boundaries");
                prop_assert_eq!(clause.trim(), clause);
                prop_assert!(clause.contains(char::is_alphanumeric));
                prop_assert!(clause.chars().count() <= rules.max_chars.max(2 * min).max(1));
            }
            for (at, c) in text.char_indices().filter(|(_, c)| c.is_alphanumeric()) {
                let homes = clauses.iter().filter(|range| range.contains(&at)).count();
                prop_assert_eq!(homes, 1, "{:?} at {} in {:?}", c, at, text);
            }
        }

        #[test]
        fn a_clause_of_two_is_no_fragment(text in "[a-z]{1,6}([.,!] ?[a-z]{1,6}){0,12}", min in 1_usize..12) {
            let clauses = cut(&text, &rules(min, 10_000));
            prop_assert!(clauses.len() < 2 || clauses.iter().all(|clause| clause.chars().count() >= min));
        }
    }
}
