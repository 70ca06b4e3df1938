//! The prompts of the peers: two small restaurants, worked out by us, then the one in question.
//!
//! The model knows no chat, it continues texts. It must see what an answer looks like, twice: after one worked
//! example it copies the answers, after two it follows their form. Reviews are one line each and numbered from 1.

use maitred::job::{Language, Review};

use super::Task;

const ENGLISH: &str = include_str!("../../peers/prompts.en.txt");
const KOREAN: &str = include_str!("../../peers/prompts.ko.txt");

/// Begins the name of the task that a paragraph of the file belongs to; the line is no part of the prompt.
const MARK: char = '=';

/// Where answers end when no grammar ends them: at the next paragraph.
pub const STOP: &[&str] = &["\n\n"];

/// What is asked in one language.
#[derive(Debug, Clone, Copy)]
pub struct Prompts {
    worked: &'static str,
}

impl Prompts {
    /// Those of a language.
    pub const fn of(language: Language) -> Self {
        match language {
            Language::En => Self { worked: ENGLISH },
            Language::Ko => Self { worked: KOREAN },
        }
    }

    /// The same text for all tasks up to the last line, so that a server which keeps prompts reads the reviews once.
    pub fn reviews_first(self, reviews: &[&Review], task: Task) -> String {
        self.prompt(&Task::ALL, reviews, task)
    }

    /// Only what the one task needs, and the reviews behind it: nothing of the reviews is shared between tasks.
    pub fn task_first(self, reviews: &[&Review], task: Task) -> String {
        self.prompt(&[task], reviews, task)
    }

    fn prompt(self, shown: &[Task], reviews: &[&Review], task: Task) -> String {
        let mut prompt = String::new();
        for paragraph in self.worked.trim_end().split("\n\n") {
            match marked(paragraph) {
                Some((name, _)) if !shown.iter().any(|task| task.name() == name) => continue,
                Some((_, answer)) => prompt.push_str(answer),
                None => prompt.push_str(paragraph),
            }
            prompt.push_str("\n\n");
        }
        // The file ends with the heading of the reviews in question.
        prompt.truncate(prompt.trim_end().len());
        for (index, review) in reviews.iter().enumerate() {
            prompt.extend(["\n", &(index + 1).to_string(), ". ", &one_line(&review.text)]);
        }
        prompt + "\n\n" + self.question(task) + "\n"
    }

    /// The line that asks for the task's answer.
    fn question(self, task: Task) -> &'static str {
        let answers = self.worked.split("\n\n").filter_map(marked);
        let mut own = answers.filter(|(name, _)| *name == task.name());
        own.next().and_then(|(_, answer)| answer.lines().next()).unwrap_or_default()
    }
}

/// The task's name and the rest of a paragraph that begins with a mark.
fn marked(paragraph: &str) -> Option<(&str, &str)> {
    paragraph.strip_prefix(MARK)?.split_once('\n')
}

/// The text on one line, as the prompt shows it.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::grade::{Form, read};

    const LANGUAGES: [Language; 2] = [Language::En, Language::Ko];

    fn review(text: &str) -> Review {
        let mut review: Review = serde_json::from_str(r#"{"id": "r", "text": ""}"#).unwrap();
        text.clone_into(&mut review.text);
        review
    }

    #[test]
    fn prompts_of_one_restaurant_differ_in_the_last_line_alone() {
        let (first, second) = (review("Good\n\nsoup."), review("Cold tea."));
        for language in LANGUAGES {
            let prompts = Task::ALL.map(|task| Prompts::of(language).reviews_first(&[&first, &second], task));
            let cut = prompts.each_ref().map(|prompt| prompt.trim_end().rsplit_once('\n').unwrap());
            assert!(cut[0].0.ends_with("\n1. Good soup.\n2. Cold tea.\n"));
            assert!(cut.iter().all(|(before, question)| *before == cut[0].0 && !question.is_empty()));
            assert!(cut[0].1 != cut[1].1 && cut[1].1 != cut[2].1);
        }
    }

    #[test]
    fn a_prompt_with_the_task_first_shows_no_other_tasks_answers() {
        let soup = review("Good soup.");
        for language in LANGUAGES {
            let (prompts, task) = (Prompts::of(language), Task::Strengths);
            let prompt = prompts.task_first(&[&soup], task);
            assert_eq!(prompt.matches(prompts.question(task)).count(), 3);
            assert!(!prompt.contains(prompts.question(Task::Summary)));
            assert!(!prompt.contains("\n=") && !prompt.contains("\n\n\n"));
        }
    }

    #[test]
    fn the_worked_answers_are_valid_and_quote_their_reviews() {
        for language in LANGUAGES {
            let worked = Prompts::of(language).worked;
            let mut restaurant = "";
            let mut answers = 0;
            for paragraph in worked.split("\n\n") {
                let Some((name, text)) = marked(paragraph) else {
                    restaurant = paragraph;
                    continue;
                };
                let task = Task::ALL.into_iter().find(|task| task.name() == name).unwrap();
                let answer = read(task, text.lines().nth(1).unwrap(), Form::Exact).unwrap();
                for finding in answer.findings() {
                    let number = finding.reviews[0];
                    let named = restaurant.lines().find(|line| line.starts_with(&format!("{number}. ")));
                    assert!(named.unwrap().contains(&finding.quotes[0]), "{finding:?}");
                }
                answers += 1;
            }
            assert_eq!(answers, 6);
        }
    }
}
