//! Where a text may be cut into clauses, and how strongly each place parts what stands on its sides.
//!
//! Reviews are typed on phones: full stops without a space after them, runs of dots for a pause, emoji for a
//! full stop, list markers of all sorts. The rules below follow such text first and good typography second. A cut
//! always lies on a character boundary and never inside a word.

use super::clauses::ClauseRules;
use super::language::is_hangul;

/// How strongly a place parts its sides; a fragment joins the neighbour behind the weaker one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    /// Within a sentence: a semicolon or a contrast.
    Phrase,
    /// Between sentences.
    Sentence,
    /// Between lines or list items.
    Line,
}

/// A place to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Byte offset; what stands before it belongs to the earlier clause.
    pub at: usize,
    /// How strongly it parts.
    pub strength: Strength,
}

/// Words before which a full stop is part of the name.
const TITLES: &[&str] = &["mr", "mrs", "ms", "dr", "st", "prof", "vs"];
/// Words whose full stop is no end when a figure follows: "Rs. 200", "No. 5".
const BEFORE_FIGURES: &[&str] = &["rs", "inr", "no", "nos", "approx", "min", "max", "pt", "vol"];
/// Words whose full stop is no end when the sentence visibly goes on.
const IN_MID_SENTENCE: &[&str] = &["etc", "approx", "incl", "min", "max", "esp"];
/// What follows the full stop of an internet name.
const DOMAINS: &[&str] = &["com", "net", "org", "co", "kr", "io"];
/// Pairs in which the second word, though a contrast elsewhere, contrasts nothing ("nothing but praise").
const NO_CONTRAST_AFTER: &[(&str, &str)] = &[
    ("nothing", "but"),
    ("anything", "but"),
    ("everything", "but"),
    ("all", "but"),
    ("help", "but"),
    ("a", "while"),
    ("worth", "while"),
    ("little", "while"),
    ("not", "yet"),
    ("as", "yet"),
    ("have", "yet"),
    ("has", "yet"),
    ("as", "though"),
];
/// Pairs in which the first word contrasts nothing ("yet to try").
const NO_CONTRAST_BEFORE: &[(&str, &str)] = &[("yet", "to"), ("yet", "another"), ("yet", "again")];
/// How far a look around a full stop goes, in characters: keeps hostile input linear.
const LOOK: usize = 64;

/// Finds every cut, in order, without repeats.
pub(super) fn find(text: &str, rules: &ClauseRules) -> Vec<Cut> {
    let mut scan = Scan {
        text,
        chars: text.char_indices().collect(),
        phrases: rules.contrast_words.iter().map(|phrase| words_of(phrase)).collect(),
        endings: &rules.contrast_endings,
        cuts: Vec::new(),
        previous: None,
    };
    scan.run();
    scan.cuts
}

fn words_of(phrase: &str) -> Vec<String> {
    phrase.split_whitespace().map(str::to_lowercase).collect()
}

struct Scan<'a> {
    text: &'a str,
    chars: Vec<(usize, char)>,
    /// Contrast words, or short phrases of several, in lower case.
    phrases: Vec<Vec<String>>,
    endings: &'a [String],
    cuts: Vec<Cut>,
    /// The word before the one in hand, if only blanks part them.
    previous: Option<Word>,
}

struct Word {
    /// Its first byte.
    at: usize,
    /// One past its last character.
    end: usize,
    /// In lower case.
    text: String,
}

impl Scan<'_> {
    fn run(&mut self) {
        let mut i = 0;
        while let Some(c) = self.at(i) {
            i = match c {
                '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                    self.cut(i + 1, Strength::Line);
                    i + 1
                }
                c if is_terminator(c) => self.terminator(i),
                ';' | '；' => self.semicolon(i),
                c if is_bullet(c) => {
                    self.cut(i, Strength::Line);
                    i + 1
                }
                c if is_emoji(c) => self.emoji(i),
                c if c.is_alphanumeric() => self.word(i),
                _ => i + 1,
            };
        }
    }

    fn at(&self, i: usize) -> Option<char> {
        self.chars.get(i).map(|&(_, c)| c)
    }

    fn offset(&self, i: usize) -> usize {
        self.chars.get(i).map_or(self.text.len(), |&(at, _)| at)
    }

    fn cut(&mut self, i: usize, strength: Strength) {
        let at = self.offset(i);
        self.cut_at(at, strength);
    }

    /// Adds a cut, keeping order; two at one place become the stronger one. Only "even though" looks back, and no
    /// further than the word before, so order can only break against cuts that are already there: it is dropped.
    fn cut_at(&mut self, at: usize, strength: Strength) {
        match self.cuts.last_mut() {
            Some(last) if last.at == at => last.strength = last.strength.max(strength),
            Some(last) if last.at > at => {}
            _ => self.cuts.push(Cut { at, strength }),
        }
    }

    /// Index after the run of characters from `i` that satisfy `test`.
    fn skip(&self, mut i: usize, test: impl Fn(char) -> bool) -> usize {
        while self.at(i).is_some_and(&test) {
            i += 1;
        }
        i
    }

    /// A run of `.`, `!`, `?`, `…` and the like, with the brackets and emoji that close it.
    fn terminator(&mut self, start: usize) -> usize {
        let mut end = self.skip(start, is_terminator);
        let single_stop = end == start + 1 && self.at(start) == Some('.');
        if (single_stop && !self.full_stop_ends(start)) || self.in_address(start) {
            return end;
        }
        end = self.skip(end, |c| matches!(c, ')' | ']' | '"' | '\'' | '”' | '’' | '」' | '』' | '）'));
        loop {
            let after_blanks = self.skip(end, is_blank);
            let after_emoji = self.skip(after_blanks, |c| is_emoji(c) && !is_bullet(c));
            if after_emoji == after_blanks {
                break;
            }
            end = after_emoji;
        }
        self.cut(end, Strength::Sentence);
        end
    }

    /// Whether the lone full stop at `i` ends a sentence.
    fn full_stop_ends(&self, i: usize) -> bool {
        let before = i.checked_sub(1).and_then(|j| self.at(j));
        let after = self.at(i + 1);
        let beyond = self.at(self.skip(i + 1, is_blank));
        let is_digit = |c: Option<char>| c.is_some_and(char::is_numeric);
        if is_digit(before) && (is_digit(after) || self.is_list_number(i)) {
            return false;
        }
        let word = self.word_before(i);
        let one_of = |list: &[&str]| list.contains(&word.as_str());
        if one_of(TITLES)
            || one_of(BEFORE_FIGURES) && is_digit(beyond)
            || one_of(IN_MID_SENTENCE) && beyond.is_some_and(|c| c.is_lowercase() || c == ',')
        {
            return false;
        }
        // Initials and dotted abbreviations: "e.g.", "p.m.", "J. Smith".
        if word.len() == 1 && word.is_ascii() && !is_digit(before) {
            return false;
        }
        match after {
            // Without a space after it: "good.we ordered" ends, "zomato.com" and "Mc.d" do not.
            Some(c) if c.is_alphanumeric() => {
                let short = (1..=2).contains(&word.chars().count()) && c.is_lowercase();
                !short && !DOMAINS.contains(&self.word_after(i).as_str())
            }
            _ => true,
        }
    }

    /// Whether only a small number stands between the last cut and the full stop at `i`: "2. Service".
    fn is_list_number(&self, i: usize) -> bool {
        let from = self.cuts.last().map_or(0, |cut| cut.at);
        let item = &self.text[from..self.offset(i)];
        // Offsets of cuts and characters are boundaries, and cuts lie before `i`.
        item.len() <= LOOK && item.trim().len() <= 2 && item.trim().chars().all(|c| c.is_ascii_digit())
    }

    fn word_before(&self, i: usize) -> String {
        let start = (i.saturating_sub(LOOK)..i)
            .rev()
            .take_while(|&j| self.at(j).is_some_and(char::is_alphanumeric))
            .last()
            .unwrap_or(i);
        self.text[self.offset(start)..self.offset(i)].to_lowercase()
    }

    fn word_after(&self, i: usize) -> String {
        self.chars[i + 1..]
            .iter()
            .take(LOOK)
            .map(|&(_, c)| c)
            .take_while(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect()
    }

    /// Whether the blank-free stretch around `i` is a link or a mail address.
    fn in_address(&self, i: usize) -> bool {
        let solid = |j: &usize| self.at(*j).is_some_and(|c| !c.is_whitespace());
        let start = (i.saturating_sub(LOOK)..i).rev().take_while(solid).last().unwrap_or(i);
        let end = (i..i + LOOK).take_while(solid).last().map_or(i, |j| j + 1);
        // The last character of the stretch is a real end: "see www.place.com."
        let stretch = &self.text[self.offset(start)..self.offset(end)];
        let inside = self.at(i + 1).is_some_and(|c| !c.is_whitespace());
        inside && (stretch.contains("://") || stretch.starts_with("www.") || stretch.contains('@'))
    }

    /// A semicolon parts phrases, unless it is half of a smiley or of an HTML entity.
    fn semicolon(&mut self, i: usize) -> usize {
        let parts = self.at(i + 1).is_none_or(|c| c.is_whitespace() || c.is_alphanumeric());
        let entity = (i.saturating_sub(8)..i)
            .rev()
            .find(|&j| !self.at(j).is_some_and(|c| c.is_alphanumeric() || c == '#'));
        if parts && entity.is_none_or(|j| self.at(j) != Some('&')) {
            self.cut(i + 1, Strength::Phrase);
        }
        i + 1
    }

    /// Emoji end a sentence when something that begins one follows; "I ❤ the food" goes on.
    fn emoji(&mut self, start: usize) -> usize {
        let end = self.skip(start, |c| is_emoji(c) && !is_bullet(c));
        let next = self.skip(end, is_blank);
        let begins = |c: char| c.is_uppercase() || is_hangul(c) || c.is_numeric();
        if next > end && self.at(next).is_some_and(begins) {
            self.cut(end, Strength::Sentence);
        }
        end
    }

    /// A word: a contrast cuts before it, a connective ending after it, a list marker before it.
    fn word(&mut self, start: usize) -> usize {
        self.previous = self.previous.take().filter(|before| self.skip(before.end, is_blank) == start);
        let end = self.skip(start, |c| c.is_alphanumeric() || matches!(c, '\'' | '’'));
        let at = self.offset(start);
        let word = self.text[at..self.offset(end)].to_lowercase();
        let marker = word.len() <= 2
            && word.chars().all(|c| c.is_ascii_digit())
            && self.at(end) == Some(')')
            && start.checked_sub(1).and_then(|i| self.at(i)).is_none_or(char::is_whitespace);
        if marker {
            self.cut(start, Strength::Line);
        } else if self.is_contrast(start, end, &word) {
            match self.previous.take() {
                Some(before) if before.text == "even" => self.cut_at(before.at, Strength::Phrase),
                _ => self.cut(start, Strength::Phrase),
            }
        } else if self.has_ending(&word) {
            let after = self.skip(end, |c| matches!(c, ',' | '，' | '、'));
            if self.at(after).is_some_and(char::is_whitespace) {
                self.cut(after, Strength::Phrase);
            }
        }
        self.previous = Some(Word { at, end, text: word });
        end
    }

    fn has_ending(&self, word: &str) -> bool {
        let ends = |ending: &String| {
            !ending.is_empty() && word.len() > ending.len() && word.ends_with(ending.as_str())
        };
        self.endings.iter().any(ends)
    }

    fn is_contrast(&self, start: usize, end: usize, word: &str) -> bool {
        let Some(phrase) = self.phrases.iter().find(|phrase| self.stands_at(start, phrase)) else {
            return false;
        };
        if phrase.len() > 1 {
            return true;
        }
        let after = self.word_after(self.skip(end, is_blank).max(1) - 1);
        let voided_before = self
            .previous
            .as_ref()
            .is_some_and(|before| NO_CONTRAST_AFTER.contains(&(before.text.as_str(), word)));
        !voided_before && !NO_CONTRAST_BEFORE.contains(&(word, after.as_str()))
    }

    /// Whether the words of `phrase` stand at `i`, parted by blanks only, the last one whole.
    fn stands_at(&self, mut i: usize, phrase: &[String]) -> bool {
        for (n, wanted) in phrase.iter().enumerate() {
            if n > 0 {
                i = self.skip(i, is_blank);
            }
            let end = self.skip(i, char::is_alphanumeric);
            if end == i || self.text[self.offset(i)..self.offset(end)].to_lowercase() != *wanted {
                return false;
            }
            i = end;
        }
        !phrase.is_empty()
    }
}

const fn is_terminator(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '‥' | '。' | '｡' | '．' | '！' | '？' | '।')
}

/// Marks that stand before a list item wherever they appear; `-` and `*` do so only at a line's start, which is a
/// cut already.
pub(super) const fn is_bullet(c: char) -> bool {
    matches!(
        c,
        '•' | '◦'
            | '‣'
            | '▪'
            | '●'
            | '○'
            | '■'
            | '□'
            | '◆'
            | '▶'
            | '►'
            | '➤'
            | '➡'
            | '✔'
            | '✓'
            | '✅'
            | '☑'
            | '※'
    )
}

/// Emoji, their joiners and modifiers, by block.
pub(super) fn is_emoji(c: char) -> bool {
    matches!(c, '\u{1f000}'..='\u{1faff}' | '\u{2600}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' | '\u{fe0f}'
        | '\u{200d}' | '\u{e0020}'..='\u{e007f}')
        && !c.is_alphanumeric()
}

/// White space within a line.
fn is_blank(c: char) -> bool {
    c.is_whitespace() && !matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}
