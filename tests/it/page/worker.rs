//! The page of one worker.

use maitred_testkit::Driver;

use crate::page::browser::{Browser, PHONE};
use crate::page::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_change_when_jobs_are_worked() {
    let (Some(rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    let page = rig.worker("ada");
    let browser = Browser::open(&driver, &page.url).await;
    browser.until_text("#worker", "ada").await;
    browser.until_text("#condition", "ready").await;
    // What is not known is a dash, not a zero.
    assert_eq!(browser.text("#ttft").await, "–");
    assert_eq!(browser.text("#goodput").await, "–");
    assert_eq!(browser.text("#within").await, "–");
    browser.until_text("#results-none", "No job has ended yet.").await;

    rig.submit_some(1, 6);
    browser.until("six results", "document.querySelectorAll('#results tr').length === 6").await;
    assert!(browser.text("#ttft").await.ends_with('s'), "a time to the first answer");
    browser
        .until("the sparkline", "document.querySelectorAll('#ttft-spark svg .line[d*=L]').length === 1")
        .await;
    browser.until("the lanes", "document.querySelectorAll('#lanes tr').length === 3").await;
    assert!(!browser.is_shown("#results-none").await);

    rig.publish_bad_jobs(&["lost"]).await;
    browser.until("the dead letter", "document.querySelectorAll('#letters li').length === 1").await;
    let letter = browser.text("#letters li").await;
    assert!(letter.contains("malformed") && letter.contains("missing field"), "{letter}");
    browser.complains_of_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_answer_is_told_with_the_age_of_what_is_shown() {
    let (Some(rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    let mut page = rig.worker("ada");
    let browser = Browser::open(&driver, &page.url).await;
    browser.until_text("#link", "live").await;
    page.program.stop();
    browser.until_text("#link", "disconnected").await;
    browser
        .until("how old it is", r"/^last update \d+ s ago$/.test(document.getElementById('age').textContent)")
        .await;
    assert_eq!(browser.text("#worker").await, "ada", "what was known stays");
    page.program.cont();
    browser.until_text("#link", "live").await;
    assert_eq!(browser.text("#age").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fits_a_phone_in_light_and_dark_and_the_choice_is_remembered() {
    let (Some(rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    let page = rig.worker("a-worker-with-a-rather-long-name-as-pods-have-them-7d9f8b-x2x4z");
    rig.submit_some(2, 4);
    rig.publish_bad_jobs(&["a-restaurant-whose-id-is-so-long-that-it-does-not-fit-a-phone-in-one-line"])
        .await;
    let browser = Browser::open(&driver, &page.url).await;
    browser.until("results", "document.querySelectorAll('#results tr').length >= 4").await;
    browser.until("the dead letter", "document.querySelectorAll('#letters li').length === 1").await;
    browser.size(PHONE).await;
    for dark in [false, true] {
        browser.prefer_dark(dark).await;
        assert_eq!(browser.overflow().await, 0, "no sideways scrolling");
        assert_eq!(browser.is_dark().await, dark);
        browser.is_readable().await;
    }
    // The button goes through what the system says, light, and dark.
    browser.press("#theme").await;
    assert!(!browser.is_dark().await);
    browser.reload().await;
    browser.until_text("#theme", "Theme: light").await;
    assert!(!browser.is_dark().await, "the choice is remembered");
    browser.complains_of_nothing().await;
}
