//! The grammars (GBNF) that hold a peer's answers in form.
//!
//! Written by hand rather than made from a JSON schema: without freedom in white space, in which a small model loses
//! itself, and with bounds on texts, so that every answer ends. Both make the peer faster and valid.

use maitred::job::Language;

use super::Task;

/// The most characters of a claim, a strength's name and a quote. Korean says as much in about half of them.
const fn bounds(language: Language) -> (usize, usize, usize) {
    match language {
        Language::En => (80, 40, 80),
        Language::Ko => (40, 20, 50),
    }
}

/// The grammar of a task's answer.
pub fn of(task: Task, language: Language) -> String {
    let (claim, strength, quote) = bounds(language);
    match task {
        Task::Sentiment => r#"root ::= "{\"positive\": " count ", \"negative\": " count "}"
count ::= "0" | [1-9] [0-9]{0,3}
"#
        .to_owned(),
        Task::Summary => {
            format!(
                r#"root ::= "[" item (", " item){{0,2}} "]"
item ::= "{{\"aspect\": \"" aspect "\", \"polarity\": \"" polarity "\", \"claim\": \"" char{{1,{claim}}} "\"" evidence
aspect ::= "food" | "service" | "price" | "ambience" | "delivery"
polarity ::= "positive" | "negative"
"#
            ) + &evidence(quote)
        }
        Task::Strengths => {
            format!(
                r#"root ::= "[" item (", " item){{0,2}} "]"
item ::= "{{\"strength\": \"" char{{1,{strength}}} "\"" evidence
"#
            ) + &evidence(quote)
        }
    }
}

/// The end of an item: the quote and the number of its review.
fn evidence(quote: usize) -> String {
    format!(
        r#"evidence ::= ", \"quote\": \"" char{{1,{quote}}} "\", \"review\": " number "}}"
number ::= [1-9] [0-9]{{0,2}}
char ::= [^"\\\x00-\x1F\x7F] | "\\" ["\\]
"#
    )
}
