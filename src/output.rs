//! Results on disk: never half a line, never a file that looks complete and is not.
//!
//! A regular output is written as `<out>.partial`, one write per result, and renamed when everything is in it.
//! Whatever ends the run early leaves the `.partial` behind, valid JSON Lines. Pipes and devices, which cannot be
//! renamed, are written directly.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Why an output cannot be written. Each says what is safe.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The folder is missing.
    #[error("the folder of `{0}` does not exist; create it or name another file")]
    NoFolder(PathBuf),
    /// The output is a folder.
    #[error("`{0}` is a folder; name a file in it")]
    IsFolder(PathBuf),
    /// The output cannot be created.
    #[error("cannot write `{path}`: {cause}; nothing was worked yet")]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Another run writes the same output.
    #[error("another run is writing `{0}`; wait for it or name another file")]
    Busy(PathBuf),
    /// No space is left.
    #[error(
        "no space left for `{path}`: the first {written} results are safe in it; free space and run again"
    )]
    Full {
        /// The file with what is safe.
        path: PathBuf,
        /// Results in it.
        written: u64,
    },
    /// The reader of a pipe has gone.
    #[error("`{path}` was closed by its reader after {written} results")]
    Closed {
        /// The pipe.
        path: PathBuf,
        /// Results written before.
        written: u64,
    },
    /// Writing failed otherwise.
    #[error("writing `{path}` failed: {cause}; the first {written} results are safe in it")]
    Write {
        /// The file with what is safe.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
        /// Results in it.
        written: u64,
    },
    /// A result that is not JSON: not expected, and not hidden.
    #[error("a result cannot be written as JSON: {0}")]
    Encode(String),
}

impl OutputError {
    /// Whether it was found before any work, so that other arguments mend it.
    pub const fn is_before_work(&self) -> bool {
        matches!(self, Self::NoFolder(_) | Self::IsFolder(_) | Self::NotWritable { .. } | Self::Busy(_))
    }
}

/// Writes one JSON object a line.
#[derive(Debug)]
pub struct ResultWriter {
    to: Target,
    written: u64,
    line: Vec<u8>,
}

#[derive(Debug)]
enum Target {
    /// A file that gets its name when it is complete.
    Renamed { partial: PathBuf, path: PathBuf, file: File, bytes: u64 },
    /// A device or pipe.
    Direct { path: PathBuf, file: File },
    /// Standard output.
    Stdout(io::Stdout),
}

impl ResultWriter {
    /// Opens the output, or stdout for `-`, so that whatever forbids writing is found before any work. An output
    /// of an earlier run stays in place until [`ResultWriter::finish`] replaces it; an earlier `.partial` is
    /// overwritten.
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        let to = if path.as_os_str() == "-" { Target::Stdout(io::stdout()) } else { Target::open(path)? };
        Ok(Self { to, written: 0, line: Vec::new() })
    }

    /// Writes one result as one line, handed to the system before this returns.
    pub fn write(&mut self, result: &impl Serialize) -> Result<(), OutputError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, result).map_err(|e| OutputError::Encode(e.to_string()))?;
        self.line.push(b'\n');
        self.to.append(&self.line).map_err(|cause| self.explain(cause))?;
        self.written += 1;
        Ok(())
    }

    /// Results written so far.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Where the results are at this moment: the `.partial`, if there is one.
    pub fn path(&self) -> &Path {
        match &self.to {
            Target::Renamed { partial, .. } => partial,
            Target::Direct { path, .. } => path,
            Target::Stdout(_) => Path::new("stdout"),
        }
    }

    /// Makes the output durable and gives it its name.
    pub fn finish(mut self) -> Result<(), OutputError> {
        self.to.complete().map_err(|cause| self.explain(cause))
    }

    fn explain(&self, cause: io::Error) -> OutputError {
        let (path, written) = (self.path().to_owned(), self.written);
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OutputError::Full { path, written },
            io::ErrorKind::BrokenPipe => OutputError::Closed { path, written },
            _ => OutputError::Write { path, cause, written },
        }
    }
}

impl Target {
    fn open(path: &Path) -> Result<Self, OutputError> {
        let refused = |cause| OutputError::NotWritable { path: path.to_owned(), cause };
        let known = std::fs::metadata(path).ok();
        if known.as_ref().is_some_and(std::fs::Metadata::is_dir) {
            return Err(OutputError::IsFolder(path.to_owned()));
        }
        // /dev/stdout may lead to a regular file, yet must not be renamed away.
        if path.starts_with("/dev") || known.as_ref().is_some_and(|about| !about.is_file()) {
            let file = OpenOptions::new().append(true).open(path).map_err(refused)?;
            return Ok(Self::Direct { path: path.to_owned(), file });
        }
        // The file behind a link is replaced, not the link.
        let path = if known.is_some() { path.canonicalize().map_err(refused)? } else { path.to_owned() };
        if !folder_of(&path).is_dir() {
            return Err(OutputError::NoFolder(path));
        }
        let partial = beside(&path, ".partial");
        // Emptied only once it is known that no other run writes it.
        let file = OpenOptions::new().append(true).create(true).open(&partial).map_err(refused)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(OutputError::Busy(path)),
            // On a file system without locks, two runs on one output are the user's to avoid.
            Ok(()) | Err(TryLockError::Error(_)) => file.set_len(0).map_err(refused)?,
        }
        Ok(Self::Renamed { partial, path, file, bytes: 0 })
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Renamed { file, bytes, .. } => {
                append_whole(file, *bytes, line)?;
                *bytes += line.len() as u64;
                Ok(())
            }
            Self::Direct { file, .. } => file.write_all(line),
            Self::Stdout(stdout) => {
                stdout.write_all(line)?;
                stdout.flush()
            }
        }
    }

    fn complete(&mut self) -> io::Result<()> {
        match self {
            Self::Renamed { partial, path, file, .. } => {
                file.sync_all()?;
                std::fs::rename(partial, &path)?;
                // The name, too, must outlive a power cut.
                File::open(folder_of(path))?.sync_all()
            }
            // Devices have nothing to sync.
            Self::Direct { .. } => Ok(()),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

/// A file that can be cut to a length.
trait Cut: Write {
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Cut for File {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// Appends a line to a file of `whole` bytes, or leaves it as it was: a torn line would not be JSON.
fn append_whole(file: &mut impl Cut, whole: u64, line: &[u8]) -> io::Result<()> {
    file.write_all(line).inspect_err(|_| {
        // The error of the write is the one to tell; if this one fails too, it says nothing more.
        let _ = file.cut(whole);
    })
}

/// Writes one JSON document in place of an earlier one, whole or not at all.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), OutputError> {
    let mut document = ResultWriter::create(path)?;
    document.write(value)?;
    document.finish()
}

/// Checks before any work that `path` can be written later, and leaves nothing behind.
pub fn check_writable(path: &Path) -> Result<(), OutputError> {
    if let Target::Renamed { partial, .. } = Target::open(path)? {
        // Only a trial; if it cannot be removed the later write overwrites it.
        let _ = std::fs::remove_file(partial);
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn out(folder: &tempfile::TempDir) -> (PathBuf, PathBuf) {
        (folder.path().join("r.jsonl"), folder.path().join("r.jsonl.partial"))
    }

    #[test]
    fn the_output_appears_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let (path, partial) = out(&folder);
        let mut writer = ResultWriter::create(&path).unwrap();
        writer.write(&json!({"a": 1})).unwrap();
        writer.write(&json!({"a": "두\n줄"})).unwrap();
        assert!(!path.exists());
        assert_eq!(lines(&partial).len(), 2);
        writer.finish().unwrap();
        assert_eq!(lines(&path), [json!({"a": 1}), json!({"a": "두\n줄"})]);
        assert!(!partial.exists());
    }

    #[test]
    fn an_interrupted_run_leaves_the_partial_and_the_earlier_output() {
        let folder = tempfile::tempdir().unwrap();
        let (path, partial) = out(&folder);
        std::fs::write(&path, "{\"old\":true}\n").unwrap();
        let mut writer = ResultWriter::create(&path).unwrap();
        writer.write(&json!({"a": 1})).unwrap();
        drop(writer);
        assert_eq!(lines(&path), [json!({"old": true})]);
        assert_eq!(lines(&partial), [json!({"a": 1})]);
        // A longer leftover must not shine through the next run.
        let writer = ResultWriter::create(&path).unwrap();
        writer.finish().unwrap();
        assert_eq!(lines(&path), [] as [Value; 0]);
    }

    #[test]
    fn two_runs_on_one_output_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = out(&folder);
        let _first = ResultWriter::create(&path).unwrap();
        assert!(matches!(ResultWriter::create(&path), Err(OutputError::Busy(_))));
    }

    #[test]
    fn a_missing_folder_and_a_folder_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let missing = ResultWriter::create(&folder.path().join("none/r.jsonl")).unwrap_err();
        assert!(matches!(missing, OutputError::NoFolder(_)), "{missing}");
        let is_folder = ResultWriter::create(folder.path()).unwrap_err();
        assert!(matches!(is_folder, OutputError::IsFolder(_)), "{is_folder}");
        assert!(missing.is_before_work() && is_folder.is_before_work());
    }

    #[test]
    fn an_output_that_cannot_be_created_is_refused_before_any_work() {
        // Holds for root too, whom folder permissions do not stop: the partial's name is taken by a folder.
        let folder = tempfile::tempdir().unwrap();
        let (path, partial) = out(&folder);
        std::fs::create_dir(&partial).unwrap();
        let error = ResultWriter::create(&path).unwrap_err();
        assert!(matches!(error, OutputError::NotWritable { .. }), "{error}");
        assert!(matches!(check_writable(&path), Err(OutputError::NotWritable { .. })));
    }

    #[test]
    fn a_check_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        check_writable(&folder.path().join("stats.json")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_says_how_many_results_are_safe() {
        let mut writer = ResultWriter::create(Path::new("/dev/full")).unwrap();
        let error = writer.write(&json!({"a": 1})).unwrap_err();
        assert!(matches!(error, OutputError::Full { written: 0, .. }), "{error}");
        assert!(!Path::new("/dev/full.partial").exists());
    }

    #[test]
    fn a_line_that_does_not_fit_is_cut_off_whole() {
        /// A disk with room for a few bytes.
        struct Small(Vec<u8>);
        impl Write for Small {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let count = bytes.len().min(10 - self.0.len());
                if count == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.0.extend(&bytes[..count]);
                Ok(count)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        impl Cut for Small {
            fn cut(&mut self, length: u64) -> io::Result<()> {
                self.0.truncate(usize::try_from(length).unwrap());
                Ok(())
            }
        }
        let mut disk = Small(Vec::new());
        append_whole(&mut disk, 0, b"{\"a\":1}\n").unwrap();
        let error = append_whole(&mut disk, 8, b"{\"a\":2}\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.0, b"{\"a\":1}\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = out(&folder);
        let real = folder.path().join("real.jsonl");
        std::fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        let mut writer = ResultWriter::create(&path).unwrap();
        writer.write(&json!(1)).unwrap();
        writer.finish().unwrap();
        assert!(path.symlink_metadata().unwrap().is_symlink());
        assert_eq!(lines(&real), [json!(1)]);
    }

    #[cfg(unix)]
    #[test]
    fn a_closed_pipe_is_told_apart_from_a_broken_disk() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let file = File::from(std::os::fd::OwnedFd::from(pipe));
        let to = Target::Direct { path: "pipe".into(), file };
        let mut writer = ResultWriter { to, written: 3, line: Vec::new() };
        let error = writer.write(&json!(1)).unwrap_err();
        assert!(matches!(error, OutputError::Closed { written: 3, .. }), "{error}");
    }
}
