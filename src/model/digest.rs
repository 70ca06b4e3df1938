//! SHA-256 digests of model files.
//!
//! A model decides what every answer of a worker means, so the file that runs must be the file that was
//! meant. Everything that enters the store is hashed while it is written, and hashed again when it is
//! resolved for a run.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256 digest; its text form is 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Digest([u8; 32]);

/// The text is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("not a sha256 digest (64 hexadecimal digits): {0:?}")]
pub struct ParseDigestError(String);

impl Sha256Digest {
    /// Digest of bytes already in memory.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(bytes);
        Self(hasher.finalize().into())
    }

    /// Digest of a file's content, read in blocks.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = HashingWriter::new(io::sink());
        copy_blocks(&mut file, &mut hasher)?;
        Ok(hasher.finish().0)
    }

    /// The first twelve digits, for tables and log lines.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

impl FromStr for Sha256Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseDigestError(text.chars().take(80).collect());
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(refused());
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            let high = hex_value(pair[0]).ok_or_else(refused)?;
            let low = hex_value(pair[1]).ok_or_else(refused)?;
            *byte = high << 4 | low;
        }
        Ok(Self(digest))
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

impl TryFrom<String> for Sha256Digest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Sha256Digest> for String {
    fn from(digest: Sha256Digest) -> Self {
        digest.to_string()
    }
}

/// Passes bytes on to `inner` and hashes them on the way, so that a large file is read only once.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
    written: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Starts with an empty digest.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), written: 0 }
    }

    /// Bytes accepted by `inner` so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The digest of everything written, and the writer itself.
    pub fn finish(self) -> (Sha256Digest, W) {
        (Sha256Digest(self.hasher.finalize().into()), self.inner)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let accepted = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..accepted]);
        self.written += accepted as u64;
        Ok(accepted)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Copies with a block large enough that hashing, not the system call, sets the pace.
pub(super) fn copy_blocks(from: &mut impl Read, to: &mut impl Write) -> io::Result<u64> {
    let mut block = vec![0; 256 * 1024];
    let mut copied = 0;
    loop {
        let read = match from.read(&mut block) {
            Ok(0) => return Ok(copied),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&block[..read])?;
        copied += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4, the empty message and "abc".
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digests_match_the_published_vectors() {
        assert_eq!(Sha256Digest::of(b"").to_string(), EMPTY);
        assert_eq!(Sha256Digest::of(b"abc").to_string(), ABC);
    }

    #[test]
    fn text_form_round_trips_and_ignores_case() {
        let digest = Sha256Digest::of(b"abc");
        assert_eq!(digest.to_string().parse::<Sha256Digest>().unwrap(), digest);
        assert_eq!(ABC.to_uppercase().parse::<Sha256Digest>().unwrap(), digest);
    }

    #[test]
    fn text_that_is_no_digest_is_refused() {
        for text in ["", "abc", &ABC[1..], &format!("{}g", &ABC[1..]), &"é".repeat(32)] {
            assert!(text.parse::<Sha256Digest>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_hashing_writer_hashes_what_it_passes_on() {
        let mut writer = HashingWriter::new(Vec::new());
        copy_blocks(&mut &b"abc"[..], &mut writer).unwrap();
        assert_eq!(writer.written(), 3);
        let (digest, bytes) = writer.finish();
        assert_eq!((digest.to_string().as_str(), bytes.as_slice()), (ABC, &b"abc"[..]));
    }
}
