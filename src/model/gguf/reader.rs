//! Reading the header of a GGUF file that nobody vouches for.
//!
//! Two rules keep a hostile file harmless: every count is first compared with what the rest of the file
//! could hold, and a buffer is only made after that comparison. So the reader allocates in proportion to
//! the file, returns errors and cannot panic.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, GgufError, MAGIC, MAX_DIMENSIONS, MetaArray, MetaValue, TensorType,
    VERSION, ValueType, align, malformed,
};

/// Longest key, name or text accepted, in bytes; the longest seen in practice, chat templates, are a
/// hundred times shorter.
const MAX_STRING: u64 = 16 << 20;
/// key length, type and one byte of value.
const MIN_PAIR_BYTES: u64 = 8 + 4 + 1;
/// Name length, dimension count, type and offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// What to do with arrays in the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrays {
    /// Read their elements.
    Keep,
    /// Note their type and length only ([`MetaArray::Skipped`]).
    Skip,
}

/// The checked header of a file: every tensor listed lies within the file.
#[derive(Clone, Debug)]
pub struct Header {
    /// Format version, 2 or 3.
    pub version: u32,
    /// Key-value pairs in the order of the file; keys are distinct.
    pub metadata: Vec<(String, MetaValue)>,
    /// Tensors in the order of the file; names are distinct.
    pub tensors: Vec<TensorInfo>,
    /// Where tensor data begins, in bytes from the start of the file.
    pub data_offset: u64,
}

/// Name, shape and place of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Element type.
    pub kind: TensorType,
    /// Extents, the contiguous one first.
    pub extents: Vec<u64>,
    /// Bytes from [`Header::data_offset`].
    pub offset: u64,
    /// Bytes of data; none if the element type is not known here.
    pub size: Option<u64>,
}

impl TensorInfo {
    /// Number of elements; the reader has checked that the product does not overflow.
    pub fn elements(&self) -> u64 {
        self.extents.iter().product()
    }
}

impl Header {
    /// Reads and checks the header of the file at `path`.
    pub fn open(path: &Path, arrays: Arrays) -> Result<Self, GgufError> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Self::read(BufReader::with_capacity(128 * 1024, file), len, arrays)
    }

    /// Reads and checks a header from the start of a file that is `file_len` bytes long.
    pub fn read(input: impl Read, file_len: u64, arrays: Arrays) -> Result<Self, GgufError> {
        let mut source = Source { input, position: 0, len: file_len };
        let version = read_version(&mut source)?;
        let tensor_count = source.count(MIN_TENSOR_BYTES, "tensors")?;
        let pair_count = source.count(MIN_PAIR_BYTES, "metadata")?;
        let metadata = read_metadata(&mut source, pair_count, arrays)?;
        let alignment = stated_alignment(&metadata)?;
        let tensors = read_directory(&mut source, tensor_count)?;
        let data_offset =
            align(source.position, alignment).ok_or_else(|| malformed("the data offset overflows"))?;
        check_extents(&tensors, data_offset, alignment, file_len)?;
        Ok(Self { version, metadata, tensors, data_offset })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&MetaValue> {
        self.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

fn read_version<R: Read>(source: &mut Source<R>) -> Result<u32, GgufError> {
    let found = source.array::<4>()?;
    if found != MAGIC {
        return Err(GgufError::NotGguf { found });
    }
    match source.u32()? {
        version @ 2..=VERSION => Ok(version),
        swapped if (1..=VERSION).contains(&swapped.swap_bytes()) => Err(GgufError::BigEndian),
        version => Err(GgufError::UnsupportedVersion(version)),
    }
}

fn read_metadata<R: Read>(
    source: &mut Source<R>,
    count: u64,
    arrays: Arrays,
) -> Result<Vec<(String, MetaValue)>, GgufError> {
    let mut metadata = Vec::new();
    let mut seen = HashSet::new();
    for _ in 0..count {
        let key = source.string()?;
        if !seen.insert(key.clone()) {
            return Err(malformed(format!("key {key:?} stands there twice")));
        }
        let value = read_value(source, arrays).map_err(|error| match error {
            GgufError::Malformed(why) => malformed(format!("key {key:?}: {why}")),
            other => other,
        })?;
        metadata.push((key, value));
    }
    Ok(metadata)
}

fn read_value<R: Read>(source: &mut Source<R>, arrays: Arrays) -> Result<MetaValue, GgufError> {
    Ok(match source.value_type()? {
        ValueType::U8 => MetaValue::U8(u8::from_le_bytes(source.array()?)),
        ValueType::I8 => MetaValue::I8(i8::from_le_bytes(source.array()?)),
        ValueType::U16 => MetaValue::U16(u16::from_le_bytes(source.array()?)),
        ValueType::I16 => MetaValue::I16(i16::from_le_bytes(source.array()?)),
        ValueType::U32 => MetaValue::U32(source.u32()?),
        ValueType::I32 => MetaValue::I32(i32::from_le_bytes(source.array()?)),
        ValueType::F32 => MetaValue::F32(f32::from_le_bytes(source.array()?)),
        ValueType::U64 => MetaValue::U64(source.u64()?),
        ValueType::I64 => MetaValue::I64(i64::from_le_bytes(source.array()?)),
        ValueType::F64 => MetaValue::F64(f64::from_le_bytes(source.array()?)),
        ValueType::Bool => MetaValue::Bool(source.array::<1>()? != [0]),
        ValueType::String => MetaValue::String(source.string()?),
        ValueType::Array => MetaValue::Array(read_array(source, arrays)?),
    })
}

fn read_array<R: Read>(source: &mut Source<R>, arrays: Arrays) -> Result<MetaArray, GgufError> {
    let element = source.value_type()?;
    if element == ValueType::Array {
        return Err(malformed("an array of arrays"));
    }
    // A string takes at least its eight-byte length.
    let len = source.count(element.fixed_size().unwrap_or(8), "array elements")?;
    if arrays == Arrays::Skip {
        match element.fixed_size() {
            Some(size) => source.skip(len * size)?,
            None => (0..len).try_for_each(|_| source.skip_string())?,
        }
        return Ok(MetaArray::Skipped { element, len });
    }
    Ok(match element {
        ValueType::U8 => MetaArray::U8(source.numbers(len, u8::from_le_bytes)?),
        ValueType::I8 => MetaArray::I8(source.numbers(len, i8::from_le_bytes)?),
        ValueType::U16 => MetaArray::U16(source.numbers(len, u16::from_le_bytes)?),
        ValueType::I16 => MetaArray::I16(source.numbers(len, i16::from_le_bytes)?),
        ValueType::U32 => MetaArray::U32(source.numbers(len, u32::from_le_bytes)?),
        ValueType::I32 => MetaArray::I32(source.numbers(len, i32::from_le_bytes)?),
        ValueType::F32 => MetaArray::F32(source.numbers(len, f32::from_le_bytes)?),
        ValueType::U64 => MetaArray::U64(source.numbers(len, u64::from_le_bytes)?),
        ValueType::I64 => MetaArray::I64(source.numbers(len, i64::from_le_bytes)?),
        ValueType::F64 => MetaArray::F64(source.numbers(len, f64::from_le_bytes)?),
        ValueType::Bool => MetaArray::Bool(source.numbers(len, |byte: [u8; 1]| byte != [0])?),
        ValueType::String | ValueType::Array => {
            MetaArray::String((0..len).map(|_| source.string()).collect::<Result<_, _>>()?)
        }
    })
}

fn stated_alignment(metadata: &[(String, MetaValue)]) -> Result<u64, GgufError> {
    let Some((_, value)) = metadata.iter().find(|(key, _)| key == ALIGNMENT_KEY) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match value {
        MetaValue::U32(alignment) if alignment.is_power_of_two() => Ok(u64::from(*alignment)),
        other => Err(malformed(format!("{ALIGNMENT_KEY} is {other:?}, not a power of two"))),
    }
}

fn read_directory<R: Read>(source: &mut Source<R>, count: u64) -> Result<Vec<TensorInfo>, GgufError> {
    let mut tensors: Vec<TensorInfo> = Vec::new();
    let mut seen = HashSet::new();
    for _ in 0..count {
        let tensor = read_tensor_info(source)?;
        if !seen.insert(tensor.name.clone()) {
            return Err(malformed(format!("tensor {:?} stands there twice", tensor.name)));
        }
        tensors.push(tensor);
    }
    Ok(tensors)
}

fn read_tensor_info<R: Read>(source: &mut Source<R>) -> Result<TensorInfo, GgufError> {
    let name = source.string()?;
    let dimensions = source.u32()?;
    if dimensions as usize > MAX_DIMENSIONS {
        return Err(malformed(format!("tensor {name:?} has {dimensions} dimensions")));
    }
    let extents = (0..dimensions).map(|_| source.u64()).collect::<Result<Vec<_>, _>>()?;
    let kind = TensorType(source.u32()?);
    let offset = source.u64()?;
    let size = kind.data_size(&extents).map_err(|why| malformed(format!("tensor {name:?}: {why}")))?;
    Ok(TensorInfo { name, kind, extents, offset, size })
}

/// The check that tells a whole file from one whose download stopped.
fn check_extents(
    tensors: &[TensorInfo],
    data_offset: u64,
    alignment: u64,
    file_len: u64,
) -> Result<(), GgufError> {
    for tensor in tensors {
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(malformed(format!("tensor {:?} is not aligned", tensor.name)));
        }
        let end = data_offset
            .checked_add(tensor.offset)
            .and_then(|start| start.checked_add(tensor.size.unwrap_or(0)))
            .ok_or_else(|| malformed(format!("the end of tensor {:?} overflows", tensor.name)))?;
        if end > file_len {
            return Err(GgufError::Truncated { needed: end, actual: file_len });
        }
    }
    Ok(())
}

/// A reader that knows how much is left.
struct Source<R> {
    input: R,
    position: u64,
    len: u64,
}

impl<R: Read> Source<R> {
    /// Claims the next `bytes`, or says how long the file would have to be.
    fn claim(&mut self, bytes: u64) -> Result<(), GgufError> {
        let needed = self.position.saturating_add(bytes);
        if needed > self.len {
            return Err(GgufError::Truncated { needed, actual: self.len });
        }
        self.position = needed;
        Ok(())
    }

    /// The input turned out shorter than it was said to be.
    fn short(&self, error: io::Error) -> GgufError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return GgufError::Truncated { needed: self.position, actual: self.len };
        }
        GgufError::Io(error)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        self.claim(N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| self.short(error))?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        self.array().map(u64::from_le_bytes)
    }

    fn value_type(&mut self) -> Result<ValueType, GgufError> {
        let tag = self.u32()?;
        ValueType::from_tag(tag).ok_or_else(|| malformed(format!("value type {tag} is not known")))
    }

    /// A count of things that take at least `min_bytes` each; refused if the rest of the file could not
    /// hold them. Therefore `count * min_bytes` cannot overflow.
    fn count(&mut self, min_bytes: u64, what: &str) -> Result<u64, GgufError> {
        let count = self.u64()?;
        let needed = count
            .checked_mul(min_bytes)
            .and_then(|bytes| bytes.checked_add(self.position))
            .ok_or_else(|| malformed(format!("{count} {what}")))?;
        if needed > self.len {
            return Err(GgufError::Truncated { needed, actual: self.len });
        }
        Ok(count)
    }

    /// Text; bytes that are not UTF-8 are replaced, for some vocabularies hold single bytes.
    fn string(&mut self) -> Result<String, GgufError> {
        let len = self.string_len()?;
        self.claim(len)?;
        let mut bytes = vec![0; len as usize];
        self.input.read_exact(&mut bytes).map_err(|error| self.short(error))?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn skip_string(&mut self) -> Result<(), GgufError> {
        let len = self.string_len()?;
        self.skip(len)
    }

    fn string_len(&mut self) -> Result<u64, GgufError> {
        let len = self.u64()?;
        if len > MAX_STRING {
            return Err(malformed(format!("a text of {len} bytes")));
        }
        Ok(len)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), GgufError> {
        self.claim(bytes)?;
        let skipped = io::copy(&mut self.input.by_ref().take(bytes), &mut io::sink())?;
        if skipped < bytes {
            return Err(self.short(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    fn numbers<T, const N: usize>(
        &mut self,
        len: u64,
        decode: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        (0..len).map(|_| self.array().map(decode)).collect()
    }
}
