//! A real browser, told what to do as a person would: keys, presses, and looking.

use std::time::Duration;

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use maitred_testkit::{Driver, LIMIT};
use serde_json::{Value, json};

/// What is asked of a page in one call.
const PROBE: &str = include_str!("probe.js");
/// A window on a desk, and one on a phone: width and height.
pub const DESK: (u32, u32) = (1280, 900);
pub const PHONE: (u32, u32) = (400, 800);

/// A window with a page in it; closed with its driver.
pub struct Browser {
    client: Client,
}

/// A command that WebDriver itself does not have.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

impl Browser {
    /// A window of a desk's size, light, with the page.
    pub async fn open(driver: &Driver, url: &str) -> Self {
        let arguments = [
            "--headless=new",
            // Root has no sandbox, and the containers of tests are one.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--lang=en",
        ];
        let options = json!({
            "goog:chromeOptions": { "binary": driver.chromium(), "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(options) = options else { unreachable!("it is written as one") };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(Capabilities::from(options)).connect(&driver.url()).await.unwrap();
        let browser = Self { client };
        browser.size(DESK).await;
        browser.prefer_dark(false).await;
        browser.goto(url).await;
        browser
    }

    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    pub async fn reload(&self) {
        self.client.refresh().await.unwrap();
    }

    /// What stands in the address bar.
    pub async fn address(&self) -> String {
        self.client.current_url().await.unwrap().to_string()
    }

    /// Makes the window so large.
    pub async fn size(&self, (width, height): (u32, u32)) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// What the system says of light and dark.
    pub async fn prefer_dark(&self, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.tell("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Presses keys one after the other; `↓ ↑ ⏎ ⎋ ⌫ ⇥` are what they look like.
    pub async fn keys(&self, keys: &str) {
        let mut actions = KeyActions::new("keyboard".to_owned());
        for key in keys.chars() {
            let value = match key {
                '↓' => '\u{e015}',
                '↑' => '\u{e013}',
                '⏎' => '\u{e007}',
                '⎋' => '\u{e00c}',
                '⌫' => '\u{e003}',
                '⇥' => '\u{e004}',
                other => other,
            };
            actions = actions.then(KeyAction::Down { value }).then(KeyAction::Up { value });
        }
        self.client.perform_actions(actions).await.unwrap();
    }

    /// Presses what the selector finds.
    pub async fn press(&self, selector: &str) {
        self.client.find(Locator::Css(selector)).await.unwrap().click().await.unwrap();
    }

    /// Writes into a field; it has the focus then.
    pub async fn fill(&self, selector: &str, text: &str) {
        let field = self.client.find(Locator::Css(selector)).await.unwrap();
        field.click().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// The text as it is seen.
    pub async fn text(&self, selector: &str) -> String {
        self.string("text", selector).await
    }

    /// The text as it stands in the page.
    pub async fn content(&self, selector: &str) -> String {
        self.string("content", selector).await
    }

    pub async fn contents(&self, selector: &str) -> Vec<String> {
        serde_json::from_value(self.ask("contents", selector).await).unwrap()
    }

    pub async fn count(&self, selector: &str) -> u64 {
        self.ask("count", selector).await.as_u64().unwrap()
    }

    pub async fn is_shown(&self, selector: &str) -> bool {
        self.ask("shown", selector).await == true
    }

    pub async fn is_dark(&self) -> bool {
        self.ask("dark", "").await == true
    }

    /// How many pixels one would have to scroll sideways.
    pub async fn overflow(&self) -> i64 {
        self.ask("overflow", "").await.as_i64().unwrap()
    }

    /// Whether what has the focus is marked.
    pub async fn outline(&self) -> bool {
        self.ask("outline", "").await == true
    }

    /// Every text stands out from what is behind it, and every control has a name.
    #[track_caller]
    pub fn is_readable(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            assert_eq!(self.ask("pale", "").await, json!([]), "too pale, {caller}");
            assert_eq!(self.ask("nameless", "").await, json!([]), "without a name, {caller}");
        }
    }

    /// Waits until an expression is true in the page.
    pub async fn until(&self, what: &str, expression: &str) {
        self.until_within(LIMIT, what, expression).await;
    }

    pub async fn until_within(&self, limit: Duration, what: &str, expression: &str) {
        let script = format!("return Boolean({expression})");
        let so = async || (self.client.execute(&script, Vec::new()).await.ok()? == true).then_some(());
        let came = until_within(limit, so).await.is_some();
        let shown = if came { String::new() } else { self.text("body").await };
        assert!(came, "waited {limit:?} in vain: {what}; the page: {shown}");
    }

    /// Waits until what the selector finds has this text.
    pub async fn until_text(&self, selector: &str, text: &str) {
        let so = format!("document.querySelector({})?.innerText === {}", json!(selector), json!(text));
        self.until(&format!("{selector} is {text:?}"), &so).await;
    }

    /// The same, as the text stands in the page.
    pub async fn until_content(&self, selector: &str, text: &str) {
        let so = format!("document.querySelector({})?.textContent === {}", json!(selector), json!(text));
        self.until(&format!("{selector} is {text:?}"), &so).await;
    }

    /// No error and no warning stands in the console, such as a broken policy.
    pub async fn complains_of_nothing(&self) {
        self.complains_of_nothing_but(&[]).await;
    }

    pub async fn complains_of_nothing_but(&self, allowed: &[&str]) {
        let log = self.own("se/log", json!({ "type": "browser" })).await;
        let complaints: Vec<&str> = log.as_array().unwrap().iter().filter_map(complaint).collect();
        let is_allowed = |text: &&str| allowed.iter().any(|allowed| text.contains(allowed));
        let others: Vec<&str> = complaints.into_iter().filter(|text| !is_allowed(text)).collect();
        assert_eq!(others, Vec::<&str>::new());
    }

    /// Nothing of [`hostile`](crate::page::hostile) ran, was asked for, or was tried.
    pub async fn ran_nothing(&self) {
        self.ran_nothing_but(&[]).await;
    }

    pub async fn ran_nothing_but(&self, allowed: &[&str]) {
        assert_eq!(self.ask("ran", "").await, json!(["undefined"]));
        self.complains_of_nothing_but(allowed).await;
    }

    /// A picture of the whole page, or of its upper part.
    pub async fn picture(&self, tallest: u32) -> Vec<u8> {
        let size = self.client.execute(
            "document.activeElement.blur(); return [innerWidth, document.documentElement.scrollHeight]",
            Vec::new(),
        );
        let (width, height): (u32, u32) = serde_json::from_value(size.await.unwrap()).unwrap();
        self.size((width, height.min(tallest))).await;
        let picture = self.client.screenshot().await.unwrap();
        self.size((width, if width == PHONE.0 { PHONE.1 } else { DESK.1 })).await;
        picture
    }

    async fn string(&self, what: &str, selector: &str) -> String {
        self.ask(what, selector).await.as_str().unwrap().to_owned()
    }

    async fn ask(&self, what: &str, argument: &str) -> Value {
        self.client.execute(PROBE, vec![what.into(), argument.into()]).await.unwrap()
    }

    async fn tell(&self, command: &str, parameters: Value) {
        self.own("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await;
    }

    async fn own(&self, path: &'static str, body: Value) -> Value {
        self.client.issue_cmd(Own { path, body }).await.unwrap()
    }
}

fn complaint(entry: &Value) -> Option<&str> {
    let is_one = matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING"));
    is_one.then(|| entry["message"].as_str().unwrap_or_default())
}

/// Looks again and again until there is a value; fails the test when there is none within the limit.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(LIMIT, look).await.unwrap_or_else(|| panic!("waited {LIMIT:?} in vain: {what}"))
}

async fn until_within<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let waited = tokio::time::timeout(limit, async {
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        loop {
            beat.tick().await;
            if let Some(value) = look().await {
                return value;
            }
        }
    });
    waited.await.ok()
}
