//! deploy/k8s without a cluster: what is named is there, and agrees with the program, the streams and the alerts.

use std::collections::BTreeSet;
use std::time::Duration;

use maitred::config::Settings;
use maitred::scheduler::Lane;
use maitred_testkit::{Port, http_get, wait_until};
use serde_json::Value;

use crate::common::fleet::maitred;
use crate::deploy::catalogue;
use crate::deploy::file::{document, documents, files, read};
use crate::fleet::ground::Ground;

const FOLDER: &str = "deploy/k8s";

/// Every object, with the file it is in.
fn objects() -> Vec<(String, Value)> {
    let of = |file: String| documents(&file).into_iter().map(move |object| (file.clone(), object));
    files(FOLDER, ".yaml").into_iter().flat_map(of).collect()
}

/// The objects of a kind.
fn all(kind: &str) -> Vec<Value> {
    objects().into_iter().map(|(_, object)| object).filter(|object| object["kind"] == kind).collect()
}

#[track_caller]
fn one(kind: &str) -> Value {
    let mut found = all(kind);
    assert_eq!(found.len(), 1, "{kind}");
    found.remove(0)
}

/// The object of that kind and name.
#[track_caller]
fn named(kind: &str, name: &str) -> Value {
    all(kind)
        .into_iter()
        .find(|object| object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

/// The workers' pod, and the container in it that is the worker.
fn pod() -> Value {
    named("Deployment", "maitred-worker")["spec"]["template"].clone()
}

fn worker() -> Value {
    pod()["spec"]["containers"][0].clone()
}

/// The pod of `maitred ui`, and its container.
fn ui_pod() -> Value {
    named("Deployment", "maitred-ui")["spec"]["template"].clone()
}

fn ui() -> Value {
    ui_pod()["spec"]["containers"][0].clone()
}

/// What every pod is made from.
fn pod_specs() -> [Value; 3] {
    [pod(), ui_pod(), one("Job")["spec"]["template"].clone()].map(|pod| pod["spec"].clone())
}

fn containers(spec: &Value) -> Vec<Value> {
    [&spec["initContainers"], &spec["containers"]].into_iter().flat_map(items).collect()
}

fn items(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn config() -> Vec<(String, String)> {
    let data = one("ConfigMap")["data"].clone();
    data.as_object().unwrap().iter().map(|(key, value)| (key.clone(), text(value).to_owned())).collect()
}

/// What a container's environment says in so many words.
fn environment(container: &Value) -> Vec<(String, String)> {
    let own = items(&container["env"]);
    let own = own.iter().filter(|entry| entry.get("value").is_some());
    own.map(|entry| (text(&entry["name"]).to_owned(), text(&entry["value"]).to_owned())).collect()
}

#[test]
fn everything_is_an_object_of_its_own_and_listed_once() {
    let mut names = BTreeSet::new();
    for (file, object) in objects().into_iter().filter(|(_, object)| object["kind"] != "Kustomization") {
        assert!(object["apiVersion"].is_string() && object["metadata"]["name"].is_string(), "{file}");
        assert!(object["metadata"].get("namespace").is_none(), "{file}: the namespace is the user's");
        let name = (object["kind"].to_string(), object["metadata"]["name"].to_string());
        // One of the two scalers is applied, so they may have one name.
        let instead = file.ends_with("-prometheus.yaml");
        assert!(instead || names.insert(name), "{file}");
    }
    let listed = document("deploy/k8s/kustomization.yaml")["resources"].clone();
    let listed: BTreeSet<String> =
        items(&listed).iter().map(|file| format!("{FOLDER}/{}", text(file))).collect();
    let others = ["kustomization", "secret.example", "scaledobject-prometheus"];
    let expected: BTreeSet<String> = files(FOLDER, ".yaml")
        .into_iter()
        .filter(|file| !others.iter().any(|other| file.ends_with(&format!("/{other}.yaml"))))
        .collect();
    assert_eq!(listed, expected);
}

/// Anchors and merges are read differently by the tools that read manifests.
#[test]
fn manifests_are_plain_yaml() {
    for file in files(FOLDER, ".yaml") {
        for line in read(&file).lines().filter(|line| !line.trim_start().starts_with('#')) {
            assert!(!line.contains(": &") && !line.contains(": *") && !line.contains("<<"), "{file}: {line}");
        }
    }
}

#[test]
fn the_program_takes_the_settings_of_every_pod() {
    let folder = tempfile::tempdir().unwrap();
    let init = one("Job")["spec"]["template"]["spec"]["containers"][0].clone();
    let of_worker: Vec<_> = config().into_iter().chain(environment(&worker())).collect();
    for settings in [of_worker, environment(&init), environment(&ui())] {
        let program = settings
            .iter()
            .fold(maitred(folder.path()), |program, (key, value)| program.environment(key, value));
        let shown = program.run(&["config", "show"]).ended(0).stdout;
        for (key, value) in settings {
            let name = key.trim_start_matches("MAITRED__").rsplit("__").next().unwrap().to_lowercase();
            let line = shown.lines().find(|line| line.contains(&name) && line.contains(value.as_str()));
            assert!(line.is_some(), "{key} has no effect:\n{shown}");
        }
    }
    // What comes from a field of the pod is a setting too.
    let fields: Vec<_> =
        items(&worker()["env"]).into_iter().filter(|e| e.get("valueFrom").is_some()).collect();
    assert_eq!(fields.len(), 1);
    maitred(folder.path()).environment(text(&fields[0]["name"]), "pod-1").run(&["config", "show"]).ended(0);
}

#[test]
fn the_commands_of_every_pod_are_commands() {
    let folder = tempfile::tempdir().unwrap();
    for container in pod_specs().iter().flat_map(containers) {
        let arguments = items(&container["args"]);
        let mut arguments: Vec<&str> = arguments.iter().map(text).collect();
        // The models are for llama.cpp.
        if arguments[0] != "model" || cfg!(feature = "llama") {
            arguments.push("--help");
            maitred(folder.path()).run(&arguments).ended(0);
        }
    }
}

#[test]
fn the_port_is_the_one_that_is_listened_on() {
    let listen = config().into_iter().find(|(key, _)| key == "MAITRED__HEALTH__LISTEN").unwrap().1;
    let listen: std::net::SocketAddr = listen.parse().unwrap();
    assert!(listen.ip().is_unspecified(), "probes come from outside the pod");
    assert_eq!(Settings::default().health.listen.map(|default| default.port()), Some(listen.port()));
    let ports = items(&worker()["ports"]);
    assert_eq!(ports.len(), 1);
    assert_eq!(ports[0]["containerPort"], listen.port());
    let port = &ports[0]["name"];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(&worker()[probe]["httpGet"]["port"], port, "{probe}");
    }
    assert_eq!(&one("PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"], port);
    let policy = named("NetworkPolicy", "maitred-worker");
    assert_eq!(&policy["spec"]["ingress"][0]["ports"][0]["port"], port);
}

/// A worker without any server answers its probes: live, and not ready.
#[test]
fn probes_ask_for_what_the_worker_answers() {
    let (folder, port) = (tempfile::tempdir().unwrap(), Port::free());
    let nowhere = Port::free();
    let _worker = maitred(folder.path())
        .set("engine.backend", "sim")
        .set("nats.url", format!("nats://127.0.0.1:{}", nowhere.number()))
        .set("health.listen", format!("127.0.0.1:{}", port.number()))
        .worker("w");
    let status = |path: &str| http_get(port.number(), path).map(|(status, _)| status).ok();
    let path = |probe: &str| text(&worker()[probe]["httpGet"]["path"]).to_owned();
    wait_until("the worker answers", || status(&path("startupProbe")) == Some(200));
    assert_eq!(status(&path("livenessProbe")), Some(200));
    assert_eq!(status(&path("readinessProbe")), Some(503));
    assert_eq!(status("/no-such-path"), Some(404));
    let metrics = one("PodMonitor")["spec"]["podMetricsEndpoints"][0]["path"].clone();
    assert_eq!(status(text(&metrics)), Some(200));
}

#[test]
fn a_worker_has_its_grace_and_ten_seconds() {
    let grace = config().into_iter().find(|(key, _)| key == "MAITRED__WORKER__GRACE").unwrap().1;
    let grace: u64 = grace.strip_suffix('s').unwrap().parse().unwrap();
    assert_eq!(pod()["spec"]["terminationGracePeriodSeconds"], grace + 10);
    assert!(Duration::from_secs(grace) >= Settings::default().worker.grace);
}

#[test]
fn selectors_accounts_and_volumes_name_what_is_there() {
    let (worker, ui) = (pod()["metadata"]["labels"].clone(), ui_pod()["metadata"]["labels"].clone());
    for (kind, name, at, labels) in [
        ("Deployment", "maitred-worker", "/spec/selector/matchLabels", &worker),
        ("PodDisruptionBudget", "maitred-worker", "/spec/selector/matchLabels", &worker),
        ("NetworkPolicy", "maitred-worker", "/spec/podSelector/matchLabels", &worker),
        ("PodMonitor", "maitred-worker", "/spec/selector/matchLabels", &worker),
        ("Deployment", "maitred-ui", "/spec/selector/matchLabels", &ui),
        ("NetworkPolicy", "maitred-ui", "/spec/podSelector/matchLabels", &ui),
        ("Service", "maitred-ui", "/spec/selector", &ui),
    ] {
        assert_eq!(named(kind, name).pointer(at), Some(labels), "{kind} {name}");
    }
    // Other pods than the workers': a budget or a monitor must not count them.
    for other in [&one("Job")["spec"]["template"]["metadata"]["labels"], &ui] {
        assert_ne!(other, &worker);
    }
    let account = &one("ServiceAccount")["metadata"]["name"];
    let configmap = &one("ConfigMap")["metadata"]["name"];
    let secrets: Vec<Value> = all("Secret");
    for spec in &pod_specs() {
        assert_eq!(&spec["serviceAccountName"], account);
        assert_eq!(spec["automountServiceAccountToken"], false);
        let volumes = items(&spec["volumes"]);
        for container in containers(spec) {
            for source in items(&container["envFrom"]) {
                assert_eq!(&source["configMapRef"]["name"], configmap);
            }
            for mount in items(&container["volumeMounts"]) {
                assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount}");
            }
            // Each file that a setting names is a key of the secret that is mounted there.
            for (key, file) in environment(&container).iter().filter(|(key, _)| key.ends_with("_FILE")) {
                let name = volumes.iter().find_map(|volume| volume["secret"]["secretName"].as_str()).unwrap();
                let secret = secrets.iter().find(|secret| secret["metadata"]["name"] == name).unwrap();
                let entry = file.strip_prefix("/run/secrets/maitred/").unwrap();
                assert!(secret["stringData"].get(entry).is_some(), "{key}: {name} has no {entry}");
            }
        }
    }
    assert_eq!(named("Deployment", "maitred-worker")["spec"].get("replicas"), None, "the scaler's");
}

#[test]
fn no_secret_stands_in_a_file() {
    for secret in all("Secret") {
        for (key, value) in secret["stringData"].as_object().unwrap() {
            let login = text(value).contains(":CHANGE-ME@");
            assert!(login || value == "CHANGE-ME", "{key}");
        }
    }
    // Who forgets to change this one is told.
    let folder = tempfile::tempdir().unwrap();
    let token = named("Secret", "maitred-ui")["stringData"]["ui_token"].clone();
    let refused = maitred(folder.path()).set("ui.token", text(&token)).run(&["ui"]);
    assert_ne!(refused.code, 0);
    refused.told(&["ui.token", "16"]);
    for file in files(FOLDER, ".yaml") {
        let logins = read(&file).lines().filter(|line| line.contains("://") && line.contains('@')).count();
        assert!(logins == 0 || file.ends_with("secret.example.yaml"), "{file}");
    }
    for (key, _) in config() {
        let secret = ["PASSWORD", "URL", "TOKEN", "CREDS"].iter().any(|word| key.contains(word));
        assert!(!secret, "{key} belongs into the secret");
    }
}

#[test]
fn pods_run_as_the_image_does_and_without_rights() {
    let dockerfile = read("Dockerfile");
    let uid = dockerfile.split("--uid ").nth(1).unwrap().split(' ').next().unwrap();
    for spec in &pod_specs() {
        assert_eq!(spec["securityContext"]["runAsUser"].to_string(), uid);
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        for container in containers(spec) {
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["capabilities"]["drop"][0], "ALL");
            assert!(container["resources"]["limits"]["memory"].is_string());
        }
    }
    assert_eq!(worker()["resources"]["limits"]["nvidia.com/gpu"], 1);
    let tolerated = items(&pod()["spec"]["tolerations"]);
    assert!(tolerated.iter().any(|toleration| toleration["key"] == "nvidia.com/gpu"));
}

/// The counts of `/api/backlog` that are scaled by, as the scaler names them.
#[test]
fn the_scaler_counts_each_lane_and_the_backfills_once() {
    let scaler = document("deploy/k8s/scaledobject.yaml");
    let formula = text(&scaler["spec"]["advanced"]["scalingModifiers"]["formula"]).to_owned();
    let triggers = items(&scaler["spec"]["triggers"]);
    let asked: Vec<&str> =
        triggers.iter().map(|trigger| text(&trigger["metadata"]["valueLocation"])).collect();
    let lanes = Lane::ALL.map(|lane| format!("lanes.{}.jobs", lane.name()));
    let wanted: Vec<&str> = lanes.iter().map(String::as_str).chain(["replays.jobs"]).collect();
    assert_eq!(asked, wanted);
    for trigger in &triggers {
        assert_eq!(trigger["type"], "metrics-api");
        // The scaler reads text only.
        assert!(trigger["metadata"].as_object().unwrap().values().all(Value::is_string), "{trigger}");
        let known: BTreeSet<&str> = ["url", "valueLocation", "targetValue"].into();
        let given: BTreeSet<&str> =
            trigger["metadata"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(given, known);
        assert_eq!(trigger["metadata"]["url"], triggers[0]["metadata"]["url"]);
        let name = text(&trigger["name"]);
        assert!(text(&trigger["metadata"]["valueLocation"]).contains(name), "{name} counts something else");
        assert!(formula.contains(name), "the formula forgets {name}");
    }
}

/// The deployed address, held against `maitred ui` with the deployed settings: with a token, and without a worker.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_scaler_asks_for_is_answered() {
    let Some(ground) = Ground::new().await else { return };
    for (lane, jobs) in [(Lane::Hi, 1), (Lane::Live, 2), (Lane::Backfill, 3)] {
        for n in 0..jobs {
            ground.submit(lane, &format!("{}-{n}", lane.name())).await;
        }
    }
    ground.maitred(&["backfill", "start", "--from", "3", "--id", "b"]).well();
    let triggers = items(&document("deploy/k8s/scaledobject.yaml")["spec"]["triggers"]);
    let url = text(&triggers[0]["metadata"]["url"]);
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (host, port) = host.split_once(':').unwrap();
    let service = named("Service", "maitred-ui");
    let namespace = read("deploy/k8s/README.md");
    let namespace = namespace.split("kubectl create namespace ").nth(1).unwrap().lines().next().unwrap();
    assert_eq!(host, format!("{}.{namespace}.svc.cluster.local", text(&service["metadata"]["name"])));
    let door = &service["spec"]["ports"][0];
    assert_eq!(door["port"].to_string(), port);

    let listen = environment(&ui()).into_iter().find(|(key, _)| key == "MAITRED__UI__LISTEN").unwrap().1;
    let listen: std::net::SocketAddr = listen.parse().unwrap();
    assert!(listen.ip().is_unspecified(), "the scaler comes from outside the pod");
    let inside = &ui()["ports"][0];
    assert_eq!((&inside["name"], &inside["containerPort"]), (&door["targetPort"], &listen.port().into()));
    let policy = named("NetworkPolicy", "maitred-ui");
    assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], inside["name"]);

    let (folder, free) = (tempfile::tempdir().unwrap(), Port::free());
    let program = maitred(folder.path())
        .set("nats.url", ground.nats.url())
        .set("ui.token", "0123456789abcdef")
        .set("ui.listen", std::net::SocketAddr::new(listen.ip(), free.number()));
    let _page = program.start("ui", &["ui"]);
    let ask = |path: &str| http_get(free.number(), path).ok();
    let answers = |path: &str| ask(path).map(|(status, _)| status);
    for probe in ["readinessProbe", "livenessProbe"] {
        assert_eq!(ui()[probe]["httpGet"]["port"], inside["name"]);
        let path = text(&ui()[probe]["httpGet"]["path"]).to_owned();
        wait_until(probe, || answers(&path) == Some(200));
    }
    assert_eq!(answers("/api/state"), Some(401), "what quotes guests takes the token");
    let (status, body) = ask(&format!("/{path}")).unwrap();
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    let counts = triggers.iter().map(|trigger| {
        let at = format!("/{}", text(&trigger["metadata"]["valueLocation"]).replace('.', "/"));
        told.pointer(&at).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {at} in {told}"))
    });
    assert_eq!(counts.collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn scalers_scale_the_workers_within_what_the_lanes_allow() {
    let settings = Settings::default();
    for scaler in all("ScaledObject") {
        let spec = &scaler["spec"];
        named("Deployment", text(&spec["scaleTargetRef"]["name"]));
        assert_eq!(spec["scaleTargetRef"]["name"], "maitred-worker", "ui.yaml does not grow");
        let most = spec["maxReplicaCount"].as_u64().unwrap() as usize;
        // As src/config/defaults.toml computes nats.max_ack_pending.
        let held = most * (settings.worker.slots + settings.worker.look_ahead) * 5 / 4;
        assert!(held <= settings.nats.max_ack_pending as usize, "{held} jobs in hand");
        // The alerts go by this name.
        let named = format!("scaledObject=\"{}\"", text(&scaler["metadata"]["name"]));
        assert!(read("deploy/prometheus/rules/absence-keda.yml").contains(&named));
        // KEDA's fallback holds for averages only, which is the default.
        assert!(spec["fallback"]["replicas"].as_u64().unwrap() >= 1);
    }
    let prometheus = document("deploy/k8s/scaledobject-prometheus.yaml");
    let trigger = &prometheus["spec"]["triggers"][0];
    assert_eq!(catalogue::unknown(text(&trigger["metadata"]["query"]), &BTreeSet::new()), [""; 0]);
    let query = text(&trigger["metadata"]["query"]);
    for counted in ["lane_pending", "lane_in_flight", "replay_pending", "replay_in_flight"] {
        assert!(query.contains(&format!("maitred_{counted}")), "{counted}");
    }
    assert_eq!(prometheus["spec"]["minReplicaCount"], 1, "without a worker nobody tells the lag");
    assert_eq!(document("deploy/k8s/scaledobject.yaml")["spec"]["minReplicaCount"], 0);
}

#[test]
fn figures_come_under_the_names_that_the_rules_go_by() {
    let monitor = one("PodMonitor")["spec"].clone();
    let job = pod()["metadata"]["labels"][text(&monitor["jobLabel"])].clone();
    assert!(read("deploy/prometheus/rules/alerts.yml").contains(&format!("up{{job=\"{}\"}}", text(&job))));
    let relabelled = &monitor["podMetricsEndpoints"][0]["relabelings"][0];
    assert_eq!(relabelled["targetLabel"], "instance");
}

#[test]
fn the_worked_example_is_about_these_files() {
    let readme = read("deploy/k8s/README.md");
    for file in files(FOLDER, ".yaml") {
        let name = file.trim_start_matches("deploy/k8s/");
        assert!(readme.contains(name), "README.md says nothing of {name}");
    }
    let spec = document("deploy/k8s/scaledobject.yaml")["spec"].clone();
    for figure in ["pollingInterval", "cooldownPeriod", "maxReplicaCount"] {
        assert!(readme.contains(&format!("{figure}: {}", spec[figure])), "{figure}");
    }
}
