use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::engine::fit::CacheType;

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn scope_flag(value: &str) -> Override {
    Override { key: "analysis.scope", flag: "--scope", value: value.to_owned() }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn problems(error: ConfigError) -> Vec<Problem> {
    match error {
        ConfigError::Problems(problems) => problems,
        other => panic!("expected problems, found: {other}"),
    }
}

#[test]
fn the_defaults_are_valid() {
    let settings = Settings::default();
    assert_eq!(settings.engine.sequences, 8);
    assert_eq!(settings.engine.threads, None);
    assert_eq!(settings.goodput.ttft, Duration::from_secs(2));
    assert_eq!(settings.analysis.analyses, Analysis::ALL);
    assert_eq!(settings.store.cache, Cache::Auto);
}

#[test]
fn the_default_limits_are_those_of_the_wire() {
    assert_eq!(Settings::default().limits, Limits::default());
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = file("[analysis]\nscope = \"selected\"\ntop_k = 5\nwords = false\n");
    let variables =
        environment(&[("MAITRED__ANALYSIS__TOP_K", "7"), ("MAITRED__ANALYSIS__SCOPE", "selected")]);
    let config = Config::load(Some(file.path()), &variables, &[scope_flag("all")]).unwrap();
    assert_eq!(config.settings.analysis.scope, Scope::All);
    assert_eq!(config.settings.analysis.top_k, 7);
    assert!(!config.settings.analysis.words);
    assert_eq!(config.settings.engine.sequences, 8);
}

#[test]
fn every_value_names_its_source() {
    let file = file("[engine]\nsequences = 4\n");
    let variables = environment(&[("MAITRED__ANALYSIS__TOP_K", "7"), ("PATH", "/bin")]);
    let config = Config::load(Some(file.path()), &variables, &[scope_flag("selected")]).unwrap();
    let origin = |key: &str| config.entries[key].origin.clone();
    assert_eq!(origin("engine.sequences"), format!("file {}", file.path().display()));
    assert_eq!(origin("analysis.top_k"), "environment MAITRED__ANALYSIS__TOP_K");
    assert_eq!(origin("analysis.scope"), "flag --scope");
    assert_eq!(origin("log.level"), "default");
}

#[test]
fn an_unknown_key_fails_and_names_the_nearest() {
    let file = file("[engine]\nsequenses = 4\n");
    let found = problems(Config::load(Some(file.path()), &[], &[]).unwrap_err());
    assert_eq!(found[0].key, "engine.sequenses");
    assert!(found[0].message.contains("`engine.sequences`"), "{}", found[0]);
    assert!(found[0].origin.ends_with(&file.path().display().to_string()));
}

#[test]
fn an_unknown_variable_fails_and_names_the_nearest_key() {
    let variables = environment(&[("MAITRED__GOODPUT__TTTF", "1s")]);
    let found = problems(Config::load(None, &variables, &[]).unwrap_err());
    assert_eq!(found[0].origin, "environment MAITRED__GOODPUT__TTTF");
    assert!(found[0].message.contains("`goodput.ttft`"), "{}", found[0]);
}

#[rstest]
#[case::a_section_set_like_a_key("engine = 3\n", "engine")]
#[case::a_key_set_like_a_section("[engine.sequences]\na = 1\n", "engine.sequences.a")]
#[case::an_empty_unknown_section("[engin]\n", "engin")]
fn a_value_of_the_wrong_shape_is_named(#[case] text: &str, #[case] key: &str) {
    let file = file(text);
    let found = problems(Config::load(Some(file.path()), &[], &[]).unwrap_err());
    assert_eq!(found[0].key, key, "{}", found[0]);
}

#[rstest]
#[case("MAITRED__ENGINE__SEQUENCES", "0", "from 1 to")]
#[case("MAITRED__ENGINE__SEQUENCES", "many", "from 1 to")]
#[case("MAITRED__ENGINE__STEP_LIMIT", "0s", "duration above zero")]
#[case("MAITRED__ENGINE__KV_UNIFIED", "perhaps", "true or false")]
#[case("MAITRED__ENGINE__BATCH_TOKENS", "8192", "`engine.context_cells` (4096)")]
#[case("MAITRED__ENGINE__MICRO_BATCH_TOKENS", "1024", "`engine.batch_tokens` (512)")]
#[case("MAITRED__ENGINE__MICRO_BATCH_TOKENS", "1", "from 32 to 65536 or \"auto\"")]
#[case("MAITRED__ENGINE__CACHE_TYPE_K", "q3", "\"f16\" or \"bf16\" or \"q8_0\" or \"q4_0\"")]
#[case("MAITRED__ENGINE__GPU_LAYERS", "most", "from 0 to 10000 or \"all\"")]
#[case("MAITRED__ENGINE__DEVICES", "0,0", "\"auto\" or at most 16 different numbers")]
#[case("MAITRED__ENGINE__DEVICES", "", "\"auto\" or at most 16 different numbers")]
#[case("MAITRED__ENGINE__CPU_FALLBACK", "maybe", "true or false")]
#[case("MAITRED__SCHEDULER__LAMBDA", "NaN", "from 0 to")]
#[case("MAITRED__SCHEDULER__ORDER", "lifo", "\"prefill_cost\" or \"fifo\"")]
#[case("MAITRED__ANALYSIS__ANALYSES", "sentiment,taste", "sentiment, summary, strengths")]
#[case("MAITRED__ANALYSIS__ANALYSES", "", "at least one")]
#[case("MAITRED__ANALYSIS__NEGATIVE_THRESHOLD", "0.7", "`analysis.positive_threshold` (0.6)")]
#[case("MAITRED__LIMITS__BYTES_PER_JOB", "lots", "64 MiB")]
#[case("MAITRED__MODELS__LANGUAGE", " ", "not empty")]
#[case("MAITRED__TELEMETRY__OTLP_ENDPOINT", "collector:4318", "a URL such as")]
#[case("MAITRED__TELEMETRY__OTLP_ENDPOINT", "http://", "a URL such as")]
#[case("MAITRED__TELEMETRY__TRACE_RATIO", "1.5", "from 0 to 1")]
fn a_bad_value_says_what_is_allowed_and_where_it_stands(
    #[case] name: &str,
    #[case] value: &str,
    #[case] allowed: &str,
) {
    let found = problems(Config::load(None, &environment(&[(name, value)]), &[]).unwrap_err());
    assert_eq!(found.len(), 1);
    let message = found[0].to_string();
    assert!(message.contains(allowed), "{message}");
    assert!(message.contains(&format!("environment {name}")), "{message}");
    assert!(message.contains(&format!("`{value}`")), "{message}");
}

#[test]
fn the_collector_that_everybody_is_told_of_counts_unless_ours_is_told_otherwise() {
    let endpoint = |file: Option<&Path>, variables: &[(&str, &str)]| {
        Config::load(file, &environment(variables), &[]).unwrap().settings.telemetry.otlp_endpoint
    };
    let common = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
    assert_eq!(endpoint(None, &[]), None);
    assert_eq!(endpoint(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None, "an empty variable is none");
    assert_eq!(endpoint(None, &[common]).as_deref(), Some("http://collector:4318"));
    let none = file("[telemetry]\notlp_endpoint = \"none\"\n");
    assert_eq!(endpoint(Some(none.path()), &[common]), None);
    let ours = ("MAITRED__TELEMETRY__OTLP_ENDPOINT", "https://other:4318");
    assert_eq!(endpoint(None, &[common, ours]).as_deref(), Some("https://other:4318"));
}

#[test]
fn what_concerns_the_gpu_changes_nothing_unless_it_is_set() {
    let engine = Settings::default().engine;
    assert_eq!(engine.micro_batch_tokens, engine.batch_tokens);
    assert_eq!((engine.cache_type_k, engine.cache_type_v), (CacheType::F16, CacheType::F16));
    assert_eq!((engine.gpu_layers, engine.devices), (0, None));
    assert!(engine.offload_kqv && !engine.cpu_fallback);
}

#[test]
fn a_gpu_is_chosen_by_words_numbers_and_lists() {
    let file = file("[engine]\ngpu_layers = \"all\"\ndevices = [1, 0]\nmicro_batch_tokens = 128\n");
    let engine = Config::load(Some(file.path()), &[], &[]).unwrap().settings.engine;
    assert_eq!(engine.gpu_layers, ALL_LAYERS);
    assert_eq!(engine.devices, Some(vec![1, 0]));
    assert_eq!((engine.micro_batch_tokens, engine.batch_tokens), (128, 512));
    let variables = environment(&[("MAITRED__ENGINE__GPU_LAYERS", "20"), ("MAITRED__ENGINE__DEVICES", "1")]);
    let engine = Config::load(None, &variables, &[]).unwrap().settings.engine;
    assert_eq!((engine.gpu_layers, engine.devices), (20, Some(vec![1])));
}

#[rstest]
#[case::values_without_flash_attention(
    "flash_attention = false\ncache_type_v = \"q8_0\"\n",
    "flash_attention"
)]
#[case::different_types_on_a_gpu("gpu_layers = 1\ncache_type_k = \"q8_0\"\n", "\"q8_0\" as in")]
fn types_of_the_cache_that_do_not_go_with_the_rest_are_refused(#[case] engine: &str, #[case] allowed: &str) {
    let file = file(&format!("[engine]\n{engine}"));
    let found = problems(Config::load(Some(file.path()), &[], &[]).unwrap_err());
    assert_eq!((found.len(), found[0].key.as_str()), (1, "engine.cache_type_v"));
    assert!(found[0].message.contains(allowed), "{}", found[0]);
}

#[rstest]
#[case::different_types_on_a_cpu("cache_type_k = \"q8_0\"\n")]
#[case::keys_without_flash_attention("flash_attention = false\ncache_type_k = \"q4_0\"\n")]
#[case::both_on_a_gpu("gpu_layers = \"all\"\ncache_type_k = \"q8_0\"\ncache_type_v = \"q8_0\"\n")]
fn types_of_the_cache_that_go_with_the_rest_are_taken(#[case] engine: &str) {
    let file = file(&format!("[engine]\n{engine}"));
    Config::load(Some(file.path()), &[], &[]).unwrap();
}

#[rstest]
#[case::no_command("stop = \"command\"", "watchdog.command")]
#[case::no_url("stop = \"http\"", "watchdog.url")]
#[case::a_url_that_cannot_be_posted_to("stop = \"http\"\nurl = \"stop.example\"", "watchdog.url")]
#[case::more_than_all("gpu_idle_percent = 101", "watchdog.gpu_idle_percent")]
#[case::no_checks("idle_limit = 0", "watchdog.idle_limit")]
fn a_watchdog_that_could_not_do_what_it_is_for_is_refused(#[case] watchdog: &str, #[case] key: &str) {
    let file = file(&format!("[watchdog]\n{watchdog}\n"));
    let found = problems(Config::load(Some(file.path()), &[], &[]).unwrap_err());
    assert_eq!(found.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), [key]);
}

#[test]
fn a_watchdog_s_hook_is_what_the_settings_name() {
    let stop = |text: &str| {
        let file = file(&format!("[watchdog]\n{text}\n"));
        Config::load(Some(file.path()), &[], &[]).unwrap().settings.watchdog.stop
    };
    assert_eq!(stop(""), StopHook::Exit);
    let command = "runpodctl stop pod $RUNPOD_POD_ID";
    assert_eq!(
        stop(&format!("stop = \"command\"\ncommand = \"{command}\"")),
        StopHook::Command(command.into())
    );
    let StopHook::Http { url: Secret::File(url), token: Some(token) } =
        stop("stop = \"http\"\nurl_file = \"/run/secrets/url\"\ntoken_file = \"/run/secrets/token\"")
    else {
        panic!("an http hook");
    };
    assert_eq!((url, token), ("/run/secrets/url".into(), "/run/secrets/token".into()));
}

#[test]
fn every_problem_is_named_at_once() {
    let variables = environment(&[("MAITRED__ENGINE__THREADS", "-1"), ("MAITRED__LOG__FORMAT", "xml")]);
    let keys: Vec<String> =
        problems(Config::load(None, &variables, &[]).unwrap_err()).into_iter().map(|p| p.key).collect();
    assert_eq!(keys, ["engine.threads", "log.format"]);
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let named = folder.path().join("none.toml");
    let path = locate(Some(&named), folder.path(), None);
    let error = Config::load(path.as_deref(), &[], &[]).unwrap_err();
    assert!(matches!(error, ConfigError::Read { ref path, .. } if *path == named), "{error}");
}

#[test]
fn a_file_that_is_not_toml_is_an_error_that_names_it() {
    let file = file("engine: {}\n");
    let error = Config::load(Some(file.path()), &[], &[]).unwrap_err();
    assert!(matches!(error, ConfigError::Syntax { .. }), "{error}");
    assert!(error.to_string().contains(&file.path().display().to_string()));
}

#[test]
fn the_file_of_the_working_folder_comes_before_the_users() {
    let here = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let users = home.path().join("maitred/config.toml");
    assert_eq!(locate(None, here.path(), Some(home.path())), None);
    std::fs::create_dir(home.path().join("maitred")).unwrap();
    std::fs::write(&users, "").unwrap();
    assert_eq!(locate(None, here.path(), Some(home.path())), Some(users));
    let local = here.path().join("maitred.toml");
    std::fs::write(&local, "").unwrap();
    assert_eq!(locate(None, here.path(), Some(home.path())), Some(local));
}
