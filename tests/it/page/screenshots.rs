//! Pictures of the pages for the documentation (`scripts/screenshots.sh`), of the sample reviews in `data/`.

use std::path::Path;
use std::time::Duration;

use maitred_testkit::{Driver, Maitred, variable};

use crate::common::fleet::Workload;
use crate::page::browser::{Browser, DESK, PHONE};
use crate::page::rig::{Rig, TOKEN};

/// Ten restaurants on two cores, with the real model.
const PATIENCE: Duration = Duration::from_mins(30);
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/sample-restaurants.jsonl");
/// Pixels of a picture's height at most: what is further down looks like what is above.
const TALLEST: u32 = 2400;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes pictures: scripts/screenshots.sh"]
async fn pictures_of_the_pages() {
    let folder = variable("MAITRED_PICTURES").expect("run scripts/screenshots.sh");
    let real = variable("MAITRED_PICTURES_BACKEND").is_some_and(|backend| backend == Path::new("llama"));
    let (rig, driver) = (Rig::new().expect("a nats-server"), Driver::start().expect("a browser"));
    let (page, workers) = (rig.ui(Some(TOKEN)), workers(&rig, real));
    let browser = Browser::open(&driver, &format!("{}#restaurants", page.url)).await;
    rig.submit(Path::new(SAMPLE));
    let all = "document.querySelectorAll('#restaurants li').length === 10";
    browser.until_within(PATIENCE, "all restaurants", all).await;
    rig.publish_bad_jobs(&["quaymark", "copperlatch"]).await;
    // So much that some of it waits and some of it runs.
    let file = rig.folder().join("more.jsonl");
    Workload::new(11, 60).write(&file);
    rig.submit(&file);
    let some = "[...document.querySelectorAll('#results tr')].length > 14 && document.querySelector('#running-rows tr')";
    browser.goto(&workers[0].url).await;
    browser.until_within(PATIENCE, "some of the others", some).await;

    for (name, url, ready) in [
        ("worker", workers[0].url.clone(), "document.querySelector('#lanes tr')"),
        ("fleet", page.url.clone(), "document.querySelector('#workers tr')"),
        (
            "restaurant",
            format!("{}#restaurants/lantern-ladle", page.url),
            "document.querySelector('#restaurant h2')",
        ),
        ("letters", format!("{}#letters", page.url), "document.querySelector('#letters li')"),
    ] {
        browser.goto(&url).await;
        browser.until(name, ready).await;
        for (width, size) in [(1280, DESK), (400, PHONE)] {
            browser.size(size).await;
            for (scheme, dark) in [("light", false), ("dark", true)] {
                browser.prefer_dark(dark).await;
                assert_eq!(browser.overflow().await, 0, "{name} at {width}");
                let picture = browser.picture(TALLEST).await;
                std::fs::write(folder.join(format!("ui-{name}-{width}-{scheme}.png")), picture).unwrap();
            }
        }
    }
}

fn workers(rig: &Rig, real: bool) -> Vec<crate::page::rig::Page> {
    let slots = |program: Maitred| program.set("worker.slots", 8).set("worker.look_ahead", 8);
    if real {
        return vec![rig.worker_with("ada", |program| slots(program).set("engine.backend", "llama"))];
    }
    // Slow enough to be seen.
    let slow = |program: Maitred| slots(program).set("sim.step", "40ms").set("sim.token", "300us");
    ["ada", "bea", "cleo"].map(|name| rig.worker_with(name, slow)).into()
}
