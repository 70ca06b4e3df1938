//! The page of the fleet.

use maitred::broker::nats::DeadLetters;
use maitred_testkit::Driver;

use crate::page::browser::{Browser, PHONE, until};
use crate::page::rig::{Rig, TOKEN, result};

#[tokio::test(flavor = "multi_thread")]
async fn lanes_workers_and_restaurants_are_shown_as_they_change() {
    let (Some(rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    let page = rig.ui(None);
    let browser = Browser::open(&driver, &page.url).await;
    browser.until("the lanes", "document.querySelectorAll('#lanes tr').length === 3").await;
    browser.until_text("#workers-count", "0").await;
    assert_eq!(browser.text("#jobs-pace").await, "–", "nobody tells a pace");

    rig.submit_some(3, 5);
    browser.until_text("#waiting", "5").await;
    browser
        .until("an alarm", "document.getElementById('alarms').textContent.includes('no worker is alive')")
        .await;
    let worker = rig.worker("bea");
    browser.until("the worker", "document.querySelector('#workers th')?.textContent === 'bea'").await;
    browser.until_text("#waiting", "0").await;
    browser.until("no alarm", "document.getElementById('alarms').hidden").await;

    browser.goto(&format!("{}#restaurants", page.url)).await;
    browser.until("all restaurants", "document.querySelectorAll('#restaurants li').length === 5").await;
    drop(worker);
    browser.complains_of_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restaurant_is_found_and_read_with_the_keyboard_alone() {
    let (Some(rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    for (id, name) in [("blue", "The Blue Door"), ("red", "Red Lantern"), ("soup", "House of Soup")] {
        rig.publish(result(id, name, "The soup is praised.", &format!("the soup at {name} was hot"))).await;
    }
    let page = rig.ui(None);
    let browser = Browser::open(&driver, &page.url).await;
    browser.until_text("#link", "live").await;

    browser.keys("/").await;
    browser.until("the search has the focus", "document.activeElement.id === 'search'").await;
    browser.until("three restaurants", "document.querySelectorAll('#restaurants li').length === 3").await;
    browser.keys("BLUE").await;
    browser.until("one restaurant", "document.querySelectorAll('#restaurants li').length === 1").await;
    browser.keys("↓⏎").await;
    browser.until_text("#restaurant h2", "The Blue Door").await;
    browser.until("the heading has the focus", "document.activeElement.matches('#restaurant h2')").await;
    let quotes = browser.text("#restaurant").await;
    assert!(quotes.contains("the soup at The Blue Door was hot"), "{quotes}");
    assert!(
        quotes.contains("review-1") && quotes.contains("70 %") && quotes.contains("2.5 times"),
        "{quotes}"
    );

    browser.keys("⎋").await;
    browser.until("its line has the focus", "document.activeElement.closest('#restaurants') !== null").await;
    browser.keys("⎋").await;
    browser.until("the search has the focus", "document.activeElement.id === 'search'").await;
    browser.keys("⌫⌫⌫⌫").await;
    browser.until("three again", "document.querySelectorAll('#restaurants li').length === 3").await;
    browser.keys("↓↓⏎").await;
    browser.until_text("#restaurant h2", "Red Lantern").await;
    browser.until("the heading has the focus", "document.activeElement.matches('#restaurant h2')").await;
    assert!(browser.outline().await, "what has the focus is marked");

    // A newer result is shown without anybody asking.
    rig.publish(newer("red", "Red Lantern", "it is even better now")).await;
    browser
        .until(
            "the new quote",
            "document.querySelector('#restaurant blockquote p').textContent === 'it is even better now'",
        )
        .await;
    browser.complains_of_nothing().await;
}

fn newer(id: &str, name: &str, quote: &str) -> serde_json::Value {
    let mut result = result(id, name, "The soup is praised.", quote);
    result["job_id"] = "a-newer-job".into();
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_explained_to_all_and_replayed_or_dropped_with_the_token() {
    let (Some(rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    let worker = rig.worker("ada");
    rig.publish_bad_jobs(&["first", "second"]).await;
    // So that what is replayed stays where it can be seen.
    drop(worker);
    let letters = DeadLetters::new(&rig.broker().await);
    let page = rig.ui(Some(TOKEN));
    let browser = Browser::open(&driver, &format!("{}#letters", page.url)).await;
    browser.until("two letters", "document.querySelectorAll('#letters li').length === 2").await;
    assert_eq!(browser.count("#letters [data-do]").await, 0, "without the token there is nothing to do");
    browser.press("#letters li:last-child [aria-expanded]").await;
    browser.until("the reason", "document.querySelector('#letters li:last-child .message')").await;
    let why = browser.text("#letters li:last-child .details").await;
    // Which of the two was given up first is nobody's promise.
    assert!(why.contains("jobs.analysis.live.") && why.contains("ada"), "{why}");

    browser.fill("#token", "0123456789abcdef-of-others").await;
    browser.keys("⏎").await;
    browser.until("the buttons", "document.querySelectorAll('#letters [data-do]').length === 4").await;
    browser.press("#letters li:last-child [data-do=replay]").await;
    browser
        .until(
            "the refusal",
            "document.getElementById('letters-problem').textContent.includes('not the token')",
        )
        .await;
    assert_eq!(letters.count().await.unwrap(), 2);

    browser.fill("#token", TOKEN).await;
    browser.keys("⏎").await;
    browser.until("the buttons", "document.querySelectorAll('#letters [data-do]').length === 4").await;
    browser.press("#letters li:last-child [data-do=replay]").await;
    browser.until("one is gone", "document.querySelectorAll('#letters li').length === 1").await;
    until("one letter", async || (letters.count().await.ok()? == 1).then_some(())).await;

    browser.press("#letters [data-do=drop]").await;
    browser.until_text("#letters [data-do=drop]", "Drop for good?").await;
    assert_eq!(letters.count().await.unwrap(), 1, "once is not enough");
    browser.press("#letters [data-do=drop]").await;
    browser.until("none is left", "!document.getElementById('letters-none').hidden").await;
    until("no letter", async || (letters.count().await.ok()? == 0).then_some(())).await;

    let log = page.program.log();
    assert!(
        log.contains("dead letter replayed on the page") && log.contains("dead letter dropped on the page")
    );
    assert!(log.contains("WrongToken") && !log.contains("0123456789abcdef"), "{log}");
    assert!(!browser.address().await.contains("0123456789abcdef"));
    // The refusal is the one thing that the browser itself complains of.
    browser.complains_of_nothing_but(&["401 (Unauthorized)"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_can_be_done_and_that_is_said() {
    let (Some(rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    let worker = rig.worker("ada");
    rig.publish_bad_jobs(&["first"]).await;
    drop(worker);
    let page = rig.ui(None);
    let browser = Browser::open(&driver, &format!("{}#letters", page.url)).await;
    browser.until("the letter", "document.querySelectorAll('#letters li').length === 1").await;
    assert_eq!(browser.count("#letters [data-do]").await, 0);
    assert!(!browser.is_shown("#token-form").await);
    assert!(browser.text("#letters-note").await.contains("ui.token_file"));
    browser.complains_of_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_told_and_what_was_seen_stays() {
    let (Some(mut rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    let page = rig.ui(None);
    let browser = Browser::open(&driver, &page.url).await;
    browser.until("the lanes", "document.querySelectorAll('#lanes tr').length === 3").await;
    rig.nats.kill();
    browser.until("the fault", "!document.getElementById('fault').hidden").await;
    assert!(browser.text("#fault").await.contains("What is shown is"));
    assert_eq!(browser.text("#link").await, "live", "the page itself is served");
    assert_eq!(browser.count("#lanes tr").await, 3);
    rig.nats.restart();
    browser.until("no fault", "document.getElementById('fault').hidden").await;
    browser.complains_of_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_fits_a_phone_in_light_and_dark() {
    let (Some(rig), Some(driver)) = (Rig::new(), Driver::start()) else { return };
    let long = "a-restaurant-whose-id-is-so-long-that-it-does-not-fit-a-phone-in-one-line";
    let worker = rig.worker("a-worker-with-a-rather-long-name-as-pods-have-them-7d9f8b-x2x4z");
    rig.publish(result(long, &"Longname ".repeat(9), &"Praise ".repeat(30), &"quoted".repeat(40))).await;
    rig.publish_bad_jobs(&[long]).await;
    let page = rig.ui(Some(TOKEN));
    let browser = Browser::open(&driver, &page.url).await;
    browser.size(PHONE).await;
    for (view, ready) in [
        ("fleet", "document.querySelectorAll('#workers tr').length === 1"),
        ("restaurants", "document.querySelectorAll('#restaurants li').length === 1"),
        (&format!("restaurants/{long}"), "document.querySelector('#restaurant blockquote')"),
        ("letters", "document.querySelectorAll('#letters li').length === 1"),
    ] {
        browser.goto(&format!("{}#{view}", page.url)).await;
        browser.until(view, ready).await;
        for dark in [false, true] {
            browser.prefer_dark(dark).await;
            assert_eq!(browser.overflow().await, 0, "no sideways scrolling in {view}");
            assert_eq!(browser.is_dark().await, dark);
            browser.is_readable().await;
        }
    }
    drop(worker);
    browser.complains_of_nothing().await;
}
