//! Conversions of tiny models, and of damaged ones. The full-size results are pinned by digest in the
//! registry; that llama.cpp computes the right embeddings from them is a test of the engine.

use proptest::prelude::*;

use super::minilm::Parts;
use super::testing::{INNER, PIECES, WIDTH, config, e5_payload, minilm_payload, tokenizer, weights};
use super::*;
use crate::model::gguf::{Arrays, Header, MetaArray, MetaValue, TensorType};

const CARD: ModelCard<'_> = ModelCard { title: "tiny", licence: "MIT" };

fn minilm(payload: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let mut out = Vec::new();
    minilm::convert(&Parts::from_zip(payload)?, &CARD, &mut out)?;
    Ok(out)
}

fn e5(payload: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let mut out = Vec::new();
    e5::convert(payload, &CARD, &mut out)?;
    Ok(out)
}

fn header(file: &[u8]) -> Header {
    Header::read(file, file.len() as u64, Arrays::Keep).unwrap()
}

fn data<'a>(file: &'a [u8], header: &Header, name: &str) -> &'a [u8] {
    let tensor = header.tensor(name).unwrap();
    let start = (header.data_offset + tensor.offset) as usize;
    &file[start..start + tensor.size.unwrap() as usize]
}

fn with(edit: impl FnOnce(&mut serde_json::Value, &mut serde_json::Value)) -> Result<Vec<u8>, ConvertError> {
    let (mut config, mut tokenizer) = (config(), tokenizer());
    edit(&mut config, &mut tokenizer);
    let parts = Parts {
        config: config.to_string().into_bytes(),
        tokenizer: tokenizer.to_string().into_bytes(),
        weights: weights(),
    };
    let mut out = Vec::new();
    minilm::convert(&parts, &CARD, &mut out)?;
    Ok(out)
}

#[test]
fn conversions_are_deterministic() {
    assert_eq!(minilm(&minilm_payload()).unwrap(), minilm(&minilm_payload()).unwrap());
    assert_eq!(e5(&e5_payload()).unwrap(), e5(&e5_payload()).unwrap());
}

#[test]
fn both_encoders_are_non_causal_and_pool_by_mean() {
    for file in [minilm(&minilm_payload()).unwrap(), e5(&e5_payload()).unwrap()] {
        let header = header(&file);
        assert_eq!(header.get("bert.attention.causal"), Some(&MetaValue::Bool(false)));
        assert_eq!(header.get("bert.pooling_type"), Some(&MetaValue::U32(1)));
        assert_eq!(header.get("bert.attention.head_count"), Some(&MetaValue::U32(2)));
        assert_eq!(header.tensor("blk.0.ffn_up.weight").unwrap().extents, [WIDTH as u64, INNER as u64]);
        assert_eq!(header.tensor("blk.0.ffn_down.weight").unwrap().extents, [INNER as u64, WIDTH as u64]);
        assert_eq!(header.tensors.len(), 5 + 16);
    }
}

#[test]
fn word_starts_are_marked_instead_of_continuations() {
    let file = minilm(&minilm_payload()).unwrap();
    let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u{2581}good", "ness", "\u{2581}##"];
    let expected = MetaArray::String(tokens.map(str::to_owned).to_vec());
    assert_eq!(header(&file).get("tokenizer.ggml.tokens"), Some(&expected.into()));
}

#[test]
fn matrices_are_halved_and_the_rest_stays_exact() {
    let file = minilm(&minilm_payload()).unwrap();
    let header = header(&file);
    let query = data(&file, &header, "blk.0.attn_q.weight");
    // 65 / 64 needs seven bits of mantissa: exact in f16.
    assert_eq!(query[65 * 2..66 * 2], half::f16::from_f32(65.0 / 64.0).to_le_bytes());
    let position = data(&file, &header, "position_embd.weight");
    assert_eq!(position[65 * 4..66 * 4], (65.0_f32 / 64.0).to_le_bytes());
    assert_eq!(header.tensor("blk.0.attn_q.bias").unwrap().kind, TensorType::F32);
}

#[test]
fn four_bit_blocks_are_copied_and_unreachable_rows_left_out() {
    let file = e5(&e5_payload()).unwrap();
    let header = header(&file);
    let table = header.tensor("token_embd.weight").unwrap();
    assert_eq!(
        (table.kind, table.extents.as_slice()),
        (TensorType::Q4_0, &[WIDTH as u64, PIECES as u64][..])
    );
    let expected: Vec<u8> = (0..PIECES * 18).map(|number| (number % 251) as u8).collect();
    assert_eq!(data(&file, &header, "token_embd.weight"), expected);
}

#[test]
fn special_pieces_are_never_matched_in_a_text() {
    let file = e5(&e5_payload()).unwrap();
    // control, control, control, unknown, normal, control
    let types = MetaArray::I32(vec![3, 3, 3, 2, 1, 3]);
    assert_eq!(header(&file).get("tokenizer.ggml.token_type"), Some(&types.into()));
}

#[test]
fn encoders_that_llama_cpp_would_stop_on_are_refused() {
    assert!(
        with(|config, _| config["num_attention_heads"] = 3.into()).is_err(),
        "heads do not divide the width"
    );
    assert!(with(|config, _| config["num_hidden_layers"] = 0.into()).is_err(), "no layers");
    assert!(with(|config, _| config["hidden_act"] = "relu".into()).is_err(), "another activation");
    assert!(with(|config, _| config["hidden_size"] = 64.into()).is_err(), "tensors of another width");
    assert!(with(|config, _| config["num_hidden_layers"] = 2.into()).is_err(), "missing tensors");
    assert!(with(|_, tokenizer| tokenizer["model"]["vocab"]["[UNK]"] = 0.into()).is_err(), "an id twice");
    assert!(with(|_, tokenizer| tokenizer["model"]["vocab"]["good"] = 99.into()).is_err(), "an id too large");
    assert!(
        with(|_, tokenizer| tokenizer["added_tokens"][0]["id"] = 99.into()).is_err(),
        "a special one too"
    );
    assert!(with(|_, _| {}).is_ok());
}

#[test]
fn an_archive_without_weights_names_what_is_missing() {
    let archive = super::testing::zip(&[("config.json", b"{}"), ("tokenizer.json", b"{}")]);
    let error = minilm(&archive).expect_err("refused");
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    assert!(minilm(b"not a zip").is_err());
}

#[test]
fn a_packed_model_cut_off_anywhere_is_refused() {
    let payload = e5_payload();
    for len in 0..payload.len() {
        assert!(e5(&payload[..len]).is_err(), "{len} of {} bytes passed", payload.len());
    }
}

proptest! {
    #[test]
    fn a_packed_model_with_flipped_bytes_never_panics(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut payload = e5_payload();
        // The header and the directory; flipping weights changes nothing that is read.
        for (index, value) in flips {
            let at = index.index(900);
            payload[at] = value;
        }
        let _ = e5(&payload);
    }
}
