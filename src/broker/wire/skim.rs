//! A walk over a MessagePack document that reads its structure and nothing else.
//!
//! It runs before the decoder and allocates nothing: no length in a header is believed before that many bytes were
//! seen, and nesting is counted in an array of fixed size. What passes is one complete value, not deeper than
//! [`MAX_DEPTH`], whose texts are UTF-8; so the decoder behind it can ask for no more memory than the body has.

/// Levels of nesting. A job needs five; the rest is for fields that a newer producer may add.
pub(super) const MAX_DEPTH: usize = 16;

/// What is wrong with a document. Positions are bytes, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("the body ends at byte {0}, in the middle of a value")]
    Truncated(usize),
    #[error("the length at byte {0} is larger than the body")]
    Length(usize),
    #[error("nested deeper than {MAX_DEPTH} levels at byte {0}")]
    TooDeep(usize),
    #[error("the text at byte {0} is not UTF-8")]
    NotUtf8(usize),
    #[error("byte {0} is not MessagePack")]
    NotMsgpack(usize),
    #[error("something follows the value, from byte {0} on")]
    Trailing(usize),
    #[error("expected a map of named fields")]
    NotAMap,
    #[error("expected a list")]
    NotAList,
    #[error("the field name at byte {0} is not a text")]
    FieldName(usize),
}

/// Walks a document that is a map of named fields; `see` gets each field's name and its value's bytes.
pub(super) fn fields<'b>(bytes: &'b [u8], mut see: impl FnMut(&'b str, &'b [u8])) -> Result<(), Flaw> {
    let mut walk = Walk { bytes, at: 0 };
    let Head::Map(entries) = walk.head()? else { return Err(Flaw::NotAMap) };
    for _ in 0..entries {
        let name_at = walk.at;
        let Head::Text(name) = walk.head()? else { return Err(Flaw::FieldName(name_at)) };
        let begin = walk.at;
        walk.value(1)?;
        see(name, &bytes[begin..walk.at]);
    }
    walk.end()
}

/// Walks a document that is a list; `see` gets each item's bytes.
pub(super) fn items<'b>(bytes: &'b [u8], mut see: impl FnMut(&'b [u8])) -> Result<(), Flaw> {
    let mut walk = Walk { bytes, at: 0 };
    let Head::List(items) = walk.head()? else { return Err(Flaw::NotAList) };
    for _ in 0..items {
        let begin = walk.at;
        walk.value(1)?;
        see(&bytes[begin..walk.at]);
    }
    walk.end()
}

/// The number, if the value is one and not negative.
pub(super) fn unsigned(value: &[u8]) -> Option<u64> {
    match *value {
        [byte @ 0..=0x7f] => Some(u64::from(byte)),
        [0xcc..=0xcf, ref digits @ ..] if digits.len() <= 8 => {
            Some(digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        }
        // Some encoders write every whole number as a signed one.
        [0xd0..=0xd3, ref digits @ ..] if digits.len() <= 8 && digits.first().is_some_and(|b| *b < 0x80) => {
            Some(digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        }
        _ => None,
    }
}

/// How many values a list says it has; `None` if the value is no list.
pub(super) fn length(value: &[u8]) -> Option<usize> {
    match (Walk { bytes: value, at: 0 }).head() {
        Ok(Head::List(values)) => usize::try_from(values).ok(),
        _ => None,
    }
}

/// How a value begins.
enum Head<'b> {
    /// A complete value that holds no others.
    Leaf,
    /// A complete text.
    Text(&'b str),
    /// So many values follow.
    List(u64),
    /// So many pairs of values follow.
    Map(u64),
}

struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Walk<'b> {
    /// Passes over one value that lies `depth` levels deep.
    fn value(&mut self, depth: usize) -> Result<(), Flaw> {
        // Values still to come on each open level.
        let mut open = [0_u64; MAX_DEPTH];
        let mut level = depth;
        open[level] = 1;
        while level >= depth {
            if open[level] == 0 {
                level -= 1;
                continue;
            }
            open[level] -= 1;
            let begin = self.at;
            let inside = match self.head()? {
                Head::Leaf | Head::Text(_) => continue,
                Head::List(values) => values,
                Head::Map(pairs) => pairs * 2,
            };
            level += 1;
            *open.get_mut(level).ok_or(Flaw::TooDeep(begin))? = inside;
        }
        Ok(())
    }

    fn head(&mut self) -> Result<Head<'b>, Flaw> {
        let begin = self.at;
        let marker = self.take(1)?[0];
        match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Ok(Head::Leaf),
            0x80..=0x8f => self.map(begin, u64::from(marker & 0x0f)),
            0x90..=0x9f => self.list(begin, u64::from(marker & 0x0f)),
            0xa0..=0xbf => self.text(begin, u64::from(marker & 0x1f)),
            0xc1 => Err(Flaw::NotMsgpack(begin)),
            // Binary, then extensions, whose type is one byte more.
            0xc4..=0xc6 => {
                let length = self.number(1 << (marker - 0xc4))?;
                self.skip(begin, length)
            }
            0xc7..=0xc9 => {
                let length = self.number(1 << (marker - 0xc7))?;
                self.skip(begin, length + 1)
            }
            0xca => self.skip(begin, 4),
            0xcb => self.skip(begin, 8),
            0xcc..=0xcf => self.skip(begin, 1 << (marker - 0xcc)),
            0xd0..=0xd3 => self.skip(begin, 1 << (marker - 0xd0)),
            0xd4..=0xd8 => self.skip(begin, 1 + (1 << (marker - 0xd4))),
            0xd9..=0xdb => {
                let length = self.number(1 << (marker - 0xd9))?;
                self.text(begin, length)
            }
            0xdc | 0xdd => {
                let length = self.number(2 << (marker - 0xdc))?;
                self.list(begin, length)
            }
            0xde | 0xdf => {
                let length = self.number(2 << (marker - 0xde))?;
                self.map(begin, length)
            }
        }
    }

    fn text(&mut self, begin: usize, length: u64) -> Result<Head<'b>, Flaw> {
        let bytes = self.take(self.believable(begin, length)?)?;
        std::str::from_utf8(bytes).map(Head::Text).map_err(|_| Flaw::NotUtf8(begin))
    }

    fn list(&self, begin: usize, values: u64) -> Result<Head<'b>, Flaw> {
        // Each takes a byte at least.
        self.believable(begin, values).map(|_| Head::List(values))
    }

    fn map(&self, begin: usize, pairs: u64) -> Result<Head<'b>, Flaw> {
        self.believable(begin, pairs * 2).map(|_| Head::Map(pairs))
    }

    fn skip(&mut self, begin: usize, length: u64) -> Result<Head<'b>, Flaw> {
        self.take(self.believable(begin, length)?).map(|_| Head::Leaf)
    }

    /// A length that the rest of the body can hold. Headers have 32 bits, so doubling one cannot overflow.
    fn believable(&self, begin: usize, length: u64) -> Result<usize, Flaw> {
        let length = usize::try_from(length).map_err(|_| Flaw::Length(begin))?;
        if length <= self.bytes.len() - self.at { Ok(length) } else { Err(Flaw::Length(begin)) }
    }

    /// A big-endian number.
    fn number(&mut self, bytes: usize) -> Result<u64, Flaw> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], Flaw> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or(Flaw::Truncated(self.bytes.len()))?;
        self.at += length;
        Ok(taken)
    }

    fn end(&self) -> Result<(), Flaw> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(Flaw::Trailing(self.at)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw(bytes: &[u8]) -> Flaw {
        fields(bytes, |_, _| ()).unwrap_err()
    }

    #[test]
    fn a_length_is_believed_only_as_far_as_the_body_goes() {
        // 4 GiB of pairs, of values, of text, of binary, of an extension.
        for header in [0xdf, 0xdd, 0xdb, 0xc6, 0xc9] {
            let value = [0x81, 0xa1, b'x', header, 0xff, 0xff, 0xff, 0xff, 0x00];
            assert_eq!(flaw(&value), Flaw::Length(3), "{header:#x}");
        }
        assert_eq!(flaw(&[0xdf, 0xff, 0xff, 0xff, 0xff]), Flaw::Length(0));
    }

    #[test]
    fn nesting_ends_at_the_bound_whatever_it_is_made_of() {
        let nested = |level: &[u8], levels: usize| {
            let mut bytes = vec![0x81, 0xa1, b'x'];
            bytes.extend(level.repeat(levels));
            bytes.push(0xc0);
            fields(&bytes, |_, _| ())
        };
        for level in [&[0x91][..], &[0x81, 0xa1, b'y']] {
            assert_eq!(nested(level, MAX_DEPTH - 2), Ok(()));
            assert!(matches!(nested(level, MAX_DEPTH - 1), Err(Flaw::TooDeep(_))));
            assert!(matches!(nested(level, 1_000_000), Err(Flaw::TooDeep(_))));
        }
    }

    #[test]
    fn every_way_to_be_wrong_is_told_apart() {
        assert_eq!(flaw(&[]), Flaw::Truncated(0));
        assert_eq!(flaw(&[0x90]), Flaw::NotAMap);
        assert_eq!(flaw(&[0x81, 0x01, 0x01]), Flaw::FieldName(1));
        assert_eq!(flaw(&[0x81, 0xa1, 0xff, 0x01]), Flaw::NotUtf8(1));
        assert_eq!(flaw(&[0x81, 0xa1, b'x', 0xc1]), Flaw::NotMsgpack(3));
        assert_eq!(flaw(&[0x81, 0xa1, b'x', 0xd9]), Flaw::Truncated(4));
        assert_eq!(flaw(&[0x80, 0x80]), Flaw::Trailing(1));
        assert_eq!(items(&[0x80], |_| ()), Err(Flaw::NotAList));
    }

    #[test]
    fn whole_numbers_are_read_in_every_width() {
        for (bytes, number) in [
            (&[0x07][..], Some(7)),
            (&[0xcc, 0xff], Some(255)),
            (&[0xcd, 1, 0], Some(256)),
            (&[0xd1, 1, 0], Some(256)),
            (&[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Some(u64::MAX)),
            (&[0xd0, 0xff], None),
            (&[0xff], None),
            (&[0xc0], None),
        ] {
            assert_eq!(unsigned(bytes), number, "{bytes:x?}");
        }
    }

    #[test]
    fn fields_and_items_are_seen_in_order_with_their_bytes() {
        let mut seen = Vec::new();
        fields(&[0x82, 0xa1, b'a', 0x92, 1, 2, 0xa1, b'b', 0xa0], |name, value| seen.push((name, value)))
            .unwrap();
        assert_eq!(seen, [("a", &[0x92, 1, 2][..]), ("b", &[0xa0])]);
        let mut seen = Vec::new();
        items(&[0x92, 0x91, 1, 0xc0], |item| seen.push(item)).unwrap();
        assert_eq!(seen, [&[0x91, 1][..], &[0xc0]]);
    }
}
