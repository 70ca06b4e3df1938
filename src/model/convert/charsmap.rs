//! SentencePiece's character normalization as llama.cpp wants it: a "precompiled charsmap".
//!
//! Without it a line break, a full-width digit or a no-break space in a review is an unknown token, and
//! unknown tokens pull embeddings together. The map is a double-array trie over UTF-8 bytes, in the
//! layout of Darts-clone, followed by the replacement texts:
//!
//! ```text
//! trie bytes:u32   trie × unit:u32   replacements, each ended by a zero byte
//!
//! unit of a node    bits 0-7 its label, bit 8 "has a value", bits 10-30 base, bit 9 "base × 256"
//! unit of a value   bit 31, and the offset of its replacement in bits 0-30
//! ```
//!
//! The child of `node` by byte `c` is `node ^ base ^ c`, its value is the child by zero. llama.cpp throws a
//! C++ exception, through our frames, when that index lies outside; so the trie always fills whole
//! blocks of 256, in which no label can lead out.

use std::collections::{BTreeMap, HashSet};

use super::{ConvertError, unexpected};

const BLOCK: usize = 256;
const HAS_VALUE: u32 = 1 << 8;
const IS_VALUE: u32 = 1 << 31;
/// Bases have 21 bits; the wide form (× 256) is never needed for a few thousand characters.
const MAX_BASE: u32 = 1 << 21;

/// Builds the charsmap of these replacements. Text without an entry stays as it is; an empty
/// replacement deletes.
///
/// # Errors
///
/// An entry's key is empty or holds a zero byte, a replacement holds one (zero ends texts in this
/// format), or the trie outgrows the format.
pub(super) fn build(replacements: &BTreeMap<String, String>) -> Result<Vec<u8>, ConvertError> {
    if let Some((key, _)) =
        replacements.iter().find(|(key, text)| key.is_empty() || key.contains('\0') || text.contains('\0'))
    {
        return Err(unexpected(format!("the normalization of {key:?}")));
    }
    let mut texts = TextPool::default();
    let mut entries = Vec::with_capacity(replacements.len());
    for (key, text) in replacements {
        entries.push((key.as_bytes(), texts.intern(text)));
    }
    let mut trie = DoubleArray::new();
    trie.place(0, &entries, 0)?;
    let units = trie.units;

    let mut out = Vec::with_capacity(4 + units.len() * 4 + texts.bytes.len());
    out.extend_from_slice(&(units.len() as u32 * 4).to_le_bytes());
    out.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    // llama.cpp refuses an empty pool.
    out.extend_from_slice(if texts.bytes.is_empty() { &[0] } else { &texts.bytes });
    Ok(out)
}

/// Replacement texts one after the other, each only once.
#[derive(Default)]
struct TextPool {
    bytes: Vec<u8>,
    offsets: BTreeMap<String, u32>,
}

impl TextPool {
    fn intern(&mut self, text: &str) -> u32 {
        if let Some(&offset) = self.offsets.get(text) {
            return offset;
        }
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.offsets.insert(text.to_owned(), offset);
        offset
    }
}

struct DoubleArray {
    units: Vec<u32>,
    taken: Vec<bool>,
    /// `node ^ base` of every node with children. No two may agree: the label alone is checked on the way
    /// down, so a child of one node would pass for a child of the other.
    origins: HashSet<usize>,
    /// Below this every unit is taken.
    first_free: usize,
}

impl DoubleArray {
    fn new() -> Self {
        let mut trie = Self { units: Vec::new(), taken: Vec::new(), origins: HashSet::new(), first_free: 0 };
        trie.grow();
        // The root.
        trie.taken[0] = true;
        trie
    }

    fn grow(&mut self) {
        self.units.resize(self.units.len() + BLOCK, 0);
        self.taken.resize(self.units.len(), false);
    }

    /// Places the children of `node`, which is reached by the first `depth` bytes that all `entries`
    /// share. Entries are sorted, so the one that ends here comes first. Recursion is as deep as the
    /// longest key.
    fn place(&mut self, node: usize, entries: &[(&[u8], u32)], depth: usize) -> Result<(), ConvertError> {
        let groups: Vec<_> = entries.chunk_by(|a, b| a.0.get(depth) == b.0.get(depth)).collect();
        // The label of a value is zero.
        let labels: Vec<u8> =
            groups.iter().map(|group| group[0].0.get(depth).copied().unwrap_or(0)).collect();
        if labels.is_empty() {
            return Ok(());
        }
        let origin = self.find_origin(&labels);
        let base = (origin ^ node) as u32;
        if base >= MAX_BASE {
            return Err(unexpected("too many normalization rules for a charsmap"));
        }
        self.units[node] |= base << 10;
        self.origins.insert(origin);
        for &label in &labels {
            self.taken[origin ^ usize::from(label)] = true;
        }
        for (group, &label) in groups.iter().zip(&labels) {
            let child = origin ^ usize::from(label);
            if label == 0 {
                self.units[node] |= HAS_VALUE;
                self.units[child] = IS_VALUE | group[0].1;
            } else {
                self.units[child] |= u32::from(label);
                self.place(child, group, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The first origin at which all labels fall on free units.
    fn find_origin(&mut self, labels: &[u8]) -> usize {
        while self.taken.get(self.first_free) == Some(&true) {
            self.first_free += 1;
        }
        let mut slot = self.first_free;
        loop {
            if slot >= self.units.len() {
                self.grow();
            }
            // The first label falls on `slot`; all others stay in its block of 256.
            let origin = slot ^ usize::from(labels[0]);
            let fits = labels.iter().all(|&label| !self.taken[origin ^ usize::from(label)]);
            if fits && !self.origins.contains(&origin) {
                return origin;
            }
            slot += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The longest match at the start of `input`, found as `llm_tokenizer_ugm_session::normalize_prefix`
    /// of llama.cpp does, with its bounds.
    fn longest_match(map: &[u8], input: &[u8]) -> Option<(usize, String)> {
        let trie_bytes = u32::from_le_bytes(map[..4].try_into().unwrap()) as usize;
        assert!(trie_bytes + 4 < map.len(), "llama.cpp refuses an empty text pool");
        let units: Vec<u32> = map[4..4 + trie_bytes]
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| u32::from_le_bytes(*bytes))
            .collect();
        let texts = &map[4 + trie_bytes..];
        let base = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut node = base(units[0]);
        let mut found = None;
        for (index, &byte) in input.iter().enumerate().take_while(|&(_, &byte)| byte != 0) {
            node ^= usize::from(byte);
            if units[node] & (IS_VALUE | 0xff) != u32::from(byte) {
                break;
            }
            let has_value = units[node] & HAS_VALUE != 0;
            node ^= base(units[node]);
            if has_value {
                let text = &texts[(units[node] & !IS_VALUE) as usize..];
                let end = text.iter().position(|&byte| byte == 0).unwrap();
                found = Some((index + 1, String::from_utf8(text[..end].to_vec()).unwrap()));
            }
        }
        found
    }

    fn expected(map: &BTreeMap<String, String>, input: &str) -> Option<(usize, String)> {
        let hits = map.iter().filter(|(key, _)| input.starts_with(key.as_str()));
        hits.max_by_key(|(key, _)| key.len()).map(|(key, text)| (key.len(), text.clone()))
    }

    #[test]
    fn an_empty_map_matches_nothing() {
        let map = build(&BTreeMap::new()).unwrap();
        assert_eq!(longest_match(&map, "abc".as_bytes()), None);
    }

    #[test]
    fn a_key_with_a_zero_byte_is_refused() {
        assert!(build(&BTreeMap::from([("a\0".to_owned(), String::new())])).is_err());
        assert!(build(&BTreeMap::from([(String::new(), String::new())])).is_err());
    }

    proptest! {
        #[test]
        fn every_text_is_normalized_as_the_map_says(
            map in prop::collection::btree_map("[a-c\u{ff10}-\u{ff13}\u{ac00}-\u{ac10}]{1,3}", "[a-z ]{0,3}", 0..40),
            inputs in prop::collection::vec("[a-d\u{ff10}-\u{ff14}\u{ac00}-\u{ac20}]{0,5}", 1..20),
        ) {
            let built = build(&map).unwrap();
            for input in inputs.iter().chain(map.keys()) {
                prop_assert_eq!(longest_match(&built, input.as_bytes()), expected(&map, input));
            }
        }

        #[test]
        fn no_input_leads_out_of_the_trie(
            keys in prop::collection::btree_set(any::<char>().prop_filter("no zero", |c| *c != '\0'), 1..300),
            input in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let map = keys.into_iter().map(|key| (key.to_string(), "x".to_owned())).collect();
            longest_match(&build(&map).unwrap(), &input);
        }
    }
}
