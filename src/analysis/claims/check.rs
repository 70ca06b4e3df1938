//! What a claim's text must fulfil before the models are asked about it. Pure.

use std::collections::HashSet;

/// Greatest characters of a claim.
const MAX_CHARS: usize = 220;
/// Fewest words of a claim that says something.
const MIN_WORDS: usize = 3;

/// The first sentence of what was generated. A text that the bound cut off loses its unfinished end; if nothing
/// whole is left there is no claim.
pub fn sentence(text: &str, complete: bool) -> Option<String> {
    let text = text.trim().trim_matches(|c| matches!(c, '"' | '“' | '”' | '-' | '*')).trim();
    let end = text.char_indices().find(|&(at, c)| {
        let after = text[at + c.len_utf8()..].chars().next();
        matches!(c, '.' | '!' | '?' | '。') && after.is_none_or(char::is_whitespace)
    });
    let sentence = match end {
        Some((at, c)) => &text[..at + c.len_utf8()],
        None if complete => text,
        None => return None,
    };
    let words = sentence.split_whitespace().count();
    let fits = words >= MIN_WORDS && sentence.chars().count() <= MAX_CHARS;
    (fits && !sentence.chars().any(char::is_control)).then(|| sentence.to_owned())
}

/// Whether every number in the claim, and every capitalised word that does not begin it, stands in the evidence.
/// Such words are names; a name from nowhere is invented.
pub fn is_grounded(claim: &str, quotes: &[&str]) -> bool {
    let evidence: HashSet<String> =
        quotes.iter().flat_map(|quote| words(quote)).map(str::to_lowercase).collect();
    words(claim).enumerate().all(|(place, word)| {
        let number = word.chars().any(char::is_numeric);
        let name = place > 0 && word.chars().next().is_some_and(char::is_uppercase) && word != "I";
        !(number || name) || evidence.contains(&word.to_lowercase())
    })
}

/// Whether the claim is one of the prompt's examples said again.
pub fn repeats<'e>(claim: &str, mut examples: impl Iterator<Item = &'e str>) -> bool {
    let plain = |text: &str| words(text).map(str::to_lowercase).collect::<Vec<_>>();
    let claim = plain(claim);
    examples.any(|example| plain(example) == claim)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Chooses between the two forms of a Korean particle, written "을(를)", by the final consonant before it.
pub fn particles(text: &str) -> String {
    let mut chosen = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("을(를)") {
        chosen.push_str(&rest[..at]);
        let last = chosen.chars().next_back();
        let closed = last.is_some_and(|c| ('가'..='힣').contains(&c) && (u32::from(c) - 0xac00) % 28 != 0);
        chosen.push(if closed { '을' } else { '를' });
        rest = &rest[at + "을(를)".len()..];
    }
    chosen.push_str(rest);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_whole_sentence_is_kept() {
        assert_eq!(
            sentence(" Guests love the soup. They also", false).as_deref(),
            Some("Guests love the soup.")
        );
        assert_eq!(sentence("Guests love the soup", true).as_deref(), Some("Guests love the soup"));
        assert_eq!(sentence("Guests love the soup and", false), None);
        assert_eq!(
            sentence("Paid 1.5 times more for it.", true).as_deref(),
            Some("Paid 1.5 times more for it.")
        );
        assert_eq!(sentence("Good.", true), None);
        assert_eq!(sentence("", true), None);
    }

    #[test]
    fn numbers_and_names_from_nowhere_are_refused() {
        let quotes = ["we waited 40 minutes", "Soumen was kind"];
        assert!(is_grounded("Guests wait 40 minutes.", &quotes));
        assert!(!is_grounded("Guests wait 50 minutes.", &quotes));
        assert!(is_grounded("Guests praise Soumen.", &quotes));
        assert!(!is_grounded("Guests praise Maria.", &quotes));
        assert!(is_grounded("Staff are kind.", &quotes));
    }

    #[test]
    fn an_example_said_again_is_noticed_whatever_its_punctuation() {
        assert!(repeats("guests praise the soup", ["Guests praise the soup."].into_iter()));
        assert!(!repeats("guests praise the fish", ["Guests praise the soup."].into_iter()));
    }

    #[test]
    fn a_particle_follows_the_consonant_before_it() {
        assert_eq!(
            particles("음식을(를) 칭찬하고 서비스을(를) 칭찬합니다"),
            "음식을 칭찬하고 서비스를 칭찬합니다"
        );
    }
}
