//! `maitred doctor` over real servers: each fault is made, found, and told with what to do; on a fleet that is well
//! nothing is found, and nothing is changed.
//!
//! A server that is not installed skips its tests, visibly (`make servers` installs).

mod machine;
mod nats;
mod postgres;
mod redis;
mod well;

use std::path::Path;

use maitred_testkit::{Maitred, Ran};
use serde_json::Value;

use crate::common::fleet::maitred;

/// The program with the simulated engine and nothing else to look at; its streams fit on small disks.
fn plain(folder: &Path) -> Maitred {
    maitred(folder)
        .set("engine.backend", "sim")
        .set("health.listen", "none")
        .set("nats.jobs_max_bytes", "64 MiB")
}

/// What the doctor told.
struct Told {
    report: Value,
    code: i32,
}

/// Asks it, and holds what it tells against the schema.
#[track_caller]
fn ask(maitred: &Maitred) -> Told {
    let Ran { code, stdout, stderr } = maitred.run(&["doctor", "--json"]);
    let report: Value =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    let schema = serde_json::from_str(include_str!("../../docs/doctor.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = schema.iter_errors(&report).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    Told { report, code }
}

impl Told {
    fn findings(&self) -> &[Value] {
        self.report["findings"].as_array().unwrap()
    }

    /// Codes of what was found wrong of these parts, such as `nats`.
    fn codes(&self, parts: &[&str]) -> Vec<&str> {
        let of = |finding: &&Value| {
            parts.iter().any(|part| finding["check"].as_str().unwrap().split('.').next() == Some(part))
        };
        self.findings().iter().filter(of).filter_map(|finding| finding["code"].as_str()).collect()
    }

    /// The first finding with this code.
    #[track_caller]
    fn found(&self, code: &str) -> &Value {
        let found = self.findings().iter().find(|finding| finding["code"] == code);
        found.unwrap_or_else(|| panic!("{code} is not among {:#}", self.report["findings"]))
    }

    /// How a check is.
    #[track_caller]
    fn status(&self, check: &str) -> &str {
        let found = self.findings().iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check}"))["status"].as_str().unwrap()
    }

    /// That this failed, with these words about what it means and what to do.
    #[track_caller]
    fn failed(&self, code: &str, means: &str, mend: &str) -> &Value {
        let found = self.found(code);
        assert_eq!((self.code, &found["status"]), (1, &Value::from("fail")), "{found:#}");
        let said = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        assert!(said("means").contains(means), "{found:#}");
        assert!(said("mend").contains(mend), "{found:#}");
        found
    }
}
