use proptest::prelude::*;
use rstest::rstest;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn gemma() -> ModelFacts {
    ModelFacts {
        weights: 285_011_968,
        layers: 18,
        keys: 18 * 256,
        values: 18 * 256,
        heads: 4,
        width: 640,
        feed_forward: 2048,
        vocabulary: 262_144,
        sliding_window: true,
    }
}

fn smollm() -> ModelFacts {
    ModelFacts {
        weights: 143 * MIB,
        layers: 30,
        keys: 30 * 3 * 64,
        values: 30 * 3 * 64,
        heads: 9,
        width: 576,
        feed_forward: 1536,
        vocabulary: 49_152,
        sliding_window: false,
    }
}

fn context() -> ContextNeed {
    ContextNeed {
        sequences: 20,
        cells: 4096,
        unified: true,
        micro_batch: 512,
        keys: CacheType::F16,
        values: CacheType::F16,
        flash_attention: true,
        offload_kqv: true,
    }
}

fn gpu(number: usize, free: u64) -> Device {
    Device {
        number,
        name: format!("CUDA{number} (a card)"),
        backend: "CUDA".into(),
        kind: DeviceKind::Discrete,
        total: 24 * GIB,
        free,
    }
}

fn integrated(number: usize) -> Device {
    Device { kind: DeviceKind::Integrated, ..gpu(number, 8 * GIB) }
}

/// What llama.cpp said that it allocated on a CPU, with `-vv`.
#[rstest]
#[case::gemma(gemma(), context(), 72.0)]
#[case::gemma_with_more_cells(gemma(), ContextNeed { cells: 16_384, ..context() }, 288.0)]
#[case::gemma_split(gemma(), ContextNeed { unified: false, ..context() }, 90.0)]
#[case::smollm(smollm(), context(), 90.0)]
#[case::smollm_split(smollm(), ContextNeed { unified: false, ..context() }, 112.5)]
fn the_cache_is_what_the_library_allocates(
    #[case] model: ModelFacts,
    #[case] context: ContextNeed,
    #[case] mebibytes: f64,
) {
    let kv = Need::new(model, context, 1000).kv();
    assert!((kv as f64 / MIB as f64 - mebibytes).abs() < 1e-9, "{}", Bytes(kv));
}

#[rstest]
#[case::gemma(gemma(), context(), 526.50)]
#[case::gemma_without_flash_attention(gemma(), ContextNeed { flash_attention: false, ..context() }, 536.65)]
#[case::gemma_with_more_cells(gemma(), ContextNeed { cells: 16_384, ..context() }, 550.88)]
#[case::gemma_with_larger_batches(gemma(), ContextNeed { micro_batch: 1024, ..context() }, 1053.00)]
#[case::smollm(smollm(), context(), 106.92)]
#[case::smollm_without_flash_attention(smollm(), ContextNeed { flash_attention: false, ..context() }, 110.62)]
#[case::smollm_with_more_cells(smollm(), ContextNeed { cells: 16_384, ..context() }, 117.98)]
#[case::smollm_with_larger_batches(smollm(), ContextNeed { micro_batch: 1024, ..context() }, 213.84)]
fn the_compute_buffer_is_at_most_a_twentieth_over_what_the_library_allocates(
    #[case] model: ModelFacts,
    #[case] context: ContextNeed,
    #[case] mebibytes: f64,
) {
    let ratio = Need::new(model, context, 1000).compute() as f64 / MIB as f64 / mebibytes;
    assert!((1.0..1.05).contains(&ratio), "{ratio}");
}

#[test]
fn a_cell_of_a_seven_billion_model_is_56_kibibytes() {
    // 28 layers, 4 KV heads of 128 numbers, keys and values, two bytes.
    let model = ModelFacts { layers: 28, keys: 28 * 4 * 128, values: 28 * 4 * 128, ..gemma() };
    assert_eq!(Need::new(model, context(), 1000).cell(), 56 << 10);
    let smaller = ContextNeed { keys: CacheType::Q8_0, values: CacheType::Q8_0, ..context() };
    assert_eq!(Need::new(model, smaller, 1000).cell(), (56 << 10) * 17 / 32);
}

#[test]
fn facts_come_from_the_metadata_and_what_it_leaves_out_is_derived() {
    let values = [
        ("general.architecture", "llama"),
        ("llama.block_count", "30"),
        ("llama.attention.head_count", "9"),
        ("llama.attention.head_count_kv", "3"),
        ("llama.embedding_length", "576"),
        ("llama.feed_forward_length", "1536"),
    ];
    let get = |key: &str| values.iter().find(|(k, _)| *k == key).map(|(_, value)| (*value).to_owned());
    assert_eq!(ModelFacts::from_metadata(143 * MIB, 49_152, get), smollm());
}

#[test]
fn stated_head_sizes_windows_and_lists_by_layer_count() {
    let values = [
        ("general.architecture", "gemma3"),
        ("gemma3.block_count", "3"),
        ("gemma3.attention.head_count", "4"),
        ("gemma3.attention.head_count_kv", "[1, 2, 0]"),
        ("gemma3.attention.key_length", "256"),
        ("gemma3.attention.value_length", "128"),
        ("gemma3.attention.sliding_window", "512"),
        ("gemma3.embedding_length", "640"),
    ];
    let get = |key: &str| values.iter().find(|(k, _)| *k == key).map(|(_, value)| (*value).to_owned());
    let facts = ModelFacts::from_metadata(1, 2, get);
    assert_eq!((facts.keys, facts.values, facts.sliding_window), (3 * 256, 3 * 128, true));
}

#[test]
fn a_file_that_says_nothing_needs_its_weights_and_does_not_divide_by_zero() {
    let facts = ModelFacts::from_metadata(7, 0, |_| None);
    let need = Need::new(facts, context(), 5);
    assert_eq!((need.weights(), need.kv()), (7, 0));
}

#[test]
fn a_cache_that_stays_with_the_cpu_takes_nothing_on_the_gpu() {
    let need = Need::new(gemma(), ContextNeed { offload_kqv: false, ..context() }, 1000);
    assert_eq!(need.kv(), 0);
    assert!(need.total() < Need::new(gemma(), context(), 1000).total());
}

#[test]
fn every_type_of_cache_has_its_name() {
    for (name, kind) in CacheType::NAMED {
        assert_eq!(kind.name(), name);
    }
}

/// What is asked, what is there, and what comes of it.
#[derive(Debug, PartialEq)]
enum Outcome {
    Gpus(Vec<usize>),
    CpuAsked,
    CpuInstead,
    Refused(&'static str),
}

fn decide(layers: u32, devices: Option<&[u32]>, fallback: bool, support: bool, found: &[Device]) -> Outcome {
    let asked = Gpu { layers, devices: devices.map(<[u32]>::to_vec), cpu_fallback: fallback };
    let need = Need::new(gemma(), context(), u64::from(layers));
    match Placement::decide(&asked, support, found, &need) {
        Ok(Placement { instead: Some(_), devices, layers }) => {
            assert!(devices.is_empty() && layers == 0);
            Outcome::CpuInstead
        }
        Ok(placement) if placement.devices.is_empty() => Outcome::CpuAsked,
        Ok(placement) => Outcome::Gpus(placement.devices.iter().map(|device| device.number).collect()),
        Err(Shortfall::NoSupport) => Outcome::Refused("no support"),
        Err(Shortfall::NoDevice) => Outcome::Refused("no device"),
        Err(Shortfall::UnknownDevice { .. }) => Outcome::Refused("unknown device"),
        Err(Shortfall::TooSmall { .. }) => Outcome::Refused("too small"),
    }
}

#[rstest]
#[case::none_wanted_none_there(0, None, false, false, vec![], Outcome::CpuAsked)]
#[case::none_wanted_one_there(0, None, false, true, vec![gpu(0, 8 * GIB)], Outcome::CpuAsked)]
#[case::a_build_for_the_cpu(10, None, false, false, vec![], Outcome::Refused("no support"))]
#[case::a_build_for_the_cpu_that_may_use_it(10, None, true, false, vec![], Outcome::CpuInstead)]
#[case::no_device(10, None, false, true, vec![], Outcome::Refused("no device"))]
#[case::no_device_and_the_cpu_will_do(10, None, true, true, vec![], Outcome::CpuInstead)]
#[case::one_that_holds_it(1000, None, false, true, vec![gpu(0, 8 * GIB)], Outcome::Gpus(vec![0]))]
#[case::fallback_allowed_but_not_needed(1000, None, true, true, vec![gpu(0, 8 * GIB)], Outcome::Gpus(vec![0]))]
#[case::too_small(1000, None, false, true, vec![gpu(0, GIB)], Outcome::Refused("too small"))]
#[case::too_small_and_the_cpu_will_do(1000, None, true, true, vec![gpu(0, GIB)], Outcome::CpuInstead)]
#[case::discrete_ones_first(1000, None, false, true, vec![integrated(0), gpu(1, 8 * GIB), gpu(2, 8 * GIB)],
    Outcome::Gpus(vec![1, 2]))]
#[case::integrated_ones_if_there_are_no_others(1000, None, false, true, vec![integrated(1)], Outcome::Gpus(vec![1]))]
#[case::one_chosen(1000, Some(&[1][..]), false, true, vec![gpu(1, 8 * GIB), gpu(2, 8 * GIB)], Outcome::Gpus(vec![2]))]
#[case::one_chosen_that_is_not_there(1000, Some(&[2][..]), false, true, vec![gpu(1, 8 * GIB)],
    Outcome::Refused("unknown device"))]
#[case::the_chosen_one_is_too_small(1000, Some(&[0][..]), false, true, vec![gpu(0, GIB), gpu(1, 8 * GIB)],
    Outcome::Refused("too small"))]
fn the_models_go_where_they_fit_or_it_is_said_why_not(
    #[case] layers: u32,
    #[case] devices: Option<&[u32]>,
    #[case] fallback: bool,
    #[case] support: bool,
    #[case] found: Vec<Device>,
    #[case] outcome: Outcome,
) {
    assert_eq!(decide(layers, devices, fallback, support, &found), outcome);
}

#[test]
fn a_refusal_says_what_is_needed_what_is_free_and_what_would_fit() {
    let asked = Gpu { layers: 1000, ..Gpu::default() };
    let need = Need::new(gemma(), ContextNeed { cells: 1 << 20, ..context() }, 1000);
    let message = Placement::decide(&asked, true, &[gpu(0, 4 * GIB)], &need).unwrap_err().to_string();
    let cells = need.largest_cells(&[4 * GIB]);
    assert!(cells > 4096, "{cells}");
    assert!(message.contains(&format!("at most {cells}")), "{message}");
    assert!(message.contains("CUDA0 (a card)") && message.contains("4.0 GiB are free"), "{message}");
}

fn any_need() -> impl Strategy<Value = Need> {
    let model = (0..64 * GIB, 1..128_u64, 0..65_536_u64, 1..128_u64, 0..300_000_u64, any::<bool>());
    let context =
        (1..256_u64, 1..16_777_216_u64, any::<bool>(), 1..8192_u64, 0..4_usize, any::<bool>(), any::<bool>());
    (model, context, 1..200_u64).prop_map(|(m, c, layers)| {
        let model = ModelFacts {
            weights: m.0,
            layers: m.1,
            keys: m.1 * m.2,
            values: m.1 * m.2,
            heads: m.3,
            width: 4096,
            feed_forward: 11_008,
            vocabulary: m.4,
            sliding_window: m.5,
        };
        let kind = CacheType::NAMED[c.4].1;
        let context = ContextNeed {
            sequences: c.0,
            cells: c.1,
            unified: c.2,
            micro_batch: c.3,
            keys: kind,
            values: kind,
            flash_attention: c.5,
            offload_kqv: c.6,
        };
        Need::new(model, context, layers).with_embedder(ModelFacts { weights: 46 << 20, ..model }, 512)
    })
}

proptest! {
    #[test]
    fn what_fits_keeps_the_reserve_and_one_step_more_than_the_largest_does_not_fit(
        need in any_need(),
        free in prop::collection::vec(0..100 * GIB, 1..4),
    ) {
        let devices = free.len() as u64;
        let room: u64 = free.iter().map(|free| free.saturating_sub(RESERVE)).sum();
        prop_assert_eq!(need.fits(&free), need.total_with(need.cells(), devices) <= room);
        let largest = need.largest_cells(&free);
        if largest > 0 {
            prop_assert!(need.total_with(largest, devices) <= room);
        }
        if largest + CELL_STEP < MOST_CELLS {
            prop_assert!(need.total_with(largest + CELL_STEP, devices) > room);
        }
        // Cells of many pools are no multiple of one step, but what fits is never more than the largest.
        if need.fits(&free) {
            prop_assert!(need.cells() <= largest);
        }
    }

    #[test]
    fn fewer_layers_never_need_more(need in any_need(), fewer in 0..200_u64) {
        let less = Need { layers: need.layers.min(fewer), ..need };
        prop_assert!(less.total() <= need.total());
        prop_assert!(less.weights() <= need.model.weights);
    }

    #[test]
    fn more_free_memory_never_refuses_what_fitted(need in any_need(), free in 0..100 * GIB, more in 0..10 * GIB) {
        prop_assert!(!need.fits(&[free]) || need.fits(&[free + more]));
        prop_assert!(need.largest_cells(&[free]) <= need.largest_cells(&[free + more]));
    }

    #[test]
    fn the_cpu_is_never_used_unless_it_was_asked_for_or_allowed(
        need in any_need(),
        layers in 1..100_u32,
        support in any::<bool>(),
        free in prop::collection::vec(0..32 * GIB, 0..3),
    ) {
        let found: Vec<Device> = free.iter().enumerate().map(|(n, free)| gpu(n, *free)).collect();
        let asked = Gpu { layers, devices: None, cpu_fallback: false };
        match Placement::decide(&asked, support, &found, &need) {
            Ok(placement) => prop_assert!(!placement.devices.is_empty() && placement.layers == layers),
            Err(_) => prop_assert!(found.is_empty() || !need.fits(&free)),
        }
        let allowed = Gpu { cpu_fallback: true, ..asked };
        prop_assert!(Placement::decide(&allowed, support, &found, &need).is_ok());
    }
}
