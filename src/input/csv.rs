//! CSV: one review a row, the rows of a restaurant together, so that one restaurant is held at a time.
//!
//! A row that cannot be used fails its restaurant: counts over reviews that are silently too few would be wrong.
//! Of the restaurants that have passed, 16 bytes each are kept to notice one that comes back.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use csv::{ByteRecord, ErrorKind};
use sha2::{Digest, Sha256};

use super::record::{finish_job, new_job, rating, recommended};
use super::{InputError, InputOptions, shown};
use crate::job::{Job, Review, parse_time};

/// Fields that a column can hold.
const FIELDS: [&str; 7] = ["restaurant_id", "name", "id", "text", "rating", "recommended", "created_at"];
/// Those without which there is no review.
const REQUIRED: [&str; 3] = ["restaurant_id", "id", "text"];
const BUFFER_BYTES: usize = 64 << 10;

/// Which column holds which field; a field that is not named here has a column of its own name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns(BTreeMap<&'static str, String>);

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut columns = BTreeMap::new();
        for pair in text.split(',') {
            let (field, column) = pair
                .split_once('=')
                .ok_or_else(|| format!("`{pair}` is not FIELD=COLUMN, such as text=review_text"))?;
            let field = FIELDS
                .into_iter()
                .find(|known| *known == field.trim())
                .ok_or_else(|| format!("there is no field `{}`: use {}", field.trim(), FIELDS.join(", ")))?;
            if column.trim().is_empty() {
                return Err(format!("field `{field}` has no column: write {field}=COLUMN"));
            }
            if columns.insert(field, column.trim().to_owned()).is_some() {
                return Err(format!("field `{field}` is named twice"));
            }
        }
        Ok(Self(columns))
    }
}

/// Where each field stands in a row.
struct Positions {
    cells: usize,
    by_field: BTreeMap<&'static str, usize>,
}

impl Positions {
    fn locate(header: &ByteRecord, columns: &Columns) -> Result<Self, InputError> {
        let names: Vec<String> =
            header.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect();
        let mut by_field = BTreeMap::new();
        for field in FIELDS {
            let named = columns.0.get(field);
            let column = named.map_or(field, String::as_str);
            match names.iter().position(|name| name == column) {
                Some(at) => {
                    by_field.insert(field, at);
                }
                None if named.is_some() || REQUIRED.contains(&field) => {
                    let found = names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
                    return Err(InputError::NoColumn { column: column.to_owned(), field, found });
                }
                None => {}
            }
        }
        Ok(Self { cells: names.len(), by_field })
    }

    /// The cell of a field; `None` if the file has no such column or the row breaks off before it.
    fn cell<'r>(&self, row: &'r ByteRecord, line: u64, field: &str) -> Result<Option<&'r str>, InputError> {
        let Some(bytes) = self.by_field.get(field).and_then(|at| row.get(*at)) else { return Ok(None) };
        std::str::from_utf8(bytes).map(Some).map_err(|e| InputError::NotUtf8 {
            line,
            byte: e.valid_up_to(),
            part: format!("field `{field}`"),
        })
    }

    /// The cell of a field that must say something.
    fn id<'r>(&self, row: &'r ByteRecord, line: u64, field: &'static str) -> Result<&'r str, InputError> {
        let id = self.cell(row, line, field)?.map(str::trim).filter(|id| !id.is_empty());
        id.ok_or_else(|| InputError::Field {
            line,
            field: field.to_owned(),
            message: "is empty; write an id that is unique and lasting".to_owned(),
        })
    }

    fn review(&self, row: &ByteRecord, line: u64) -> Result<Review, InputError> {
        if row.len() != self.cells {
            return Err(InputError::Cells { line, found: row.len(), expected: self.cells });
        }
        let cell = |field| self.cell(row, line, field);
        Ok(Review {
            id: self.id(row, line, "id")?.to_owned(),
            text: cell("text")?.unwrap_or_default().to_owned(),
            rating: cell("rating")?.and_then(|stars| stars.trim().parse().ok()).and_then(rating),
            recommended: cell("recommended")?.and_then(recommended),
            created_at: cell("created_at")?.and_then(parse_time),
            embedding: None,
        })
    }
}

/// The restaurant whose rows are being read. Once an error is known, its rows are passed over unheld.
struct Group {
    id: String,
    name: Option<String>,
    line: u64,
    bytes: usize,
    reviews: Result<Vec<Review>, InputError>,
}

impl Group {
    fn begin(restaurant: &str, line: u64, passed: &mut HashSet<[u8; 16]>) -> Self {
        let reviews = if passed.insert(fingerprint(restaurant)) {
            Ok(Vec::new())
        } else {
            Err(InputError::Scattered { line, restaurant: shown(restaurant) })
        };
        Self { id: restaurant.to_owned(), name: None, line, bytes: 0, reviews }
    }

    fn add(&mut self, review: Result<Review, InputError>, bytes: usize, max: usize) {
        let Ok(reviews) = &mut self.reviews else { return };
        self.bytes += bytes;
        match review {
            Ok(_) if self.bytes > max => {
                self.reviews = Err(InputError::TooLong { line: self.line, max, hint: "" });
            }
            Ok(review) => reviews.push(review),
            Err(error) => self.reviews = Err(error),
        }
    }

    fn finish(self, options: &InputOptions) -> Result<Job, InputError> {
        let job = new_job(&options.job, self.id, self.name, self.reviews?);
        finish_job(job, self.line, &options.limits)
    }
}

/// The jobs of a CSV input.
pub struct Rows<R> {
    reader: csv::Reader<Rationed<R>>,
    ration: Arc<AtomicUsize>,
    options: InputOptions,
    positions: Option<Positions>,
    row: ByteRecord,
    group: Option<Group>,
    passed: HashSet<[u8; 16]>,
}

impl<R: Read> Rows<R> {
    pub fn new(bytes: R, options: InputOptions) -> Self {
        let ration = Arc::new(AtomicUsize::new(0));
        let bytes = Rationed { bytes, left: Arc::clone(&ration) };
        let reader =
            csv::ReaderBuilder::new().flexible(true).buffer_capacity(BUFFER_BYTES).from_reader(bytes);
        Self {
            reader,
            ration,
            options,
            positions: None,
            row: ByteRecord::new(),
            group: None,
            passed: HashSet::new(),
        }
    }

    /// Reads the next row; `false` at the end.
    fn read_row(&mut self) -> Result<bool, InputError> {
        // What is buffered already belongs to this row too, so a row may be longer by the buffer: no harm.
        self.ration.store(self.options.limits.bytes_per_job.max(BUFFER_BYTES), Ordering::Relaxed);
        let found = match &self.positions {
            Some(_) => self.reader.read_byte_record(&mut self.row),
            None => self.reader.byte_headers().map(|header| {
                self.row.clone_from(header);
                !header.is_empty()
            }),
        };
        found.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: csv::Error) -> InputError {
        let line = self.reader.position().line();
        let max = self.options.limits.bytes_per_job;
        match error.into_kind() {
            ErrorKind::Io(e) if RationSpent::is_cause_of(&e) => {
                InputError::TooLong { line, max, hint: " in one row (is a quote left open?)" }
            }
            ErrorKind::Io(cause) => InputError::Io { line, cause },
            // Byte records of any length leave no other kind of error.
            other => InputError::Io { line, cause: io::Error::other(format!("{other:?}")) },
        }
    }

    /// Adds the row at hand to its restaurant. Gives back the restaurant before it if that is complete now, and
    /// the row's own error if it belongs to no restaurant.
    fn take_row(&mut self, positions: &Positions) -> Option<Result<Job, InputError>> {
        let line = self.row.position().map_or(0, csv::Position::line);
        let restaurant = match positions.id(&self.row, line, "restaurant_id") {
            Ok(restaurant) => restaurant,
            Err(error) => return Some(Err(error)),
        };
        let (mut group, before) = match self.group.take() {
            Some(group) if group.id == restaurant => (group, None),
            before => (Group::begin(restaurant, line, &mut self.passed), before),
        };
        let review = positions.review(&self.row, line);
        group.add(review, self.row.as_slice().len(), self.options.limits.bytes_per_job);
        if group.name.is_none() {
            // A name that is not text is no reason to lose the reviews.
            group.name = positions.cell(&self.row, line, "name").ok().flatten().map(str::to_owned);
        }
        self.group = Some(group);
        before.map(|group| group.finish(&self.options))
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Result<Job, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read_row() {
                Ok(true) => {}
                Ok(false) => return self.group.take().map(|group| group.finish(&self.options)),
                Err(error) => return Some(Err(error)),
            }
            let Some(positions) = self.positions.take() else {
                match Positions::locate(&self.row, &self.options.columns) {
                    Ok(positions) => self.positions = Some(positions),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            let job = self.take_row(&positions);
            self.positions = Some(positions);
            if job.is_some() {
                return job;
            }
        }
    }
}

/// 128 bits of SHA-256: two restaurants are never taken for one.
fn fingerprint(id: &str) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

/// Hands out a limited number of bytes per row: a quote that is never closed would otherwise read the whole file
/// into one cell.
struct Rationed<R> {
    bytes: R,
    left: Arc<AtomicUsize>,
}

#[derive(Debug, thiserror::Error)]
#[error("the row is too long")]
struct RationSpent;

impl RationSpent {
    fn is_cause_of(error: &io::Error) -> bool {
        error.get_ref().and_then(|cause| cause.downcast_ref::<Self>()).is_some()
    }
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other(RationSpent));
        }
        let most = buffer.len().min(left);
        let count = self.bytes.read(&mut buffer[..most])?;
        self.left.store(left - count, Ordering::Relaxed);
        Ok(count)
    }
}
