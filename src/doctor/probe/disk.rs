//! Folders: whether a file can be made in them, and how much room there is.
//!
//! No call asks for that without trying, and what a mode says is not the whole truth (read-only file systems, users of a
//! container, quotas). So a file with a name of its own is made, a block is written to it, and it is removed again.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{blocking, printed};
use crate::config::{Cache, EngineKind, Settings};
use crate::doctor::judge::disk::{DiskFacts, FolderFacts};
use crate::model::model_store;

/// What is written to try: a block of most file systems.
const BLOCK: [u8; 4096] = [0; 4096];

/// Looks at the folders that the settings name.
pub async fn look(settings: &Settings, limit: Duration) -> DiskFacts {
    let models = match settings.engine.backend {
        EngineKind::Llama => {
            model_store(settings.models.dir.as_deref()).ok().map(|store| store.dir().to_owned())
        }
        EngineKind::Sim => None,
    };
    let cache = match &settings.store.cache {
        Cache::At(path) => Some(path.parent().unwrap_or(Path::new("")).to_owned()),
        Cache::Auto | Cache::None => None,
    };
    let (models, cache) = tokio::join!(folder(models, limit), folder(cache, limit));
    DiskFacts { models, cache }
}

async fn folder(path: Option<PathBuf>, limit: Duration) -> Option<FolderFacts> {
    let there = nearest(&path?);
    let tried = {
        let there = there.clone();
        blocking(limit, move || try_to_write(&there)).await
    };
    let tried = tried.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::TimedOut)));
    let free = printed(limit, "df", &["-Pk".as_ref(), "--".as_ref(), there.as_os_str()]).await;
    let free = free.as_deref().and_then(free_of_df);
    let (written, free) = match tried {
        // That is a matter of room, not of rights.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => (Ok(()), Some(0)),
        tried => (tried.map_err(|error| error.to_string()), free),
    };
    Some(FolderFacts { path: there, written, free })
}

/// The folder, or the nearest one above it: what is missing would be made there.
fn nearest(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let there = path.ancestors().find(|folder| folder.exists());
    match there {
        Some(there) if there.as_os_str().is_empty() => PathBuf::from("."),
        Some(there) => there.to_owned(),
        None => PathBuf::from("."),
    }
}

fn try_to_write(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".maitred-doctor-{:016x}", fastrand::u64(..)));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let written = file.write_all(&BLOCK).and_then(|()| file.sync_data());
    // Whatever became of it, it does not stay.
    std::fs::remove_file(&path).and(written)
}

/// Free bytes in what `df -Pk` prints: the number before the one with a per cent sign.
fn free_of_df(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    let share = words.iter().position(|word| word.ends_with('%'))?;
    words.get(share.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_bytes_are_read_from_what_df_prints() {
        let text =
            "Filesystem     1024-blocks  Used Available Capacity Mounted on\n/dev/my disk 10 6 4 60% /a b\n";
        assert_eq!(free_of_df(text), Some(4096));
        assert_eq!(free_of_df("df: no such file\n"), None);
    }

    #[test]
    fn trying_to_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        try_to_write(folder.path()).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        assert!(try_to_write(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn a_folder_that_is_missing_is_judged_by_the_one_above_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&folder.path().join("a/b")), folder.path());
        assert_eq!(nearest(Path::new("")), Path::new("."));
        assert_eq!(nearest(Path::new("not-there/at-all")), Path::new("."));
    }
}
