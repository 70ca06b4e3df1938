use super::*;
use crate::result::sample;

const BLOCKS: Style = Style { width: 80, color: false, unicode: true };
const PLAIN: Style = Style { unicode: false, ..BLOCKS };

#[test]
fn a_restaurant_is_shown_with_everything_that_was_found() {
    let expected = "\
The Blue Door  10 reviews · en · ok
  positive  █████████████████████            70 %  7
  negative  ██████                           20 %  2
  neutral   ███                              10 %  1
  by month  ▃▆█  2024-03 to 2024-06
  overall
    Guests praise the food and the staff; waiting is the main complaint.
  aspects
  + food     6 reviews · 83 % positive
    The grilled fish is praised.
    \"the grilled fish was the best I have had\" (r1)
  - waiting  2 reviews · 100 % negative
    we waited forty minutes for a table [extractive]
    \"we waited forty minutes for a table\" (r3)
  strengths
  * food     5 reviews · distinct · 2.4 times as often as elsewhere
    The fish is grilled well.
    \"fresh fish\" (r4)
  + service  3 reviews · representative
    The staff is friendly. [carried]
    \"fresh fish\" (r4)

";
    assert_eq!(block(&sample::english(), BLOCKS), expected);
}

#[test]
fn korean_columns_stand_by_width() {
    let expected = "\
푸른문 식당  10 reviews · ko · ok
  positive  █████████      75 %  3
  negative  ███            25 %  1
  neutral                   0 %  0
  overall
    손님들은 음식을 칭찬합니다.
  aspects
  + 음식  3 reviews · 100 % positive
    생선구이가 맛있다는 평이 많습니다.
    \"생선구이가 정말 고소하고 맛…\" (r1)
  strengths
    nothing is praised by enough guests

";
    assert_eq!(block(&sample::korean(), Style { width: 40, ..BLOCKS }), expected);
}

#[test]
fn every_line_fits_the_terminal() {
    for result in sample::one_of_each_outcome() {
        for width in [40, 60, 80, 120] {
            for line in block(&result, Style { width, ..BLOCKS }).lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }
}

#[test]
fn ascii_terminals_get_ascii() {
    let text = block(&sample::english(), PLAIN);
    assert!(text.is_ascii(), "{text}");
    assert!(text.contains("  positive  #####################"), "{text}");
    assert!(text.contains("by month  369"), "{text}");
}

#[test]
fn colours_change_no_letter() {
    let colored = block(&sample::english(), Style { color: true, ..BLOCKS });
    assert!(colored.contains('\u{1b}'));
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some(start) = rest.find('\u{1b}') {
        plain.push_str(&rest[..start]);
        rest = &rest[start + rest[start..].find('m').unwrap() + 1..];
    }
    plain.push_str(rest);
    assert_eq!(plain, block(&sample::english(), BLOCKS));
}

#[test]
fn a_result_without_findings_says_why() {
    let text: Vec<String> = sample::one_of_each_outcome().iter().map(|r| block(r, BLOCKS)).collect();
    assert!(text[1].contains("2 reviews could not be read"), "{}", text[1]);
    assert!(text[1].contains("2 reviews not read"), "{}", text[1]);
    assert_eq!(text[3], "empty  10 reviews · en · no data\n    there is nothing to read in its reviews\n\n");
    assert_eq!(
        text[5],
        "empty  10 reviews · en · failed\n    engine_stopped: the engine stopped; run again\n\n"
    );
}

#[test]
fn that_too_few_guests_agree_is_a_finding_and_not_a_want_of_reviews() {
    let mut result = sample::english();
    result.summary.as_mut().unwrap().aspects.clear();
    result.strengths.as_mut().unwrap().items.clear();
    let text = block(&result, BLOCKS);
    assert!(text.contains("  aspects\n    no aspect is spoken of by enough guests\n"), "{text}");
    assert!(text.contains("  strengths\n    nothing is praised by enough guests\n"), "{text}");
    assert!(!text.contains("nothing to read"), "{text}");
}

#[test]
fn a_sample_says_that_it_is_one() {
    let mut result = sample::english();
    result.sentiment.as_mut().unwrap().scope = crate::job::Scope::Selected;
    assert!(block(&result, BLOCKS).contains("a sample: 10 reviews selected"));
}

#[test]
fn fewer_than_three_months_are_no_trend() {
    let mut result = sample::english();
    result.sentiment.as_mut().unwrap().trend.truncate(2);
    assert!(!block(&result, BLOCKS).contains("by month"));
}

#[test]
fn a_review_cannot_steer_the_terminal() {
    let mut result = sample::english();
    result.restaurant_name = Some("a\u{1b}]0;gone\u{7}b".into());
    result.summary.as_mut().unwrap().aspects[0].evidence[0].quote = "x\u{1b}[2J\r\nspent".into();
    let text = block(&result, BLOCKS);
    assert!(!text.contains(['\u{1b}', '\u{7}', '\r']), "{text:?}");
    assert!(text.contains("\"x [2J spent\" (r1)"), "{text}");
}
