//! JSON Lines: a line is read only as far as it fits.

use std::io::{self, BufRead, BufReader, Read};

use super::json::job_of;
use super::{InputError, InputOptions};
use crate::job::Job;

const BUFFER_BYTES: usize = 64 << 10;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The jobs of a JSONL input, by line.
pub struct Lines<R> {
    bytes: BufReader<R>,
    options: InputOptions,
    /// The line at hand; emptied, not freed, between lines.
    text: Vec<u8>,
    line: u64,
    /// Whether a line that is not blank has been seen.
    begun: bool,
}

enum Line {
    Whole,
    TooLong,
    End,
}

impl<R: Read> Lines<R> {
    pub fn new(bytes: R, options: InputOptions) -> Self {
        let bytes = BufReader::with_capacity(BUFFER_BYTES, bytes);
        Self { bytes, options, text: Vec::new(), line: 0, begun: false }
    }

    /// Bytes set aside for the line at hand.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.text.capacity()
    }

    /// Reads the next line into `text`, without its line break. The rest of a line that does not fit is passed
    /// over without being held.
    fn read_line(&mut self) -> io::Result<Line> {
        let max = self.options.limits.bytes_per_job;
        self.text.clear();
        // One huge line must not hold its memory for the rest of the run.
        self.text.shrink_to(BUFFER_BYTES);
        let (mut fits, mut any) = (true, false);
        loop {
            let chunk = match self.bytes.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            fits &= self.text.len() + part.len() <= max;
            if fits {
                self.text.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.bytes.consume(used);
            if end.is_some() {
                break;
            }
        }
        Ok(match (any, fits) {
            (false, _) => Line::End,
            (true, true) => Line::Whole,
            (true, false) => Line::TooLong,
        })
    }

    /// The job of the line at hand; `None` if the line is blank.
    fn job(&mut self) -> Option<Result<Job, InputError>> {
        let line = self.line;
        let bytes = if line == 1 { self.text.strip_prefix(BOM).unwrap_or(&self.text) } else { &self.text };
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            return None;
        }
        let first = !std::mem::replace(&mut self.begun, true);
        if first && (bytes.starts_with(b"[") || bytes == b"{") {
            return Some(Err(InputError::NotJsonLines(line)));
        }
        Some(match std::str::from_utf8(bytes) {
            Ok(text) => job_of(text, line, &self.options),
            Err(e) => Err(InputError::NotUtf8 { line, byte: e.valid_up_to(), part: "line".into() }),
        })
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Result<Job, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.line += 1;
            let line = self.line;
            match self.read_line() {
                Ok(Line::End) => return None,
                Ok(Line::Whole) => {
                    if let Some(job) = self.job() {
                        return Some(job);
                    }
                }
                Ok(Line::TooLong) => {
                    self.begun = true;
                    let max = self.options.limits.bytes_per_job;
                    return Some(Err(InputError::TooLong { line, max, hint: "" }));
                }
                Err(cause) => return Some(Err(InputError::Io { line, cause })),
            }
        }
    }
}
