//! Putting files into the store: the lock, the workplace and the atomic rename.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{ModelStore, Record};
use crate::model::ModelError;

const LOCK: &str = ".lock";
const STAGING: &str = ".staging";

/// The right to write to a store, and a folder to work in. On the same file system as the store, so that
/// a rename moves a finished file into place. Dropping it removes the folder and releases the lock.
pub(in crate::model) struct Staging {
    dir: PathBuf,
    // Held for its lock, which goes with the file handle.
    _lock: File,
}

impl Staging {
    /// The folder, empty at first.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Whatever stays behind is removed by the next `stage`.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl ModelStore {
    /// Takes the store's lock, waiting for another fetch if there is one (`on_wait` is told first), and
    /// makes an empty workplace.
    pub(in crate::model) fn stage(&self, on_wait: impl FnOnce()) -> Result<Staging, ModelError> {
        fs::create_dir_all(&self.dir).map_err(ModelError::io("create", &self.dir))?;
        let path = self.path_of(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(ModelError::io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                on_wait();
                lock.lock().map_err(ModelError::io("lock", &path))?;
            }
            Err(TryLockError::Error(error)) => return Err(ModelError::io("lock", &path)(error)),
        }
        let dir = self.path_of(STAGING);
        // We hold the lock, so whatever lies there was left by a fetch that died.
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(ModelError::io("clear", &dir))?;
        }
        fs::create_dir(&dir).map_err(ModelError::io("create", &dir))?;
        Ok(Staging { dir, _lock: lock })
    }

    /// Moves a finished file to its final name, with its record.
    ///
    /// The record goes first: after a crash between the two renames there is a record without a file,
    /// which counts as not installed, never a file that nothing vouches for.
    pub(in crate::model) fn install(
        &self,
        staging: &Staging,
        staged: &Path,
        file: &str,
        record: &Record,
    ) -> Result<PathBuf, ModelError> {
        let target = self.path_of(file);
        let staged_record = staging.path("record.json");
        let mut out = File::create(&staged_record).map_err(ModelError::io("create", &staged_record))?;
        out.write_all(&record.to_json()).map_err(ModelError::io("write", &staged_record))?;
        sync(&staged_record)?;
        sync(staged)?;
        rename(&staged_record, &Record::path(&target))?;
        rename(staged, &target)?;
        sync(&self.dir)?;
        Ok(target)
    }

    /// Moves a companion of a model, such as its terms, to its final name.
    pub(in crate::model) fn install_companion(&self, staged: &Path, file: &str) -> Result<(), ModelError> {
        sync(staged)?;
        rename(staged, &self.path_of(file))
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), ModelError> {
    fs::rename(from, to).map_err(ModelError::io("rename", from))
}

/// Flushes a file's content, or a folder's entries, to the disk.
fn sync(path: &Path) -> Result<(), ModelError> {
    // Windows cannot open a folder as a file; there the rename alone has to do.
    if cfg!(windows) && path.is_dir() {
        return Ok(());
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(ModelError::io("flush", path))
}
