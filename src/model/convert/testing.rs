//! Tiny models in the published layouts, for tests: one block, 32 numbers wide.

use std::io::{Cursor, Write};

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde_json::json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

pub const WIDTH: usize = 32;
pub const INNER: usize = 64;

/// `config.json` of the tiny sentence-transformers model.
pub fn config() -> serde_json::Value {
    json!({
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH, "intermediate_size": INNER,
        "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "vocab_size": 8,
    })
}

/// `tokenizer.json` of the tiny sentence-transformers model.
pub fn tokenizer() -> serde_json::Value {
    let special: Vec<_> = (0..5).map(|id| json!({"id": id, "special": true})).collect();
    json!({
        "added_tokens": special,
        "normalizer": {"lowercase": true, "strip_accents": null},
        "model": {
            "type": "WordPiece", "continuing_subword_prefix": "##",
            "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "good": 5, "##ness": 6, "##": 7},
        },
    })
}

/// `model.safetensors` of the tiny sentence-transformers model; numbers count up from zero.
pub fn weights() -> Vec<u8> {
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![8, WIDTH]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![16, WIDTH]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, WIDTH]),
        ("embeddings.LayerNorm.weight".to_owned(), vec![WIDTH]),
        ("embeddings.LayerNorm.bias".to_owned(), vec![WIDTH]),
    ];
    for (name, shape) in [
        ("attention.self.query", vec![WIDTH, WIDTH]),
        ("attention.self.key", vec![WIDTH, WIDTH]),
        ("attention.self.value", vec![WIDTH, WIDTH]),
        ("attention.output.dense", vec![WIDTH, WIDTH]),
        ("attention.output.LayerNorm", vec![WIDTH]),
        ("intermediate.dense", vec![INNER, WIDTH]),
        ("output.dense", vec![WIDTH, INNER]),
        ("output.LayerNorm", vec![WIDTH]),
    ] {
        shapes.push((format!("encoder.layer.0.{name}.bias"), vec![shape[0]]));
        shapes.push((format!("encoder.layer.0.{name}.weight"), shape));
    }
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product::<usize>();
            let data = (0..count).flat_map(|number| (number as f32 / 64.0).to_le_bytes()).collect();
            (name, shape, data)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
    });
    serialize(views, None).unwrap()
}

/// A zip archive.
pub fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// The tiny sentence-transformers model as it is published.
pub fn minilm_payload() -> Vec<u8> {
    let (config, tokenizer) = (config().to_string(), tokenizer().to_string());
    zip(&[
        ("1_Pooling/config.json", b"{}"),
        ("config.json", config.as_bytes()),
        ("tokenizer.json", tokenizer.as_bytes()),
        ("model.safetensors", &weights()),
    ])
}

/// Number of pieces in the tiny packed model; its word table has one row more.
pub const PIECES: usize = 6;

/// A tiny packed E5 model.
pub fn e5_payload() -> Vec<u8> {
    let pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "<mask>"];
    let scores = [0.0_f32, 0.0, 0.0, 0.0, -3.5, 0.0];
    let mut head = Vec::new();
    let mut put = |numbers: &[u32]| head.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    put(&[u32::from_le_bytes(*b"E5S1"), 1]);
    put(&[WIDTH as u32, 1, 2, INNER as u32, PIECES as u32 + 1, 16, 2, 1e-12_f32.to_bits(), 32]);
    put(&[PIECES as u32, 0, 2, 1, 3]);
    let text = pieces.concat();
    put(&[text.len() as u32, 0]);
    let mut end = 0;
    put(&[0]);
    for piece in pieces {
        end += piece.len() as u32;
        put(&[end]);
    }
    put(&scores.map(f32::to_bits));
    head.extend(text.as_bytes());
    // A full-width A becomes A, a line break a space, a bell nothing.
    head.extend(3_u32.to_le_bytes());
    let rules: [(u32, &[u32]); 3] = [(0xff21, &[0x41]), (0x0a, &[0x20]), (0x07, &[])];
    let rules: Vec<u8> = rules
        .iter()
        .flat_map(|(from, to)| {
            let mut rule = from.to_le_bytes().to_vec();
            rule.push(to.len() as u8);
            rule.extend(to.iter().flat_map(|code| code.to_le_bytes()));
            rule
        })
        .collect();
    head.extend((rules.len() as u32).to_le_bytes());
    head.extend(&rules);
    with_tensors(head)
}

/// Appends directory and data. Byte `n` of a tensor is `n` modulo 251.
fn with_tensors(mut head: Vec<u8>) -> Vec<u8> {
    let mut tensors = vec![
        ("emb.word".to_owned(), 1, (PIECES + 1) * WIDTH),
        ("emb.pos".to_owned(), 0, 16 * WIDTH),
        ("emb.type".to_owned(), 0, 2 * WIDTH),
        ("emb.ln.w".to_owned(), 0, WIDTH),
        ("emb.ln.b".to_owned(), 0, WIDTH),
    ];
    for (name, elements, bias) in [
        ("q", WIDTH * WIDTH, WIDTH),
        ("k", WIDTH * WIDTH, WIDTH),
        ("v", WIDTH * WIDTH, WIDTH),
        ("ao", WIDTH * WIDTH, WIDTH),
        ("fi", WIDTH * INNER, INNER),
        ("fo", WIDTH * INNER, WIDTH),
    ] {
        tensors.push((format!("l0.{name}.w"), 1, elements));
        tensors.push((format!("l0.{name}.b"), 0, bias));
    }
    for name in ["aln.w", "aln.b", "oln.w", "oln.b"] {
        tensors.push((format!("l0.{name}"), 0, WIDTH));
    }
    let size = |kind: u8, elements: usize| if kind == 0 { elements * 4 } else { elements / 32 * 18 };
    let directory: usize = tensors.iter().map(|(name, ..)| 2 + name.len() + 1 + 4 + 8 + 8).sum();
    let mut offset = head.len() + 4 + directory;
    head.extend((tensors.len() as u32).to_le_bytes());
    let mut data = Vec::new();
    for (name, kind, elements) in tensors {
        let bytes = size(kind, elements);
        head.extend((name.len() as u16).to_le_bytes());
        head.extend(name.as_bytes());
        head.push(kind);
        head.extend((elements as u32).to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        head.extend((bytes as u64).to_le_bytes());
        data.extend((0..bytes).map(|number| (number % 251) as u8));
        offset += bytes;
    }
    head.extend(data);
    head
}
