//! sentence-transformers' BERT encoders (all-MiniLM-L6-v2) as GGUF, weights in f16.
//!
//! The payload is a zip archive of the model's folder: `config.json`, `tokenizer.json` and
//! `model.safetensors`. Two rules come from llama.cpp:
//!
//! - Its WordPiece tokenizer marks the *start* of a word (U+2581) where BERT marks the *continuation*
//!   (`##`), so the vocabulary is rewritten; special tokens stay as they are.
//! - Matrices go to f16, but the position and type tables, biases and norms stay f32: they are added to
//!   f32 activations, and together they are a hundredth of the file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read, Write};

use half::f16;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use zip::ZipArchive;

use super::bert::{self, Shape, TokenType, Vocabulary};
use super::{ConvertError, ModelCard, unexpected};
use crate::model::gguf::{GgufBuilder, TensorType};

/// Start of a word in llama.cpp's WordPiece vocabularies.
const WORD_START: char = '\u{2581}';
/// Largest member read from the archive, in bytes; the weights are 91 MB.
const MAX_MEMBER: u64 = 1 << 30;

/// The three files of a sentence-transformers folder that matter.
pub struct Parts {
    /// `config.json`: the encoder's dimensions.
    pub config: Vec<u8>,
    /// `tokenizer.json`: the vocabulary.
    pub tokenizer: Vec<u8>,
    /// `model.safetensors`: the weights.
    pub weights: Vec<u8>,
}

impl Parts {
    /// Takes the parts out of a zip archive, where they may lie in a folder.
    pub fn from_zip(archive: &[u8]) -> Result<Self, ConvertError> {
        let mut archive = ZipArchive::new(Cursor::new(archive))?;
        let mut part = |file: &str| read_member(&mut archive, file);
        Ok(Self {
            config: part("config.json")?,
            tokenizer: part("tokenizer.json")?,
            weights: part("model.safetensors")?,
        })
    }
}

fn read_member(archive: &mut ZipArchive<Cursor<&[u8]>>, file: &str) -> Result<Vec<u8>, ConvertError> {
    let names = archive.file_names().map(|name| name.map(Cow::into_owned)).collect::<Result<Vec<_>, _>>()?;
    // The shallowest of that name: `1_Pooling/config.json` describes something else.
    let name = names
        .iter()
        .filter(|name| name.rsplit('/').next() == Some(file))
        .min_by_key(|name| name.matches('/').count())
        .ok_or_else(|| ConvertError::Missing(file.to_owned()))?;
    let member = archive.by_name(name)?;
    let mut bytes = Vec::new();
    member.take(MAX_MEMBER + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_MEMBER {
        return Err(unexpected(format!("{file} is larger than {MAX_MEMBER} bytes")));
    }
    Ok(bytes)
}

#[derive(Deserialize)]
struct Config {
    model_type: String,
    hidden_act: String,
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    max_position_embeddings: u32,
    type_vocab_size: u32,
    layer_norm_eps: f32,
    vocab_size: usize,
}

#[derive(Deserialize)]
struct Tokenizer {
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Normalizer>,
    model: WordPiece,
}

#[derive(Deserialize)]
struct AddedToken {
    id: usize,
    special: bool,
}

#[derive(Deserialize)]
struct Normalizer {
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
}

#[derive(Deserialize)]
struct WordPiece {
    #[serde(rename = "type")]
    kind: String,
    continuing_subword_prefix: String,
    vocab: HashMap<String, usize>,
}

/// Writes the model as GGUF and returns the length of the file in bytes.
pub fn convert(parts: &Parts, card: &ModelCard<'_>, out: impl Write) -> Result<u64, ConvertError> {
    let config: Config = parse("config.json", &parts.config)?;
    let tokenizer: Tokenizer = parse("tokenizer.json", &parts.tokenizer)?;
    let weights = SafeTensors::deserialize(&parts.weights)?;
    let shape = shape(&config)?;
    let mut file = bert::begin(card, &shape, TensorType::F16);
    add_tokenizer(&mut file, tokenizer, &config, &shape)?;
    for rule in tensor_rules(&shape, config.vocab_size as u64) {
        add_tensor(&mut file, &weights, &rule)?;
    }
    Ok(file.write_to(out)?)
}

fn parse<'a, T: Deserialize<'a>>(what: &'static str, json: &'a [u8]) -> Result<T, ConvertError> {
    serde_json::from_slice(json).map_err(|source| ConvertError::Json { what, source })
}

fn shape(config: &Config) -> Result<Shape, ConvertError> {
    if config.model_type != "bert" || config.hidden_act != "gelu" {
        let (model, act) = (&config.model_type, &config.hidden_act);
        return Err(unexpected(format!("model type {model} with {act}; only bert with gelu is converted")));
    }
    let shape = Shape {
        context_length: config.max_position_embeddings,
        embedding_length: config.hidden_size,
        feed_forward_length: config.intermediate_size,
        block_count: config.num_hidden_layers,
        head_count: config.num_attention_heads,
        token_type_count: config.type_vocab_size,
        layer_norm_epsilon: config.layer_norm_eps,
    };
    shape.check()?;
    Ok(shape)
}

fn add_tokenizer(
    file: &mut GgufBuilder<'_>,
    tokenizer: Tokenizer,
    config: &Config,
    shape: &Shape,
) -> Result<(), ConvertError> {
    let normalizer = tokenizer.normalizer.as_ref();
    let lowercase = normalizer.and_then(|rules| rules.lowercase).unwrap_or(true);
    // BERT's rule: unless stated, accents go when case goes.
    let strip_accents = normalizer.and_then(|rules| rules.strip_accents).unwrap_or(lowercase);
    let special = |token: &str| {
        let id = tokenizer.model.vocab.get(token).copied();
        id.map(|id| id as u32).ok_or_else(|| ConvertError::Missing(format!("token {token}")))
    };
    let ids = [
        ("tokenizer.ggml.bos_token_id", special("[CLS]")?),
        ("tokenizer.ggml.cls_token_id", special("[CLS]")?),
        // llama.cpp's spelling.
        ("tokenizer.ggml.seperator_token_id", special("[SEP]")?),
        ("tokenizer.ggml.unknown_token_id", special("[UNK]")?),
        ("tokenizer.ggml.padding_token_id", special("[PAD]")?),
        ("tokenizer.ggml.mask_token_id", special("[MASK]")?),
    ];
    let vocabulary = vocabulary(tokenizer, config.vocab_size)?;
    bert::add_vocabulary(file, "bert", vocabulary, shape);
    bert::set_all(file, &ids);
    let rules = [
        ("tokenizer.ggml.normalizer.lowercase", lowercase),
        ("tokenizer.ggml.normalizer.strip_accents", strip_accents),
    ];
    bert::set_all(file, &rules);
    Ok(())
}

/// The vocabulary by id, continuation marks turned into start marks.
fn vocabulary(tokenizer: Tokenizer, size: usize) -> Result<Vocabulary, ConvertError> {
    let model = tokenizer.model;
    if model.kind != "WordPiece" || model.vocab.len() != size {
        let (kind, len) = (&model.kind, model.vocab.len());
        return Err(unexpected(format!("a {kind} vocabulary of {len} tokens, not WordPiece of {size}")));
    }
    let mut types = vec![TokenType::Normal; size];
    for token in tokenizer.added_tokens.iter().filter(|token| token.special) {
        *types.get_mut(token.id).ok_or_else(|| unexpected(format!("special token {}", token.id)))? =
            TokenType::Control;
    }
    let mut tokens = vec![String::new(); size];
    for (token, id) in model.vocab {
        let slot = tokens.get_mut(id).ok_or_else(|| unexpected(format!("token {token:?} has id {id}")))?;
        *slot = match token.strip_prefix(&model.continuing_subword_prefix) {
            _ if types[id] == TokenType::Control => token,
            // A lone "##" is the word "##", for nothing would be left of it.
            Some(rest) if !rest.is_empty() => rest.to_owned(),
            _ => format!("{WORD_START}{token}"),
        };
    }
    let vocabulary = Vocabulary { tokens, types };
    vocabulary.check()?;
    Ok(vocabulary)
}

/// One tensor: where it is, what it becomes, and the shape that the configuration promises.
struct Rule {
    source: String,
    target: String,
    kind: TensorType,
    extents: Vec<u64>,
}

fn tensor_rules(shape: &Shape, vocabulary: u64) -> Vec<Rule> {
    use TensorType as T;
    let width = u64::from(shape.embedding_length);
    let inner = u64::from(shape.feed_forward_length);
    let mut rules: Vec<Rule> = [
        ("embeddings.word_embeddings.weight", "token_embd.weight", T::F16, vec![width, vocabulary]),
        (
            "embeddings.position_embeddings.weight",
            "position_embd.weight",
            T::F32,
            vec![width, shape.context_length.into()],
        ),
        (
            "embeddings.token_type_embeddings.weight",
            "token_types.weight",
            T::F32,
            vec![width, shape.token_type_count.into()],
        ),
        ("embeddings.LayerNorm.weight", "token_embd_norm.weight", T::F32, vec![width]),
        ("embeddings.LayerNorm.bias", "token_embd_norm.bias", T::F32, vec![width]),
    ]
    .map(|(source, target, kind, extents)| Rule {
        source: source.into(),
        target: target.into(),
        kind,
        extents,
    })
    .into();
    for block in 0..shape.block_count {
        // A norm is a vector, everything else a matrix from `input` to `output` numbers.
        for (source, target, input, output) in [
            ("attention.self.query", "attn_q", Some(width), width),
            ("attention.self.key", "attn_k", Some(width), width),
            ("attention.self.value", "attn_v", Some(width), width),
            ("attention.output.dense", "attn_output", Some(width), width),
            ("attention.output.LayerNorm", "attn_output_norm", None, width),
            ("intermediate.dense", "ffn_up", Some(width), inner),
            ("output.dense", "ffn_down", Some(inner), width),
            ("output.LayerNorm", "layer_output_norm", None, width),
        ] {
            let rule = |part: &str, kind, extents| Rule {
                source: format!("encoder.layer.{block}.{source}.{part}"),
                target: format!("blk.{block}.{target}.{part}"),
                kind,
                extents,
            };
            rules.push(match input {
                Some(input) => rule("weight", T::F16, vec![input, output]),
                None => rule("weight", T::F32, vec![output]),
            });
            rules.push(rule("bias", T::F32, vec![output]));
        }
    }
    rules
}

fn add_tensor<'a>(
    file: &mut GgufBuilder<'a>,
    weights: &SafeTensors<'a>,
    rule: &Rule,
) -> Result<(), ConvertError> {
    let Rule { source, target, kind, extents } = rule;
    // Some publishers save the whole model, with the encoder under `bert.`.
    let view = weights
        .tensor(source)
        .or_else(|_| weights.tensor(&format!("bert.{source}")))
        .map_err(|_| ConvertError::Missing(format!("tensor {source}")))?;
    // ggml counts dimensions from the contiguous one, PyTorch from the other end.
    if !view.shape().iter().rev().map(|&extent| extent as u64).eq(extents.iter().copied()) {
        return Err(unexpected(format!("tensor {source} has the shape {:?}", view.shape())));
    }
    let data = match (view.dtype(), *kind) {
        (Dtype::F32, TensorType::F32) | (Dtype::F16, TensorType::F16) => Cow::Borrowed(view.data()),
        (Dtype::F32, _) => Cow::Owned(narrow(view.data())),
        (Dtype::F16, _) => Cow::Owned(widen(view.data())),
        (other, _) => return Err(unexpected(format!("tensor {source} is {other:?}"))),
    };
    file.tensor(target.as_str(), *kind, extents, data)?;
    Ok(())
}

/// f32 to f16, rounding to nearest even.
fn narrow(data: &[u8]) -> Vec<u8> {
    let (numbers, _) = data.as_chunks::<4>();
    numbers.iter().flat_map(|bytes| f16::from_f32(f32::from_le_bytes(*bytes)).to_le_bytes()).collect()
}

/// f16 to f32, which is exact.
fn widen(data: &[u8]) -> Vec<u8> {
    let (numbers, _) = data.as_chunks::<2>();
    numbers.iter().flat_map(|bytes| f16::from_le_bytes(*bytes).to_f32().to_le_bytes()).collect()
}
