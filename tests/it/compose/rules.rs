//! The rules, one test each.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use maitred_testkit::{cache_home, skipped};
use serde_json::Value;

use crate::common::fleet::maitred;
use crate::compose::file::{compose, keys, list, path, root, services};

/// Services that run and end.
const ONE_SHOT: [&str; 2] = ["init", "models"];

#[test]
fn the_file_fits_the_schema_of_compose_files() {
    let schema = cache_home().map(|cache| cache.join("servers/compose-spec.json"));
    let Some(schema) = schema.filter(|schema| schema.is_file()) else {
        return skipped("no schema of compose files, run make servers");
    };
    let schema: Value = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut compose = compose();
    // The schema that can be had as a package is older than this key.
    compose.as_object_mut().unwrap().remove("name");
    let faults: Vec<String> =
        validator.iter_errors(&compose).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(faults, [] as [String; 0]);
    // The schema does look: a key that nobody knows is a fault.
    let mut wrong = compose;
    wrong["services"]["nats"]["imagee"] = "x".into();
    assert!(!validator.is_valid(&wrong));
}

#[test]
fn every_image_is_of_one_version() {
    let compose = compose();
    let named = services(&compose).filter(|(_, service)| service.get("build").is_none());
    let mut images: Vec<String> =
        named.map(|(_, service)| service["image"].as_str().unwrap().to_owned()).collect();
    let bases = services(&compose).flat_map(|(_, service)| {
        let arguments = service["build"]["args"].as_object().into_iter().flatten();
        arguments
            .filter(|(name, _)| name.ends_with("_BASE"))
            .map(|(_, image)| image.as_str().unwrap().to_owned())
    });
    images.extend(bases);
    let dockerfile = std::fs::read_to_string(path("Dockerfile")).unwrap();
    images.extend(dockerfile.lines().filter_map(|line| {
        let image = line
            .strip_prefix("FROM ")
            .or_else(|| Some(line.strip_prefix("ARG ")?.split_once("_BASE=")?.1))?;
        let image = image.split(' ').next()?;
        (!image.starts_with('$')).then(|| image.to_owned())
    }));
    assert!(images.len() >= 8, "{images:?}");
    for image in images {
        let tag = image.split_once(':').unwrap_or_else(|| panic!("{image} has no tag")).1;
        let version = tag.split('-').next().unwrap();
        let parts = version.split('.').filter(|part| part.parse::<u32>().is_ok()).count();
        assert!(parts >= 2, "{image} may be another one tomorrow");
    }
}

#[test]
fn every_file_that_is_named_is_there() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for volume in list(&service["volumes"]).iter().filter(|volume| volume.starts_with('.')) {
            let (source, rest) = volume.split_once(':').unwrap();
            assert!(path(source).exists(), "{name}: {source}");
            assert!(rest.ends_with(":ro"), "{name} could change {source}");
        }
        let entry = list(&service["entrypoint"]);
        for file in entry.iter().filter_map(|word| word.strip_prefix("/etc/maitred/")) {
            assert!(path("deploy").join(file).is_file(), "{name}: {file}");
        }
        let build = &service["build"];
        if let Some(context) = build.as_str().or_else(|| build["context"].as_str()) {
            assert!(path(context).join("Dockerfile").is_file(), "{name}: {context}");
        }
    }
}

#[test]
fn every_volume_and_secret_is_declared_and_used() {
    let compose = compose();
    let used =
        |key: &str| -> BTreeSet<&str> { services(&compose).flat_map(|(_, s)| list(&s[key])).collect() };
    let volumes: BTreeSet<&str> = used("volumes")
        .into_iter()
        .map(|volume| volume.split(':').next().unwrap())
        .filter(|source| !source.starts_with('.'))
        .collect();
    assert_eq!(volumes, keys(&compose["volumes"]).into_iter().collect());
    assert_eq!(used("secrets"), keys(&compose["secrets"]).into_iter().collect());
}

#[test]
fn every_secret_is_a_file_that_the_script_makes() {
    let folder = tempfile::tempdir().unwrap();
    make_secrets(folder.path());
    let compose = compose();
    for (name, secret) in compose["secrets"].as_object().unwrap() {
        assert_eq!(keys(secret), ["file"]);
        assert_eq!(secret["file"], format!("./deploy/compose/secrets/{name}"));
        assert!(folder.path().join(name).is_file(), "nobody makes {name}");
    }
    let ignored = std::fs::read_to_string(path(".gitignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "/deploy/compose/secrets"));
    let ignored = std::fs::read_to_string(path(".dockerignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "deploy/compose/secrets"));
}

#[test]
fn the_script_leaves_secrets_that_are_there_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("redis_password"), "chosen").unwrap();
    make_secrets(folder.path());
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("redis_url"), "redis://:chosen@redis:6379");
    let before = read("nats_worker_password");
    make_secrets(folder.path());
    assert_eq!(read("nats_worker_password"), before);
    assert_eq!(before.len(), 40);
    assert_ne!(before, read("nats_operator_password"));
}

#[test]
fn nothing_secret_stands_in_the_file() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for (key, value) in service["environment"].as_object().into_iter().flatten() {
            let secret = ["PASSWORD", "URL", "TOKEN", "KEY", "CREDS"].iter().any(|word| key.contains(word));
            assert!(!secret || key.ends_with("_FILE"), "{name}: {key}");
            if key.ends_with("_FILE") {
                let file = value.as_str().unwrap();
                let secret = file.strip_prefix("/run/secrets/").unwrap_or_else(|| panic!("{name}: {file}"));
                assert!(list(&service["secrets"]).contains(&secret), "{name} is not given {secret}");
            }
        }
    }
    let text = std::fs::read_to_string(path("docker-compose.yml")).unwrap();
    let with_login = text.lines().filter(|line| line.contains("://") && line.contains('@'));
    assert_eq!(with_login.collect::<Vec<_>>(), [] as [&str; 0]);
}

#[test]
fn what_runs_on_has_a_health_check_and_comes_back() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let runs_on = !ONE_SHOT.contains(&name);
        assert_eq!(service.get("healthcheck").is_some(), runs_on, "{name}");
        assert_eq!(service["restart"] == "unless-stopped", runs_on, "{name}");
        if runs_on {
            assert_eq!(
                keys(&service["healthcheck"]),
                ["interval", "retries", "start_period", "test", "timeout"]
            );
        }
    }
}

#[test]
fn what_is_waited_for_can_come_about() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for (other, wait) in service["depends_on"].as_object().into_iter().flatten() {
            let other_service = &compose["services"][other];
            // A service of a profile might not be there.
            assert!(other_service.is_object() && other_service.get("profiles").is_none(), "{name}: {other}");
            let possible = match wait["condition"].as_str().unwrap() {
                "service_started" => true,
                "service_healthy" => other_service.get("healthcheck").is_some(),
                "service_completed_successfully" => ONE_SHOT.contains(&other.as_str()),
                _ => false,
            };
            assert!(possible, "{name} waits for {other}: {wait}");
        }
    }
}

#[test]
fn the_program_takes_the_settings_of_every_service() {
    let folder = tempfile::tempdir().unwrap();
    let compose = compose();
    for (name, service) in services(&compose) {
        let settings = service["environment"].as_object().into_iter().flatten();
        let settings: Vec<_> = settings.filter(|(key, _)| key.starts_with("MAITRED__")).collect();
        let maitred = settings.iter().fold(maitred(folder.path()), |maitred, (key, value)| {
            maitred.environment(key, value.as_str().unwrap())
        });
        let shown = maitred.run(&["config", "show"]).ended(0).stdout;
        for (key, value) in settings {
            let name = key.trim_start_matches("MAITRED__").rsplit("__").next().unwrap().to_lowercase();
            let line =
                shown.lines().find(|line| line.contains(&name) && line.contains(value.as_str().unwrap()));
            assert!(line.is_some(), "{key} has no effect:\n{shown}");
        }
        let uses_nats = name.starts_with("worker") || name == "init";
        assert_eq!(service["environment"].get("MAITRED__NATS__URL_FILE").is_some(), uses_nats, "{name}");
    }
    // It would refuse a key that it does not know.
    maitred(folder.path()).environment("MAITRED__NATS__URLL", "x").run(&["config", "show"]).ended(2);
}

#[test]
fn the_program_has_the_commands_of_every_service() {
    let folder = tempfile::tempdir().unwrap();
    let compose = compose();
    for (_, service) in services(&compose).filter(|(_, service)| service.get("build").is_some()) {
        let mut command = list(&service["command"]);
        // The models are for llama.cpp.
        if command[0] != "model" || cfg!(feature = "llama") {
            command.push("--help");
            maitred(folder.path()).run(&command).ended(0);
        }
    }
}

#[test]
fn ports_are_open_to_this_machine_only() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for port in list(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
        assert!(service.get("network_mode").is_none() && service.get("privileged").is_none(), "{name}");
    }
}

#[test]
fn a_worker_has_its_grace_and_ten_seconds() {
    let compose = compose();
    for name in ["worker", "worker-gpu"] {
        let service = &compose["services"][name];
        let grace = seconds(&service["environment"]["MAITRED__WORKER__GRACE"]);
        assert_eq!(seconds(&service["stop_grace_period"]), grace + Duration::from_secs(10), "{name}");
    }
}

#[test]
fn the_profiles_are_one_worker_each_and_who_watches_and_the_gpu_is_asked_for() {
    let compose = compose();
    let profiles: Vec<(&str, Vec<&str>)> = services(&compose)
        .filter(|(_, service)| service.get("profiles").is_some())
        .map(|(name, service)| (name, list(&service["profiles"])))
        .collect();
    let watching = ["grafana", "prometheus"].map(|name| (name, vec!["monitoring"]));
    let working = [("worker", vec!["cpu"]), ("worker-gpu", vec!["gpu"])];
    assert_eq!(profiles, [watching, working].concat());
    let gpu = &compose["services"]["worker-gpu"];
    let device = &gpu["deploy"]["resources"]["reservations"]["devices"][0];
    assert_eq!((device["driver"].as_str(), list(&device["capabilities"])), (Some("nvidia"), vec!["gpu"]));
    let manifest: toml::Table = std::fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let feature = gpu["build"]["args"]["FEATURES"].as_str().unwrap();
    assert!(manifest["features"].get(feature).is_some(), "no feature {feature}");
    assert_ne!(gpu["image"], compose["services"]["worker"]["image"]);
}

#[test]
fn the_image_runs_as_nobody_in_particular() {
    let dockerfile = std::fs::read_to_string(path("Dockerfile")).unwrap();
    let last_stage = dockerfile.rsplit("\nFROM ").next().unwrap();
    let user = last_stage.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(last_stage.contains("useradd --system") && last_stage.contains(&format!("--create-home {user}")));
    let compose = compose();
    for (name, service) in services(&compose).filter(|(_, service)| service.get("build").is_some()) {
        assert!(service.get("user").is_none(), "{name}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(list(&service["cap_drop"]), ["ALL"], "{name}");
    }
}

/// `60s` and the like.
fn seconds(value: &Value) -> Duration {
    let text = value.as_str().unwrap();
    Duration::from_secs(text.strip_suffix('s').unwrap().parse().unwrap())
}

fn make_secrets(folder: &std::path::Path) {
    let status = Command::new(path("deploy/compose/make-secrets.sh")).arg(folder).status().unwrap();
    assert!(status.success());
}
