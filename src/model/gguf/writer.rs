//! Writing GGUF version 3.
//!
//! The builder takes tensors by reference where it can (`Cow`), and the file goes out in one pass: the
//! header first, from the declared shapes, then tensor after tensor. Nothing but what the caller already
//! holds is kept in memory.

use std::borrow::Cow;
use std::io::{self, Write};

use super::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, GgufError, MAGIC, MAX_DIMENSIONS, MetaArray, MetaValue, TensorType,
    VERSION, ValueType, align, malformed,
};

/// Collects metadata and tensors, then writes them.
#[derive(Default)]
pub struct GgufBuilder<'a> {
    metadata: Vec<(String, MetaValue)>,
    tensors: Vec<PendingTensor<'a>>,
}

struct PendingTensor<'a> {
    name: String,
    kind: TensorType,
    extents: Vec<u64>,
    data: Cow<'a, [u8]>,
}

impl<'a> GgufBuilder<'a> {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a metadata value, replacing an earlier one of that key in its place.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<MetaValue>) -> &mut Self {
        let (key, value) = (key.into(), value.into());
        match self.metadata.iter_mut().find(|(known, _)| *known == key) {
            Some((_, slot)) => *slot = value,
            None => self.metadata.push((key, value)),
        }
        self
    }

    /// Adds a tensor. `extents` are ggml's `ne`, the contiguous dimension first (the reverse of a
    /// PyTorch shape).
    ///
    /// # Errors
    ///
    /// [`GgufError::WrongTensorSize`] if `data` is not what shape and type take,
    /// [`GgufError::Malformed`] if the shape is impossible or the name is taken.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        kind: TensorType,
        extents: &[u64],
        data: impl Into<Cow<'a, [u8]>>,
    ) -> Result<&mut Self, GgufError> {
        let (name, data) = (name.into(), data.into());
        if extents.is_empty() || extents.len() > MAX_DIMENSIONS {
            return Err(malformed(format!("tensor {name} has {} dimensions", extents.len())));
        }
        if self.tensors.iter().any(|tensor| tensor.name == name) {
            return Err(malformed(format!("tensor {name} stands there twice")));
        }
        let needed = kind
            .data_size(extents)
            .map_err(|why| malformed(format!("tensor {name}: {why}")))?
            .ok_or_else(|| malformed(format!("tensor {name}: the size of {kind} is not known")))?;
        let actual = data.len() as u64;
        if needed != actual {
            return Err(GgufError::WrongTensorSize { name, needed, actual });
        }
        self.tensors.push(PendingTensor { name, kind, extents: extents.to_vec(), data });
        Ok(self)
    }

    /// Writes the whole file and returns its length in bytes. `out` is best buffered.
    pub fn write_to(&self, out: impl Write) -> io::Result<u64> {
        let mut out = Counting { inner: out, position: 0 };
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        put_len(&mut out, self.tensors.len())?;
        put_len(&mut out, self.metadata.len())?;
        for (key, value) in &self.metadata {
            put_string(&mut out, key)?;
            put_value(&mut out, value)?;
        }
        let alignment = self.alignment();
        self.put_directory(&mut out, alignment)?;
        for tensor in &self.tensors {
            pad(&mut out, alignment)?;
            out.write_all(&tensor.data)?;
        }
        // ggml wants the last tensor padded too, and the data section aligned even when it is empty.
        pad(&mut out, alignment)?;
        out.flush()?;
        Ok(out.position)
    }

    fn alignment(&self) -> u64 {
        self.metadata
            .iter()
            .find(|(key, _)| key == ALIGNMENT_KEY)
            .and_then(|(_, value)| value.as_u64())
            .filter(|alignment| alignment.is_power_of_two())
            .unwrap_or(DEFAULT_ALIGNMENT)
    }

    fn put_directory(&self, out: &mut impl Write, alignment: u64) -> io::Result<()> {
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            put_string(out, &tensor.name)?;
            // At most MAX_DIMENSIONS, checked by `tensor`.
            out.write_all(&(tensor.extents.len() as u32).to_le_bytes())?;
            for extent in &tensor.extents {
                out.write_all(&extent.to_le_bytes())?;
            }
            out.write_all(&tensor.kind.0.to_le_bytes())?;
            out.write_all(&offset.to_le_bytes())?;
            offset = align(offset + tensor.data.len() as u64, alignment)
                .ok_or_else(|| io::Error::other("the tensors together exceed 2^64 bytes"))?;
        }
        Ok(())
    }
}

struct Counting<W> {
    inner: W,
    position: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let accepted = self.inner.write(bytes)?;
        self.position += accepted as u64;
        Ok(accepted)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn pad<W: Write>(out: &mut Counting<W>, alignment: u64) -> io::Result<()> {
    let aligned = align(out.position, alignment).ok_or_else(|| io::Error::other("file too large"))?;
    let zeros = vec![0; (aligned - out.position) as usize];
    out.write_all(&zeros)
}

fn put_len(out: &mut impl Write, len: usize) -> io::Result<()> {
    out.write_all(&(len as u64).to_le_bytes())
}

fn put_string(out: &mut impl Write, text: &str) -> io::Result<()> {
    put_len(out, text.len())?;
    out.write_all(text.as_bytes())
}

fn put_tag(out: &mut impl Write, kind: ValueType) -> io::Result<()> {
    out.write_all(&(kind as u32).to_le_bytes())
}

/// Type tag and value of a scalar.
macro_rules! scalar {
    ($out:expr, $kind:ident, $value:expr) => {{
        put_tag($out, ValueType::$kind)?;
        $out.write_all(&$value.to_le_bytes())
    }};
}

/// Array tag, element tag, length and elements.
macro_rules! array {
    ($out:expr, $kind:ident, $items:expr) => {{
        put_array_head($out, ValueType::$kind, $items.len())?;
        $items.iter().try_for_each(|item| $out.write_all(&item.to_le_bytes()))
    }};
}

fn put_array_head(out: &mut impl Write, element: ValueType, len: usize) -> io::Result<()> {
    put_tag(out, ValueType::Array)?;
    put_tag(out, element)?;
    put_len(out, len)
}

fn put_value(out: &mut impl Write, value: &MetaValue) -> io::Result<()> {
    match value {
        MetaValue::U8(value) => scalar!(out, U8, value),
        MetaValue::I8(value) => scalar!(out, I8, value),
        MetaValue::U16(value) => scalar!(out, U16, value),
        MetaValue::I16(value) => scalar!(out, I16, value),
        MetaValue::U32(value) => scalar!(out, U32, value),
        MetaValue::I32(value) => scalar!(out, I32, value),
        MetaValue::F32(value) => scalar!(out, F32, value),
        MetaValue::U64(value) => scalar!(out, U64, value),
        MetaValue::I64(value) => scalar!(out, I64, value),
        MetaValue::F64(value) => scalar!(out, F64, value),
        MetaValue::Bool(value) => scalar!(out, Bool, u8::from(*value)),
        MetaValue::String(text) => {
            put_tag(out, ValueType::String)?;
            put_string(out, text)
        }
        MetaValue::Array(array) => put_array(out, array),
    }
}

fn put_array(out: &mut impl Write, array: &MetaArray) -> io::Result<()> {
    match array {
        MetaArray::U8(items) => {
            put_array_head(out, ValueType::U8, items.len())?;
            out.write_all(items)
        }
        MetaArray::I8(items) => array!(out, I8, items),
        MetaArray::U16(items) => array!(out, U16, items),
        MetaArray::I16(items) => array!(out, I16, items),
        MetaArray::U32(items) => array!(out, U32, items),
        MetaArray::I32(items) => array!(out, I32, items),
        MetaArray::F32(items) => array!(out, F32, items),
        MetaArray::U64(items) => array!(out, U64, items),
        MetaArray::I64(items) => array!(out, I64, items),
        MetaArray::F64(items) => array!(out, F64, items),
        MetaArray::Bool(items) => {
            put_array_head(out, ValueType::Bool, items.len())?;
            items.iter().try_for_each(|&item| out.write_all(&[u8::from(item)]))
        }
        MetaArray::String(items) => {
            put_array_head(out, ValueType::String, items.len())?;
            items.iter().try_for_each(|item| put_string(out, item))
        }
        MetaArray::Skipped { .. } => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "a skipped array has no values to write"))
        }
    }
}
