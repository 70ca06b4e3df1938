//! The profile `monitoring`: Prometheus finds the workers and its rules, Grafana finds Prometheus and the dashboards, and
//! neither can do more than watch. A real Prometheus is started by the service's own command; of Grafana there is none.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use maitred_testkit::{Port, Prometheus, Server, Spec, http_get, promtool, wait_until};
use serde_json::Value;

use crate::common::fleet::maitred;
use crate::compose::file::{compose, document, list, mounted, path, services};

#[test]
fn prometheus_looks_where_every_worker_listens() {
    let compose = compose();
    let configuration = document(&configuration(&compose["services"]["prometheus"]));
    let found = &configuration["scrape_configs"][0]["dns_sd_configs"][0];
    assert_eq!(found["type"], "A");
    let workers: Vec<_> = services(&compose).filter(|(_, service)| is_worker(service)).collect();
    assert_eq!(workers.len(), 2);
    for (name, worker) in workers {
        let mut names = list(&worker["networks"]["default"]["aliases"]);
        names.push(name);
        // All of them: with one profile alone no name may be nobody's.
        assert!(list(&found["names"]).iter().all(|asked| names.contains(asked)), "{name} is not asked for");
        let listen = listen(worker);
        assert!(listen.ip().is_unspecified(), "{name} cannot be reached from another container");
        assert_eq!(found["port"], listen.port(), "{name}");
        let own = format!("http://127.0.0.1:{}/readyz", listen.port());
        assert_eq!(list(&worker["healthcheck"]["test"]).last(), Some(&own.as_str()), "{name}");
        assert!(worker.get("ports").is_none(), "{name} is open beyond the containers");
    }
}

/// At 127.0.0.2 and by a name of another network, as another container would ask: who listens to 127.0.0.1 is not reached
/// there, and answers no name but its own.
#[test]
fn a_worker_that_listens_as_in_the_file_answers_others_than_itself() {
    let listen = listen(&compose()["services"]["worker"]).ip();
    let (folder, port, nowhere) = (tempfile::tempdir().unwrap(), Port::free(), Port::free());
    let _worker = maitred(folder.path())
        .set("engine.backend", "sim")
        .set("nats.url", format!("nats://127.0.0.1:{}", nowhere.number()))
        .set("health.listen", SocketAddr::new(listen, port.number()))
        .worker("w");
    wait_until("the worker tells its figures", || {
        http_get(port.number(), "/metrics").is_ok_and(|(_, figures)| figures.contains("maitred_worker_ready"))
    });
    let mut stream = TcpStream::connect((Ipv4Addr::new(127, 0, 0, 2), port.number())).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: 172.18.0.7:8080\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.split(' ').nth(1), Some("200"), "{answer}");
}

#[test]
fn a_real_prometheus_starts_by_the_command_of_its_service_and_has_every_rule() {
    let Some(promtool) = promtool() else { return };
    let service = compose()["services"]["prometheus"].clone();
    let (folder, port) = (tempfile::tempdir().unwrap(), Port::free());
    // Where nothing of the project is mounted, it is the service's own volume.
    let here = |inside: &str| mounted(&service, inside).unwrap_or_else(|| folder.path().join(&inside[1..]));
    let arguments = list(&service["command"]).into_iter().map(|argument| match argument.split_once('=') {
        Some((flag, inside)) if inside.starts_with('/') => format!("{flag}={}", here(inside).display()),
        _ => argument.to_owned(),
    });
    let spec = Spec::new("prometheus", &promtool.with_file_name("prometheus"), folder.path())
        .arguments(arguments)
        .arguments([format!("--web.listen-address=127.0.0.1:{}", port.number())]);
    let server = Server::start(spec, port, folder, Prometheus::MANNERS);

    let loaded: Value = serde_json::from_str(&http_get(server.port(), "/api/v1/rules").unwrap().1).unwrap();
    let loaded = loaded["data"]["groups"].as_array().unwrap().iter();
    let loaded: BTreeSet<String> = loaded.map(|group| group["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(loaded, groups(&configuration(&service)));

    let asked = list(&service["healthcheck"]["test"]).pop().unwrap();
    let asked = asked.strip_prefix("http://127.0.0.1:9090").unwrap();
    assert_eq!(http_get(server.port(), asked).unwrap().0, 200);
}

#[test]
fn grafana_finds_prometheus_and_the_dashboards() {
    let compose = compose();
    let grafana = &compose["services"]["grafana"];
    let provisioning = mounted(grafana, "/etc/grafana/provisioning").unwrap();
    let source = &document(&provisioning.join("datasources/prometheus.yml"))["datasources"][0];
    let port = list(&compose["services"]["prometheus"]["ports"])[0].rsplit(':').next().unwrap();
    assert_eq!(source["url"], format!("http://prometheus:{port}"));
    // Grafana asks for it; a browser could not resolve the name.
    assert_eq!(source["access"], "proxy");
    let provider = &document(&provisioning.join("dashboards/maitred.yml"))["providers"][0];
    let folder = mounted(grafana, provider["options"]["path"].as_str().unwrap()).unwrap();
    assert_eq!(folder, path("deploy/grafana/dashboards"));
}

#[test]
fn grafana_lets_nobody_in_without_the_password() {
    let compose = compose();
    let settings = &compose["services"]["grafana"]["environment"];
    assert_eq!(settings["GF_SECURITY_ADMIN_PASSWORD__FILE"], "/run/secrets/grafana_admin_password");
    for off in ["GF_AUTH_ANONYMOUS_ENABLED", "GF_USERS_ALLOW_SIGN_UP"] {
        assert_eq!(settings[off], "false", "{off}");
    }
}

#[test]
fn who_watches_has_no_rights_and_a_limit() {
    let compose = compose();
    let watching = services(&compose).filter(|(_, service)| list(&service["profiles"]) == ["monitoring"]);
    for (name, service) in watching {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(list(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(list(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(service["mem_limit"].is_string() && service["cpus"].is_number(), "{name}");
        // The image's own, which is not root; only that one may write into the volume.
        assert!(service.get("user").is_none(), "{name}");
    }
    let command = list(&compose["services"]["prometheus"]["command"]).join(" ");
    assert!(command.contains("--storage.tsdb.retention.size="), "the disk fills");
    // Who asks could stop it or change what it has.
    assert!(!command.contains("--web.enable"), "{command}");
}

#[test]
fn a_path_in_a_container_is_one_of_the_project_or_none() {
    let service =
        serde_json::json!({ "volumes": ["data:/data", "./deploy:/data/files:ro", "./docs:/docs:ro"] });
    assert_eq!(mounted(&service, "/data/files/nats/nats.conf"), Some(path("deploy/nats/nats.conf")));
    assert_eq!(mounted(&service, "/docs"), Some(path("docs/")));
    assert_eq!(mounted(&service, "/data/other"), None);
    assert_eq!(mounted(&service, "/elsewhere"), None);
}

fn is_worker(service: &Value) -> bool {
    list(&service["command"]) == ["worker"]
}

/// Where a worker serves its health.
fn listen(worker: &Value) -> SocketAddr {
    worker["environment"]["MAITRED__HEALTH__LISTEN"].as_str().unwrap().parse().unwrap()
}

/// The file that Prometheus is started with, on this machine.
fn configuration(prometheus: &Value) -> PathBuf {
    let command = list(&prometheus["command"]);
    let inside = command.iter().find_map(|argument| argument.strip_prefix("--config.file=")).unwrap();
    mounted(prometheus, inside).unwrap()
}

/// The groups of rules in the files that a configuration names.
fn groups(configuration: &Path) -> BTreeSet<String> {
    let beside = configuration.parent().unwrap();
    let named = document(configuration);
    let files = list(&named["rule_files"]).into_iter().map(|file| document(&beside.join(file)));
    let groups = files.flat_map(|file| file["groups"].as_array().unwrap().clone());
    groups.map(|group| group["name"].as_str().unwrap().to_owned()).collect()
}
