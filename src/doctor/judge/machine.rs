//! The machine: memory, cores, GPUs, open files.

use super::bytes;
use super::models::{FoundModel, ModelsFacts};
use crate::config::{EngineKind, Settings};
use crate::doctor::catalogue as known;
use crate::doctor::finding::{Check, Finding};
use crate::engine::fit::{ContextNeed, Device, Gpu, ModelFacts, Need, Placement, Shortfall, names};
use crate::runtime::{EMBED_TEXT_TOKENS, PREFIXES};

/// Connections to servers and files of models take dozens; a client that connects to health takes one each.
const FILES: u64 = 1024;

/// The machine, as far as this process may use it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineFacts {
    /// Cores that this process may use, its quota of time included.
    pub cores: Option<u32>,
    /// Bytes of memory that the machine has.
    pub memory: Option<u64>,
    /// Bytes of it that can be had now.
    pub memory_free: Option<u64>,
    /// Bytes that this process' group may have, and has; absent where there is no bound.
    pub memory_bound: Option<(u64, u64)>,
    /// Files that this process may open.
    pub open_files: Option<u64>,
    /// Whether something keeps the clock right.
    pub is_clock_kept: Option<bool>,
    /// GPUs.
    pub gpus: GpuFacts,
}

/// GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuFacts {
    /// What this program can drive beside the CPU.
    pub build: GpuBuild,
    /// What NVIDIA's library sees, and its driver's version; else why it sees nothing.
    pub seen: Result<(Vec<Device>, String), String>,
}

/// What this program can drive beside the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuBuild {
    /// Nothing.
    None,
    /// NVIDIA's GPUs, which NVIDIA's library sees as well.
    Cuda,
    /// GPUs that other libraries see.
    Other,
}

impl Default for GpuFacts {
    fn default() -> Self {
        Self { build: GpuBuild::None, seen: Err("not looked for".to_owned()) }
    }
}

/// `is_worker_here`: a worker of this installation runs here, and has the memory that it needs already.
pub fn judge(
    facts: &MachineFacts,
    models: Option<&ModelsFacts>,
    is_worker_here: bool,
    settings: &Settings,
) -> Vec<Finding> {
    let need = models.and_then(|models| need(models, settings));
    vec![
        memory(facts, need.as_ref(), is_worker_here, settings),
        cores(facts.cores, settings),
        gpu(&facts.gpus, need.as_ref(), settings),
        files(facts.open_files),
    ]
}

/// What the models need on the device that takes `engine.gpu_layers`, with everything that is known.
fn need(models: &ModelsFacts, settings: &Settings) -> Option<Need> {
    let engine = &settings.engine;
    let language = models.language.as_ref().ok()?;
    let on_cpu = engine.gpu_layers == 0;
    let context = ContextNeed {
        sequences: u64::from(engine.sequences) + u64::from(PREFIXES),
        cells: u64::from(engine.context_cells),
        unified: engine.kv_unified,
        micro_batch: u64::from(engine.micro_batch_tokens),
        keys: engine.cache_type_k,
        values: engine.cache_type_v,
        flash_attention: engine.flash_attention,
        // In the machine's memory lies all of it.
        offload_kqv: engine.offload_kqv || on_cpu,
    };
    let layers = if on_cpu { u64::MAX } else { u64::from(engine.gpu_layers) };
    let alone = Need::new(language.needs, context, layers);
    let embedders = models.embeddings.iter().filter_map(|(_, model)| model.as_ref().ok());
    let tokens = u64::from(engine.embed_batch_tokens.max(EMBED_TEXT_TOKENS));
    Some(embedders.fold(alone, |need, FoundModel { needs, .. }| need.with_embedder(*needs, tokens)))
}

fn memory(facts: &MachineFacts, need: Option<&Need>, is_worker_here: bool, settings: &Settings) -> Finding {
    let check = Check::Memory;
    let Some(total) = facts.memory else {
        return Finding::skipped(check, "this machine does not tell", "compare docs/SIZING.md by hand");
    };
    let bound = facts.memory_bound.map(|(bound, _)| bound);
    let limit = bound.map_or(total, |bound| bound.min(total));
    let left_of_bound = facts.memory_bound.map(|(bound, used)| bound.saturating_sub(used));
    let free = facts.memory_free.into_iter().chain(left_of_bound).min();
    let told =
        format!("{} of memory{}", bytes(limit), if bound.is_some() { ", bounded by its group" } else { "" });
    if settings.engine.backend == EngineKind::Sim || settings.engine.gpu_layers > 0 {
        return Finding::ok(check, told);
    }
    let Some(need) = need.map(Need::total) else { return Finding::behind(check, Check::ModelLanguage) };
    let saw = format!("{told}, about {} needed", bytes(need));
    if need > limit {
        let values: [(&str, &dyn std::fmt::Display); 2] =
            [("needed", &bytes(need)), ("limit", &bytes(limit))];
        return Finding::known(&known::MEMORY_SHORT, saw, &values);
    }
    match free.filter(|free| *free < need && !is_worker_here) {
        Some(free) => {
            Finding::known(&known::MEMORY_TIGHT, saw, &[("needed", &bytes(need)), ("free", &bytes(free))])
        }
        None => Finding::ok(check, saw),
    }
}

fn cores(cores: Option<u32>, settings: &Settings) -> Finding {
    let Some(cores) = cores else {
        return Finding::skipped(Check::Cpu, "this machine does not tell", "set `engine.threads` by hand");
    };
    match settings.engine.threads.map(std::num::NonZero::get) {
        Some(threads) if threads > cores => Finding::known(
            &known::CPU_CROWDED,
            format_args!("{threads} threads on {cores} cores"),
            &[("threads", &threads), ("cores", &cores)],
        ),
        Some(threads) => Finding::ok(Check::Cpu, format_args!("{threads} threads on {cores} cores")),
        None => Finding::ok(Check::Cpu, format_args!("{cores} cores, a thread each")),
    }
}

fn gpu(facts: &GpuFacts, need: Option<&Need>, settings: &Settings) -> Finding {
    let engine = &settings.engine;
    if engine.backend == EngineKind::Sim {
        let mend = "set `engine.backend` to \"llama\" to use one";
        return Finding::skipped(Check::Gpu, "`engine.backend` is \"sim\": no GPU is used", mend);
    }
    if engine.gpu_layers == 0 {
        return match &facts.seen {
            Ok((gpus, _)) if !gpus.is_empty() => {
                let gpus = names(gpus);
                Finding::known(&known::GPU_UNUSED, &gpus, &[("gpus", &gpus)])
            }
            _ => Finding::ok(Check::Gpu, "none asked for, and none seen"),
        };
    }
    if facts.build == GpuBuild::Other {
        let mend = "start a worker with -v: it names the GPUs that it finds";
        return Finding::skipped(
            Check::Gpu,
            "only NVIDIA's library is asked, and this build uses another",
            mend,
        );
    }
    let found = facts.seen.as_ref().map_or(&[][..], |(gpus, _)| gpus);
    let asked = Gpu { layers: engine.gpu_layers, devices: engine.devices.clone(), cpu_fallback: false };
    // Of models that are not there it is not known what they need, and their absence is told elsewhere.
    let nothing = Need::new(ModelFacts::default(), no_context(), 0);
    let placed = Placement::decide(&asked, facts.build == GpuBuild::Cuda, found, need.unwrap_or(&nothing));
    match placed {
        Ok(placement) if facts.build == GpuBuild::Cuda => {
            let driver = facts.seen.as_ref().map_or("", |(_, driver)| driver.as_str());
            Finding::ok(Check::Gpu, format_args!("{}, driver {driver}", names(&placement.devices)))
        }
        // It would fit, if the program could use it.
        Ok(_) => shortfall(&Shortfall::NoSupport, facts, engine.cpu_fallback),
        Err(short) => shortfall(&short, facts, engine.cpu_fallback),
    }
}

fn no_context() -> ContextNeed {
    ContextNeed {
        sequences: 1,
        cells: 0,
        unified: true,
        micro_batch: 0,
        keys: crate::engine::fit::CacheType::F16,
        values: crate::engine::fit::CacheType::F16,
        flash_attention: true,
        offload_kqv: true,
    }
}

fn shortfall(short: &Shortfall, facts: &GpuFacts, cpu_fallback: bool) -> Finding {
    let known = match short {
        _ if facts.build == GpuBuild::None => &known::GPU_NO_SUPPORT,
        Shortfall::NoSupport => &known::GPU_NO_SUPPORT,
        Shortfall::NoDevice => &known::GPU_NONE,
        Shortfall::UnknownDevice { .. } => &known::GPU_UNKNOWN,
        Shortfall::TooSmall { .. } => &known::GPU_TOO_SMALL,
    };
    let told = match (&facts.seen, short) {
        (Err(why), Shortfall::NoDevice | Shortfall::NoSupport) => why.clone(),
        _ => short.to_string(),
    };
    let finding = Finding::known(known, &told, &[("told", &told)]);
    // Then the CPU stands in.
    if cpu_fallback { finding.only_warned() } else { finding }
}

fn files(open_files: Option<u64>) -> Finding {
    match open_files {
        None => Finding::skipped(Check::LimitFiles, "this machine does not tell", "ask ulimit -n"),
        Some(limit) if limit < FILES => {
            Finding::known(&known::LIMIT_FILES, limit, &[("limit", &limit), ("wanted", &FILES)])
        }
        Some(limit) => Finding::ok(Check::LimitFiles, format_args!("{limit} files and connections")),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::doctor::finding::Status;
    use crate::doctor::judge::testing::{assert_well, codes, mend, one};
    use crate::engine::fit::DeviceKind;

    /// A model of 300 MB, as gemma-3-270m.
    fn models() -> ModelsFacts {
        let needs = ModelFacts {
            weights: 300 << 20,
            layers: 18,
            keys: 4608,
            values: 4608,
            heads: 4,
            width: 640,
            feed_forward: 2048,
            vocabulary: 262_144,
            sliding_window: true,
        };
        let model = FoundModel {
            name: "m".into(),
            bytes: 300 << 20,
            digest: "0".into(),
            is_vouched_for: true,
            needs,
        };
        ModelsFacts { is_built_in: true, language: Ok(model), embeddings: Vec::new() }
    }

    fn device(number: usize, free: u64) -> Device {
        Device {
            number,
            name: format!("GPU {number}"),
            backend: "CUDA".into(),
            kind: DeviceKind::Discrete,
            total: 24 << 30,
            free,
        }
    }

    fn well() -> MachineFacts {
        MachineFacts {
            cores: Some(8),
            memory: Some(16 << 30),
            memory_free: Some(8 << 30),
            memory_bound: None,
            open_files: Some(65_536),
            is_clock_kept: Some(true),
            gpus: GpuFacts { build: GpuBuild::Cuda, seen: Ok((Vec::new(), "550".into())) },
        }
    }

    fn with_gpus(build: GpuBuild, gpus: Vec<Device>) -> MachineFacts {
        MachineFacts { gpus: GpuFacts { build, seen: Ok((gpus, "550.54".into())) }, ..well() }
    }

    fn on_gpu() -> Settings {
        let mut settings = Settings::default();
        settings.engine.gpu_layers = crate::config::ALL_LAYERS;
        settings
    }

    fn judged(facts: &MachineFacts, settings: &Settings) -> Vec<Finding> {
        judge(facts, Some(&models()), false, settings)
    }

    #[test]
    fn a_machine_with_room_is_well() {
        let found = judged(&well(), &Settings::default());
        assert_well(&found);
        assert_eq!(one(&found, Check::Cpu).saw, "8 cores, a thread each");
        let found = judged(&with_gpus(GpuBuild::Cuda, vec![device(0, 20 << 30)]), &on_gpu());
        assert_well(&found);
        assert_eq!(one(&found, Check::Gpu).saw, "GPU 0, driver 550.54");
    }

    #[test]
    fn models_that_do_not_fit_into_the_memory_fail_and_a_bound_counts() {
        let small = MachineFacts { memory: Some(512 << 20), memory_free: Some(400 << 20), ..well() };
        let bounded = MachineFacts { memory_bound: Some((512 << 20, 0)), ..well() };
        for facts in [small, bounded] {
            let found = judged(&facts, &Settings::default());
            assert_eq!(codes(&found), ["memory.short"]);
            assert_eq!(
                mend(&found, Check::Memory),
                "lower `engine.context_cells` or `engine.micro_batch_tokens`, choose a smaller model, or give it \
                 more memory"
            );
        }
    }

    #[test]
    fn too_little_free_memory_is_a_warning_unless_the_worker_has_taken_it() {
        let facts = MachineFacts { memory_free: Some(100 << 20), ..well() };
        assert_eq!(codes(&judged(&facts, &Settings::default())), ["memory.tight"]);
        assert_well(&judge(&facts, Some(&models()), true, &Settings::default()));
        let used = MachineFacts { memory_bound: Some((4 << 30, 4 << 30)), ..well() };
        assert_eq!(codes(&judged(&used, &Settings::default())), ["memory.tight"]);
    }

    #[test]
    fn without_the_model_nobody_knows_what_it_needs() {
        let found = judge(&well(), None, false, &Settings::default());
        assert_well(&found);
        assert_eq!(one(&found, Check::Memory).status, Status::Skipped);
    }

    #[test]
    fn more_threads_than_cores_are_a_warning() {
        let mut settings = Settings::default();
        settings.engine.threads = NonZeroU32::new(16);
        let found = judged(&well(), &settings);
        assert_eq!(codes(&found), ["cpu.crowded"]);
        assert_eq!(mend(&found, Check::Cpu), "set `engine.threads` to 0, which takes as many as there are");
    }

    #[test]
    fn each_way_in_which_a_gpu_cannot_be_used_has_its_code_and_the_cpu_may_stand_in() {
        let mut third = on_gpu();
        third.engine.devices = Some(vec![3]);
        let one_gpu = |free| vec![device(0, free)];
        for (facts, settings, code) in [
            (with_gpus(GpuBuild::None, one_gpu(20 << 30)), on_gpu(), "gpu.no_support"),
            (with_gpus(GpuBuild::None, vec![]), on_gpu(), "gpu.no_support"),
            (with_gpus(GpuBuild::Cuda, vec![]), on_gpu(), "gpu.none"),
            (with_gpus(GpuBuild::Cuda, one_gpu(20 << 30)), third, "gpu.unknown_device"),
            (with_gpus(GpuBuild::Cuda, one_gpu(600 << 20)), on_gpu(), "gpu.too_small"),
        ] {
            let found = judged(&facts, &settings);
            assert_eq!(codes(&found), [code]);
            assert_eq!(one(&found, Check::Gpu).status, Status::Fail);
            let mut settings = settings;
            settings.engine.cpu_fallback = true;
            assert_eq!(one(&judged(&facts, &settings), Check::Gpu).status, Status::Warn, "{code}");
        }
    }

    #[test]
    fn a_missing_library_is_the_reason_that_is_told() {
        let gpus = GpuFacts { build: GpuBuild::Cuda, seen: Err("no libnvidia-ml.so.1".into()) };
        let found = judged(&MachineFacts { gpus, ..well() }, &on_gpu());
        assert_eq!(
            one(&found, Check::Gpu).means.as_deref(),
            Some("`engine.gpu_layers` asks for a GPU, and none is seen: no libnvidia-ml.so.1")
        );
    }

    #[test]
    fn a_gpu_that_nothing_uses_is_a_warning() {
        let found = judged(&with_gpus(GpuBuild::None, vec![device(0, 1)]), &Settings::default());
        assert_eq!(codes(&found), ["gpu.unused"]);
        assert_eq!(one(&found, Check::Gpu).command.as_deref(), Some("make build FEATURES=cuda"));
    }

    #[test]
    fn gpus_of_other_makers_are_not_judged() {
        let found = judged(&with_gpus(GpuBuild::Other, vec![]), &on_gpu());
        assert_well(&found);
        assert_eq!(one(&found, Check::Gpu).status, Status::Skipped);
    }

    #[test]
    fn few_open_files_are_a_warning() {
        let found = judged(&MachineFacts { open_files: Some(256), ..well() }, &Settings::default());
        assert_eq!(codes(&found), ["limit.files"]);
        assert_eq!(one(&found, Check::LimitFiles).command.as_deref(), Some("ulimit -n 1024"));
    }
}
