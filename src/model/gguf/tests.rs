//! What is written reads back; what is damaged is refused; nothing makes the reader panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::read(bytes, bytes.len() as u64, Arrays::Keep)
}

fn written(file: &GgufBuilder<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let len = file.write_to(&mut bytes).unwrap();
    assert_eq!(len, bytes.len() as u64);
    bytes
}

fn small_file() -> Vec<u8> {
    let mut file = GgufBuilder::new();
    file.set("general.architecture", "bert")
        .set("bert.context_length", 512)
        .set("bert.pooling_type", 1)
        .set("general.file_type", 8)
        .set("tokenizer.ggml.tokens", MetaArray::String(vec!["[PAD]".into(), "▁맛".into()]))
        .set("tokenizer.ggml.scores", MetaArray::F32(vec![0.0, -1.5]));
    file.tensor("a.weight", TensorType::F32, &[3, 2], vec![1; 24]).unwrap();
    file.tensor("b.weight", TensorType::Q4_0, &[32, 2], vec![2; 36]).unwrap();
    written(&file)
}

/// Bytes of a file: magic, version and the two counts, then `rest`.
fn raw(version: u32, tensors: u64, pairs: u64, rest: &[u8]) -> Vec<u8> {
    let counts = [tensors.to_le_bytes(), pairs.to_le_bytes()].concat();
    [&MAGIC[..], &version.to_le_bytes(), &counts, rest].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

#[test]
fn a_header_says_what_the_model_is() {
    let summary = read(&small_file()).unwrap().summary();
    assert_eq!(summary.architecture, "bert");
    assert_eq!(summary.context_length, Some(512));
    assert_eq!(summary.vocabulary, Some(2));
    assert_eq!(summary.parameters, 6 + 64);
    assert!(summary.pools && !summary.has_chat_template);
    // 8 is Q5_0 as a file type, not as a tensor type.
    assert_eq!(summary.quantization, "Q5_0");
}

#[test]
fn a_file_that_does_not_state_its_type_is_named_after_most_of_its_bytes() {
    let mut file = GgufBuilder::new();
    file.tensor("a", TensorType::F32, &[2], vec![0; 8]).unwrap();
    file.tensor("b", TensorType::Q8_0, &[64], vec![0; 68]).unwrap();
    assert_eq!(read(&written(&file)).unwrap().summary().quantization, "Q8_0");
}

#[test]
fn skipped_arrays_keep_their_length() {
    let bytes = small_file();
    let header = Header::read(&bytes[..], bytes.len() as u64, Arrays::Skip).unwrap();
    let skipped = MetaArray::Skipped { element: ValueType::String, len: 2 };
    assert_eq!(header.get("tokenizer.ggml.tokens"), Some(&skipped.into()));
    assert_eq!(header.tensors, read(&bytes).unwrap().tensors);
}

#[test]
fn a_file_cut_off_anywhere_is_refused_as_truncated() {
    let bytes = small_file();
    // The last tensor's padding carries nothing: without it the file is still whole.
    let whole = bytes.len() - bytes.len() % 32 - 32 + (36 % 32);
    for len in 0..whole {
        let error = read(&bytes[..len]).expect_err("a part passed for the whole");
        assert!(matches!(error, GgufError::Truncated { .. }), "at {len}: {error}");
    }
    assert!(read(&bytes[..whole]).is_ok());
}

#[test]
fn a_file_shorter_than_it_claims_to_be_is_an_error_not_a_panic() {
    let bytes = small_file();
    assert!(Header::read(&bytes[..40], 1 << 40, Arrays::Keep).is_err());
    assert!(Header::read(&bytes[..200], 1 << 40, Arrays::Skip).is_err());
}

#[test]
fn other_formats_versions_and_byte_orders_are_told_apart() {
    assert!(matches!(read(b"PK\x03\x04 a zip archive, not a model"), Err(GgufError::NotGguf { .. })));
    assert!(matches!(read(&raw(1, 0, 0, &[])), Err(GgufError::UnsupportedVersion(1))));
    assert!(matches!(read(&raw(4, 0, 0, &[])), Err(GgufError::UnsupportedVersion(4))));
    assert!(matches!(read(&raw(3_u32.swap_bytes(), 0, 0, &[])), Err(GgufError::BigEndian)));
    assert!(read(&raw(2, 0, 0, &[])).is_ok());
}

#[test]
fn counts_beyond_the_file_are_refused_before_anything_is_allocated() {
    for (tensors, pairs) in [(u64::MAX, 0), (0, u64::MAX), (1 << 40, 1 << 40)] {
        assert!(read(&raw(3, tensors, pairs, &[0; 64])).is_err());
    }
    let array = |element: u32, len: u64| {
        let tags = [ValueType::Array as u32, element].map(u32::to_le_bytes).concat();
        raw(3, 0, 1, &[string("key"), tags, len.to_le_bytes().to_vec()].concat())
    };
    for element in 0..=13 {
        for len in [1 << 20, 1 << 61, u64::MAX] {
            assert!(read(&array(element, len)).is_err(), "element {element}, {len}");
        }
    }
    let text =
        [string("key"), (ValueType::String as u32).to_le_bytes().to_vec(), u64::MAX.to_le_bytes().to_vec()];
    assert!(read(&raw(3, 0, 1, &text.concat())).is_err());
}

#[test]
fn impossible_shapes_are_refused() {
    let tensor = |extents: &[u64], kind: u32, offset: u64| {
        let mut rest = string("t");
        rest.extend((extents.len() as u32).to_le_bytes());
        rest.extend(extents.iter().flat_map(|extent| extent.to_le_bytes()));
        rest.extend(kind.to_le_bytes());
        rest.extend(offset.to_le_bytes());
        rest.extend([0; 256]);
        read(&raw(3, 1, 0, &rest))
    };
    assert!(tensor(&[4], 0, 0).is_ok());
    assert!(tensor(&[u64::MAX, 2], 0, 0).is_err(), "overflow");
    assert!(tensor(&[u64::MAX / 4], 0, 32).is_err(), "end overflows");
    assert!(tensor(&[33], 2, 0).is_err(), "half a block");
    assert!(tensor(&[1; 5], 0, 0).is_err(), "five dimensions");
    assert!(tensor(&[4], 0, 1).is_err(), "not aligned");
    assert!(tensor(&[4], 77, 0).is_ok(), "a type of the future can be described");
}

#[test]
fn keys_and_names_are_unique() {
    let pair = [string("key"), (ValueType::U8 as u32).to_le_bytes().to_vec(), vec![1]].concat();
    assert!(read(&raw(3, 0, 2, &[pair.clone(), pair].concat())).is_err());
    let mut file = GgufBuilder::new();
    file.tensor("a", TensorType::F32, &[1], vec![0; 4]).unwrap();
    assert!(file.tensor("a", TensorType::F32, &[1], vec![0; 4]).is_err());
}

#[test]
fn the_writer_refuses_data_that_does_not_fill_the_shape() {
    let mut file = GgufBuilder::new();
    let error = file.tensor("a", TensorType::F16, &[4], vec![0; 9]).err().expect("refused");
    assert!(matches!(error, GgufError::WrongTensorSize { needed: 8, actual: 9, .. }));
    assert!(file.tensor("a", TensorType::F16, &[], vec![]).is_err());
    assert!(file.tensor("a", TensorType(77), &[4], vec![0; 9]).is_err());
}

#[test]
fn a_stated_alignment_is_honoured() {
    let mut file = GgufBuilder::new();
    file.set("general.alignment", 128);
    file.tensor("a", TensorType::F32, &[1], vec![7; 4]).unwrap();
    file.tensor("b", TensorType::F32, &[1], vec![8; 4]).unwrap();
    let bytes = written(&file);
    let header = read(&bytes).unwrap();
    assert_eq!((header.data_offset % 128, header.tensors[1].offset), (0, 128));
    let start = (header.data_offset + 128) as usize;
    assert_eq!(bytes[start..start + 4], [8; 4]);
}

fn any_array() -> impl Strategy<Value = MetaArray> {
    prop_oneof![
        vec(any::<u8>(), 0..20).prop_map(MetaArray::U8),
        vec(any::<i8>(), 0..20).prop_map(MetaArray::I8),
        vec(any::<u16>(), 0..20).prop_map(MetaArray::U16),
        vec(any::<i32>(), 0..20).prop_map(MetaArray::I32),
        vec(-1e30_f32..1e30, 0..20).prop_map(MetaArray::F32),
        vec(any::<bool>(), 0..20).prop_map(MetaArray::Bool),
        vec(".{0,8}", 0..20).prop_map(MetaArray::String),
        vec(any::<u64>(), 0..20).prop_map(MetaArray::U64),
        vec(-1e300_f64..1e300, 0..20).prop_map(MetaArray::F64),
    ]
}

fn any_value() -> impl Strategy<Value = MetaValue> {
    prop_oneof![
        any::<u8>().prop_map(MetaValue::U8),
        any::<i16>().prop_map(MetaValue::I16),
        any::<u32>().prop_map(MetaValue::U32),
        (-1e30_f32..1e30).prop_map(MetaValue::F32),
        any::<bool>().prop_map(MetaValue::Bool),
        ".{0,30}".prop_map(MetaValue::String),
        any::<i64>().prop_map(MetaValue::I64),
        (-1e300_f64..1e300).prop_map(MetaValue::F64),
        any_array().prop_map(MetaValue::Array),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        metadata in prop::collection::btree_map("[a-z.]{1,12}", any_value(), 0..12),
        shapes in vec((vec(1_u64..5, 1..=4), any::<u8>()), 0..6),
    ) {
        let mut file = GgufBuilder::new();
        for (key, value) in &metadata {
            file.set(key, value.clone());
        }
        for (index, (extents, fill)) in shapes.iter().enumerate() {
            let bytes = extents.iter().product::<u64>() as usize * 4;
            file.tensor(format!("t{index}"), TensorType::F32, extents, vec![*fill; bytes]).unwrap();
        }
        let bytes = written(&file);
        let header = read(&bytes).unwrap();
        prop_assert_eq!(header.metadata, metadata.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(header.tensors.len(), shapes.len());
        for (tensor, (extents, fill)) in header.tensors.iter().zip(&shapes) {
            prop_assert_eq!(&tensor.extents, extents);
            let start = (header.data_offset + tensor.offset) as usize;
            let data = &bytes[start..start + tensor.size.unwrap() as usize];
            prop_assert!(data.iter().all(|byte| byte == fill));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(rest in vec(any::<u8>(), 0..400), tensors in 0_u64..4, pairs in 0_u64..4) {
        let _ = read(&raw(3, tensors, pairs, &rest));
    }

    #[test]
    fn a_file_with_flipped_bytes_never_panics(flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = small_file();
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(header) = read(&bytes) {
            let _ = header.summary();
        }
    }
}
