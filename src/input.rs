//! Reading jobs from a file or stdin, one restaurant at a time.
//!
//! Invariants: memory is bounded by one restaurant (`limits.bytes_per_job`), whatever the length of the file or of
//! a line. A bad line or restaurant is an error of its own and reading goes on behind it; only what leaves no place
//! to go on from ([`InputError::is_fatal`]) ends it. Texts are never changed: evidence must stay verbatim.

mod csv;
mod json;
mod jsonl;
mod record;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use self::csv::Columns;
use crate::job::{Analysis, Job, JobError, JobOptions, Language, Limits};

/// Shape of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One restaurant with its reviews as a JSON object on each line.
    Jsonl,
    /// One review on each row, the rows of a restaurant together, with a header.
    Csv,
}

/// What a reader needs besides the bytes.
#[derive(Debug, Clone)]
pub struct InputOptions {
    /// Shape of the input; by the file's extension if absent.
    pub format: Option<Format>,
    /// Names of the CSV columns.
    pub columns: Columns,
    /// What a job may hold.
    pub limits: Limits,
    /// Fields of jobs that do not bring their own.
    pub job: JobTemplate,
}

/// Fields of jobs whose input does not bring its own.
#[derive(Debug, Clone, Default)]
pub struct JobTemplate {
    /// What is asked.
    pub analyses: Vec<Analysis>,
    /// Language of the reviews; detected when absent.
    pub language: Option<Language>,
    /// Per-job settings.
    pub options: JobOptions,
}

/// Why input cannot be worked. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be opened.
    #[error("cannot open `{path}`: {cause}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The extension says nothing about the shape.
    #[error(
        "cannot tell the format of `{0}` from its name; add `--input-format jsonl` or `--input-format csv`"
    )]
    UnknownFormat(PathBuf),
    /// Reading broke off.
    #[error(
        "line {line}: reading failed: {cause}; what came before was worked, run again when it can be read"
    )]
    Io {
        /// Where.
        line: u64,
        /// What the system says.
        cause: io::Error,
    },
    /// There is not one restaurant in the input.
    #[error("the input holds no restaurants; give one restaurant a line (JSONL) or one review a row (CSV)")]
    Empty,
    /// One JSON document over many lines.
    #[error(
        "line {0}: the input is one JSON document, not one restaurant a line; convert an array with `jq -c '.[]'`, an object with `jq -c .`"
    )]
    NotJsonLines(u64),
    /// A line or restaurant that would not fit.
    #[error("line {line}: over {max} bytes{hint}; split the restaurant or raise `limits.bytes_per_job`")]
    TooLong {
        /// Where it begins.
        line: u64,
        /// Allowed bytes.
        max: usize,
        /// What else may be the cause.
        hint: &'static str,
    },
    /// Bytes that are no text.
    #[error("line {line}: invalid UTF-8 at byte {byte} of the {part}; convert the file to UTF-8")]
    NotUtf8 {
        /// Where.
        line: u64,
        /// First bad byte, counted from 0.
        byte: usize,
        /// `line`, or which column.
        part: String,
    },
    /// Text that is not JSON.
    #[error("line {line}: not JSON: {message}; write one object with `restaurant_id` and `reviews`")]
    NotJson {
        /// Where.
        line: u64,
        /// Column and cause.
        message: String,
    },
    /// A field that is missing or of the wrong kind.
    #[error("line {line}: field `{field}`: {message}")]
    Field {
        /// Where.
        line: u64,
        /// Path of the field.
        field: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A job written by a newer maitred.
    #[error(
        "line {line}: the job's wire version is {found}, this build reads up to {max}; use a newer maitred"
    )]
    NewerVersion {
        /// Where.
        line: u64,
        /// Its version.
        found: u64,
        /// Known versions.
        max: u16,
    },
    /// The job breaks a limit.
    #[error("line {line}: {cause}")]
    Job {
        /// Where it begins.
        line: u64,
        /// Which limit.
        cause: JobError,
    },
    /// The CSV header lacks a column.
    #[error("the header has no column `{column}`, it has {found}; name it with `--columns {field}=…`")]
    NoColumn {
        /// The column looked for.
        column: String,
        /// The field it is for.
        field: &'static str,
        /// Columns there are.
        found: String,
    },
    /// A row with more or fewer cells than the header.
    #[error("line {line}: {found} cells, the header has {expected}; check quotes and separators")]
    Cells {
        /// Where.
        line: u64,
        /// Cells of the row.
        found: usize,
        /// Cells of the header.
        expected: usize,
    },
    /// A restaurant in two places of a CSV file.
    #[error("line {line}: restaurant `{restaurant}` comes back after others; sort the file by restaurant")]
    Scattered {
        /// Where it comes back.
        line: u64,
        /// The restaurant, shortened and escaped.
        restaurant: String,
    },
}

impl InputError {
    /// Whether reading ends here. All other errors concern one line or restaurant.
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::Open { .. }
            | Self::UnknownFormat(_)
            | Self::Io { .. }
            | Self::Empty
            | Self::NotJsonLines(_)
            | Self::NoColumn { .. } => true,
            Self::TooLong { hint, .. } => !hint.is_empty(),
            _ => false,
        }
    }
}

/// The jobs of one input, in order.
pub struct JobReader {
    jobs: Box<dyn Iterator<Item = Result<Job, InputError>> + Send>,
    progress: ReadProgress,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has come yet.
    Fresh,
    /// Something has.
    Reading,
    /// Nothing more will.
    Ended,
}

/// How far reading has come; may be watched from another thread.
#[derive(Debug, Clone)]
pub struct ReadProgress {
    read: Arc<AtomicU64>,
    /// Bytes there are, if the input is a plain file.
    pub total: Option<u64>,
}

impl ReadProgress {
    /// Bytes taken from the input so far.
    pub fn bytes_read(&self) -> u64 {
        // A figure to show: no other memory hangs on it.
        self.read.load(Ordering::Relaxed)
    }
}

impl JobReader {
    /// Opens a file, or stdin for `-`.
    pub fn open(path: &Path, options: InputOptions) -> Result<Self, InputError> {
        if path.as_os_str() == "-" {
            let format = options.format.unwrap_or(Format::Jsonl);
            return Ok(Self::new(io::stdin(), None, format, options));
        }
        let format = match options.format {
            Some(format) => format,
            None => format_of(path).ok_or_else(|| InputError::UnknownFormat(path.to_owned()))?,
        };
        let open = || {
            let file = File::open(path)?;
            let about = file.metadata()?;
            if about.is_dir() {
                return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder; name a file in it"));
            }
            Ok((file, about.is_file().then_some(about.len())))
        };
        let (file, total) = open().map_err(|cause| InputError::Open { path: path.to_owned(), cause })?;
        Ok(Self::new(file, total, format, options))
    }

    /// Reads jobs from any bytes.
    pub fn new(
        bytes: impl Read + Send + 'static,
        total: Option<u64>,
        format: Format,
        options: InputOptions,
    ) -> Self {
        let read = Arc::new(AtomicU64::new(0));
        let bytes = Counted { bytes, read: Arc::clone(&read) };
        let jobs: Box<dyn Iterator<Item = _> + Send> = match format {
            Format::Jsonl => Box::new(jsonl::Lines::new(bytes, options)),
            Format::Csv => Box::new(csv::Rows::new(bytes, options)),
        };
        Self { jobs, progress: ReadProgress { read, total }, state: State::Fresh }
    }

    /// Bytes taken from the input so far.
    pub fn bytes_read(&self) -> u64 {
        self.progress.bytes_read()
    }

    /// A handle to watch progress by while the reader works elsewhere.
    pub fn progress(&self) -> ReadProgress {
        self.progress.clone()
    }
}

impl Iterator for JobReader {
    type Item = Result<Job, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let item = self.jobs.next();
        let before = self.state;
        self.state = match &item {
            None => State::Ended,
            Some(Err(error)) if error.is_fatal() => State::Ended,
            Some(_) => State::Reading,
        };
        match item {
            None if before == State::Fresh => Some(Err(InputError::Empty)),
            item => item,
        }
    }
}

/// The format by the file's extension. A file without one (a pipe, mostly) is taken for JSONL.
fn format_of(path: &Path) -> Option<Format> {
    let Some(extension) = path.extension() else { return Some(Format::Jsonl) };
    match extension.to_str()?.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" | "json" => Some(Format::Jsonl),
        "csv" => Some(Format::Csv),
        _ => None,
    }
}

/// Counts the bytes that pass.
struct Counted<R> {
    bytes: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// An id for a message: shortened, control characters escaped.
fn shown(id: &str) -> String {
    id.chars().take(40).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
