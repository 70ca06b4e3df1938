//! Which of the supported languages a restaurant's reviews are in.

use crate::job::Language;

/// Share of Hangul among letters from which a text counts as Korean. Below one half because Korean reviews name
/// dishes and brands in Latin letters, and one Hangul syllable says as much as two or three of those.
const HANGUL_SHARE: f64 = 0.3;

/// Detects the language by script. Texts without letters count for nothing; English when there is nothing to
/// count.
pub fn detect<'a>(texts: impl Iterator<Item = &'a str>) -> Language {
    let (mut hangul, mut letters) = (0_u64, 0_u64);
    for letter in texts.flat_map(str::chars).filter(|c| c.is_alphabetic()) {
        letters += 1;
        hangul += u64::from(is_hangul(letter));
    }
    let korean = letters > 0 && hangul as f64 >= HANGUL_SHARE * letters as f64;
    if korean { Language::Ko } else { Language::En }
}

/// Whether the character is a Hangul syllable or letter (jamo).
pub const fn is_hangul(c: char) -> bool {
    matches!(c,
        '\u{ac00}'..='\u{d7a3}' // syllables
        | '\u{1100}'..='\u{11ff}' // conjoining letters
        | '\u{3130}'..='\u{318f}' // letters on their own, as in laughter
        | '\u{a960}'..='\u{a97f}'
        | '\u{d7b0}'..='\u{d7ff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain_english(&["Great food, rude waiter."], Language::En)]
    #[case::plain_korean(&["음식이 정말 맛있어요"], Language::Ko)]
    #[case::korean_with_brand_names(&["BBQ 치킨 Combo 세트 좋아요"], Language::Ko)]
    #[case::english_with_a_korean_dish(&["We loved the 비빔밥 and the quiet room upstairs"], Language::En)]
    #[case::laughter_counts_as_korean(&["ㅋㅋㅋㅋ"], Language::Ko)]
    #[case::nothing_to_count(&["", "123 !!! \u{1f60d}"], Language::En)]
    #[case::no_texts(&[], Language::En)]
    fn language_follows_the_share_of_hangul(#[case] texts: &[&str], #[case] expected: Language) {
        assert_eq!(detect(texts.iter().copied()), expected);
    }

    proptest! {
        #[test]
        fn how_letters_are_spread_over_texts_does_not_matter(texts in prop::collection::vec("[a-z가-힣 ]{0,20}", 0..8)) {
            let joined = texts.concat();
            prop_assert_eq!(detect(texts.iter().map(String::as_str)), detect(std::iter::once(joined.as_str())));
        }
    }
}
