//! The engine's own account of its decode calls: a line of JSON for each.
//!
//! For looking closely, and for holding metrics against: what is written here comes from the step loop alone, not from
//! what requests say of themselves. Pinned prefixes are prefilled before a step and are in no line; a call that failed
//! is in one, with what it fed.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::handle::{Server, StepReport};

/// One line: a decode call and the step around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// When the step ended, in seconds on the engine's clock.
    pub at: f64,
    /// Prompt and template tokens fed.
    pub prefill: u32,
    /// Sampled tokens fed.
    pub decode: u32,
    /// Tokens sampled.
    pub generated: u32,
    /// Tokens whose logits were read.
    pub read: u32,
    /// Sequences in the call.
    pub sequences: u32,
    /// Seconds inside the decode call.
    pub seconds: f64,
    /// Seconds of reading logits and answering, after it.
    pub reading: f64,
    /// Seconds of the whole step.
    pub total: f64,
    /// Seconds that the cost model expected the call to take.
    pub predicted: f64,
}

impl From<&StepReport> for StepLine {
    fn from(report: &StepReport) -> Self {
        let step = report.step;
        Self {
            at: step.ended.as_secs_f64(),
            prefill: step.prefill_tokens,
            decode: step.decode_tokens,
            generated: step.generated_tokens,
            read: step.read_tokens,
            sequences: step.sequences,
            seconds: step.decode_time.as_secs_f64(),
            reading: step.read_time.as_secs_f64(),
            total: step.total_time.as_secs_f64(),
            predicted: report.predicted,
        }
    }
}

impl StepLine {
    /// When the decode call ended, in seconds on the engine's clock: what it gave is known from then.
    pub fn decoded_at(&self) -> f64 {
        self.at - self.reading
    }

    /// When the step began, in seconds on the engine's clock.
    pub fn begun_at(&self) -> f64 {
        self.at - self.total
    }

    /// The line, with its end.
    pub fn text(&self) -> String {
        // Numbers alone: neither key nor value can fail to be written.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// A file that gets the lines.
#[derive(Debug)]
pub struct StepLog {
    path: PathBuf,
    file: File,
}

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the steps to `{path}`: {cause}; correct `log.steps`, or set it to \"none\"")]
pub struct StepLogError {
    path: PathBuf,
    cause: io::Error,
}

impl StepLog {
    /// Creates the file, or adds to the one that is there.
    pub fn open(path: &Path) -> Result<Self, StepLogError> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.map_err(|cause| StepLogError { path: path.to_owned(), cause })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Has the server's steps written, if they are to be.
    #[must_use]
    pub fn attach(log: Option<Self>, server: Server) -> Server {
        let Some(Self { path, file }) = log else { return server };
        let mut file = Some(file);
        server.watched_by(move |report| {
            // A write a line, a few microseconds beside a call's milliseconds: what is written survives a crash.
            let written = file.as_mut().map(|file| file.write_all(StepLine::from(report).text().as_bytes()));
            if let Some(Err(error)) = written {
                tracing::warn!(%error, path = %path.display(), "steps are not written any more");
                file = None;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::core::Step;

    fn report() -> StepReport {
        let ms = Duration::from_millis;
        let step = Step {
            prefill_tokens: 40,
            decode_tokens: 3,
            generated_tokens: 4,
            read_tokens: 5,
            sequences: 6,
            decode_time: ms(20),
            read_time: ms(2),
            total_time: ms(23),
            ended: ms(1500),
        };
        StepReport { step, predicted: 0.025 }
    }

    #[test]
    fn a_line_holds_the_step_and_is_read_back() {
        let line = StepLine::from(&report());
        let text = line.text();
        assert!(text.starts_with(r#"{"at":1.5,"prefill":40,"decode":3,"generated":4,"read":5,"#), "{text}");
        assert_eq!(serde_json::from_str::<StepLine>(&text).unwrap(), line);
        assert!((line.decoded_at() - 1.498).abs() < 1e-9);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_with_its_setting() {
        let message = StepLog::open(Path::new("/nowhere/steps.jsonl")).unwrap_err().to_string();
        assert!(message.contains("`/nowhere/steps.jsonl`") && message.contains("log.steps"), "{message}");
    }
}
