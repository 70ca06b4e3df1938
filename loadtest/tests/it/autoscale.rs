//! A day of fleets, from rules to table and pictures; and the rules are those that are deployed.

use std::path::Path;

use maitred_loadtest::autoscale::{Body, Day, Idle, Options, Policy, Rules, plots, study};

fn options() -> Options {
    Options {
        seeds: vec![1],
        day: Day::new(vec![0.0, 0.3, 1.0, 0.2, 0.0, 0.0]).unwrap(),
        peak_workers: 3.0,
        ..Options::default()
    }
}

fn row<'b>(body: &'b Body, name: &str) -> &'b maitred_loadtest::autoscale::Row {
    let mut rows = body.rows.iter();
    rows.find(|row| row.policy.name(body.options.rules) == name).unwrap_or_else(|| panic!("no row {name}"))
}

#[test]
fn a_scaled_fleet_costs_less_than_the_fixed_one_that_the_peak_needs() {
    let body = study(&options()).unwrap();
    let (fixed, keda) = (row(&body, "fixed 3"), row(&body, "KEDA, 4 jobs a worker"));
    assert!(keda.worker_hours < fixed.worker_hours, "{} of {}", keda.worker_hours, fixed.worker_hours);
    // And answers later: it has to start workers first.
    assert!(keda.compliance <= fixed.compliance);
    assert!(keda.reaction_max >= body.options.model.start);
    // One worker cannot keep up with three workers' work.
    assert!(row(&body, "fixed 1").compliance < fixed.compliance);
    assert!(row(&body, "fixed 1").behind > fixed.behind);
}

#[test]
fn pictures_say_that_they_are_simulated() {
    let body = study(&options()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let drawn = plots(&body, folder.path()).unwrap();
    assert_eq!(drawn.len(), 2);
    for path in drawn {
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("simulated-"));
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.contains("SIMULATED"));
        assert!(svg.contains("<polyline"));
    }
    let written = serde_json::to_string(&body).unwrap();
    assert!(written.contains("\"simulated\":true"));
    assert_eq!(serde_json::from_str::<Body>(&written).unwrap().rows.len(), body.rows.len());
}

#[test]
fn the_rules_are_those_that_are_deployed() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/k8s/scaledobject.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let value = |key: &str| -> f64 {
        let of = |line: &&str| line.trim_start().starts_with(&format!("{key}: "));
        // What scales down stands last.
        let line = text.lines().rfind(of).unwrap_or_else(|| panic!("no {key}"));
        line.rsplit(' ').next().unwrap().trim_matches('"').parse().unwrap()
    };
    let rules = Rules::default();
    let same = |key: &str, ours: f64| assert!((value(key) - ours).abs() < 1e-9, "{key}: {ours}");
    same("pollingInterval", rules.polling);
    same("cooldownPeriod", rules.cooldown);
    same("minReplicaCount", f64::from(rules.min));
    same("maxReplicaCount", f64::from(rules.max));
    same("target", rules.lag_per_worker);
    same("stabilizationWindowSeconds", rules.stabilization);
    let step =
        |workers: u32, period: f64| format!("{{ type: Pods, value: {workers}, periodSeconds: {period} }}");
    assert!(text.contains(&step(rules.up_workers, rules.sync)));
    assert!(text.contains(&step(rules.down_workers, rules.down_period)));
}

#[test]
fn a_watchdog_alone_does_not_shrink_a_fleet_that_still_gets_work() {
    // A busy hour, then a quiet one in which a job comes every minute or so.
    let options = Options {
        day: Day::new(vec![1.0, 0.12, 0.12, 0.12]).unwrap(),
        idle: Idle { checks: 5, min_runtime: 0.0, ..Idle::default() },
        ..options()
    };
    let body = study(&options).unwrap();
    let of = |wanted: fn(&Policy) -> bool| body.rows.iter().find(|row| wanted(&row.policy)).unwrap();
    let keda = of(|policy| matches!(policy, Policy::Keda(_)));
    let watchdog = of(|policy| matches!(policy, Policy::Watchdog { .. }));
    assert!(watchdog.worker_hours > keda.worker_hours, "{watchdog:?}\n{keda:?}");
}
