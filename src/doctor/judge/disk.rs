//! Folders that are written to.

use std::path::PathBuf;

use super::{bytes, shell};
use crate::doctor::catalogue as known;
use crate::doctor::catalogue::Known;
use crate::doctor::finding::{Check, Finding};

/// Room for a small model.
const MODEL: u64 = 512 << 20;
/// Room for the facts of some restaurants, and for a day's.
const SOME: u64 = 64 << 20;
const A_DAY: u64 = 1 << 30;

/// The folders that the settings name; those that nothing is written to are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskFacts {
    /// Of the models.
    pub models: Option<FolderFacts>,
    /// Of `store.cache`.
    pub cache: Option<FolderFacts>,
}

/// A folder, or the nearest one above it that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFacts {
    /// Which one was looked at.
    pub path: PathBuf,
    /// Whether a file can be made in it, or why not.
    pub written: Result<(), String>,
    /// Bytes that are free there; absent if nobody told.
    pub free: Option<u64>,
}

/// One finding a folder.
pub fn judge(facts: &DiskFacts) -> Vec<Finding> {
    vec![models(facts.models.as_ref()), cache(facts.cache.as_ref())]
}

fn models(folder: Option<&FolderFacts>) -> Finding {
    let Some(folder) = folder else {
        let mend = "set `engine.backend` to \"llama\" to read with models";
        return Finding::skipped(Check::DiskModels, "`engine.backend` is \"sim\": no models are kept", mend);
    };
    match (&folder.written, folder.free) {
        (Err(cause), _) => unwritable(&known::DISK_MODELS_UNWRITABLE, folder, cause),
        (Ok(()), Some(free)) if free < MODEL => scarce(&known::DISK_MODELS_FULL, folder, free),
        _ => well(Check::DiskModels, folder),
    }
}

fn cache(folder: Option<&FolderFacts>) -> Finding {
    let Some(folder) = folder else {
        let mend = "nothing, if Redis and Postgres are set; else name a file in `store.cache`";
        return Finding::skipped(Check::DiskCache, "a worker keeps no file: `store.cache` names none", mend);
    };
    match (&folder.written, folder.free) {
        (Err(cause), _) => unwritable(&known::DISK_CACHE_UNWRITABLE, folder, cause),
        (Ok(()), Some(free)) if free < SOME => scarce(&known::DISK_CACHE_FULL, folder, free),
        (Ok(()), Some(free)) if free < A_DAY => scarce(&known::DISK_CACHE_LOW, folder, free),
        _ => well(Check::DiskCache, folder),
    }
}

fn unwritable(known: &Known, folder: &FolderFacts, cause: &str) -> Finding {
    let path = folder.path.display();
    Finding::known(known, &path, &[("cause", &cause), ("path", &shell(&path))])
}

fn scarce(known: &Known, folder: &FolderFacts, free: u64) -> Finding {
    let (path, free) = (folder.path.display(), bytes(free));
    let saw = format!("{free} free at {path}");
    Finding::known(known, saw, &[("free", &free), ("path", &shell(&path))])
}

fn well(check: Check, folder: &FolderFacts) -> Finding {
    let path = folder.path.display();
    match folder.free {
        Some(free) => Finding::ok(check, format_args!("{path} can be written, {} free", bytes(free))),
        None => Finding::ok(check, format_args!("{path} can be written")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;
    use crate::doctor::judge::testing::{assert_well, codes, mend, one};

    fn folder(written: Result<(), &str>, free: Option<u64>) -> FolderFacts {
        FolderFacts { path: "/var/lib/maitred".into(), written: written.map_err(Into::into), free }
    }

    fn judged(written: Result<(), &str>, free: Option<u64>) -> Vec<Finding> {
        let folder = folder(written, free);
        judge(&DiskFacts { models: Some(folder.clone()), cache: Some(folder) })
    }

    #[test]
    fn folders_with_room_are_well_and_so_are_none() {
        assert_well(&judged(Ok(()), Some(100 << 30)));
        assert_well(&judged(Ok(()), None));
        let none = judge(&DiskFacts::default());
        assert!(none.len() == 2 && none.iter().all(|finding| finding.status == Status::Skipped));
    }

    #[test]
    fn a_folder_that_cannot_be_written_stops_the_cache_and_slows_the_models() {
        let found = judged(Err("permission denied"), Some(1 << 40));
        assert_eq!(codes(&found), ["disk.models_unwritable", "disk.cache_unwritable"]);
        assert_eq!(one(&found, Check::DiskModels).status, Status::Warn);
        assert_eq!(one(&found, Check::DiskCache).status, Status::Fail);
        assert_eq!(
            mend(&found, Check::DiskCache),
            "let this user write to /var/lib/maitred, or name another file in `store.cache`"
        );
    }

    #[test]
    fn a_disk_that_fills_up_is_told_before_it_is_full() {
        assert_eq!(codes(&judged(Ok(()), Some(900 << 20))), ["disk.cache_low"]);
        let found = judged(Ok(()), Some(0));
        assert_eq!(codes(&found), ["disk.models_full", "disk.cache_full"]);
        assert_eq!(one(&found, Check::DiskCache).command.as_deref(), Some("df -h /var/lib/maitred"));
        assert_eq!(mend(&found, Check::DiskCache), "free some space, or name another file in `store.cache`");
    }
}
