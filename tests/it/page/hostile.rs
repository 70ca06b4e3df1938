//! What guests wrote is text, whatever it looks like.

use maitred_testkit::Driver;
use serde_json::json;

use crate::page::browser::Browser;
use crate::page::rig::{Rig, result};

/// Each would set `window.ran`, or ask for `/stolen`, if anything in it were taken for more than text.
const HOSTILE: [&str; 6] = [
    "<img src=/stolen onerror=\"window.ran=1\">",
    "<script>window.ran=1</script>",
    "</p></blockquote><svg onload=window.ran=1>",
    "<a href=\"javascript:window.ran=1\">the best soup</a>",
    "<style>@import '/stolen'; body { display: none }</style>",
    "\u{202e}\"'><iframe srcdoc='<script>parent.ran=1</script>'></iframe>&lt;b&gt;",
];

#[tokio::test(flavor = "multi_thread")]
async fn hostile_reviews_names_and_claims_are_shown_as_text_and_run_nothing() {
    let (Some(rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    for (n, text) in HOSTILE.into_iter().enumerate() {
        rig.publish(result(&format!("hostile-{n}"), text, text, text)).await;
    }
    let page = rig.ui(None);
    let browser = Browser::open(&driver, &format!("{}#restaurants", page.url)).await;
    browser.until("all of them", "document.querySelectorAll('#restaurants li').length === 6").await;
    for (n, text) in HOSTILE.into_iter().enumerate() {
        browser.goto(&format!("{}#restaurants/hostile-{n}", page.url)).await;
        browser.until_content("#restaurant h2", text).await;
        for place in ["#restaurant blockquote p", "#restaurant .claim"] {
            assert_eq!(browser.content(place).await, text, "{place}");
        }
        let names = browser.contents("#restaurants .name").await;
        assert!(names.contains(&text.to_owned()), "{names:?}");
    }
    browser.ran_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_reviews_on_their_way_through_a_worker_run_nothing() {
    let (Some(rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    let reviews = HOSTILE.iter().enumerate().map(|(n, text)| json!({ "id": format!("r{n}"), "text": text }));
    let reviews: Vec<_> = reviews.collect();
    let job = json!({ "restaurant_id": "hostile", "name": HOSTILE[0], "reviews": reviews });
    let file = rig.folder().join("hostile.jsonl");
    std::fs::write(&file, job.to_string() + "\n").unwrap();
    let worker = rig.worker("ada");
    rig.submit(&file);
    let browser = Browser::open(&driver, &worker.url).await;
    browser.until("the result", "document.querySelectorAll('#results tr').length === 1").await;
    let shown = browser.content("main").await;
    assert!(
        !shown.contains("onerror") && !shown.contains("soup"),
        "a worker's page shows no review: {shown}"
    );
    browser.ran_nothing().await;

    let page = rig.ui(None);
    browser.goto(&format!("{}#restaurants/hostile", page.url)).await;
    browser.until_content("#restaurant h2", HOSTILE[0]).await;
    browser.ran_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_no_restaurant_says_so() {
    let (Some(rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    let page = rig.ui(None);
    let browser = Browser::open(&driver, &page.url).await;
    for id in
        ["nobody", "%3Cimg%20src=x%20onerror=window.ran=1%3E", "%", "..%2f..%2fapi%2fstate", "%EA%B0%80"]
    {
        browser.goto(&format!("{}#restaurants/{id}", page.url)).await;
        browser.until(id, "document.querySelector('#restaurant .problem')?.textContent").await;
    }
    let allowed = ["404 (Not Found)", "400 (Bad Request)"];
    browser.ran_nothing_but(&allowed).await;
}
