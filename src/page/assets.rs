//! What a browser loads once: embedded, so that the program is one file.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const HTML: &str = "text/html; charset=utf-8";

/// Name, media type and content.
const ASSETS: &[(&str, &str, &str)] = &[
    ("style.css", CSS, include_str!("assets/style.css")),
    ("icon.svg", SVG, include_str!("assets/icon.svg")),
    ("theme.js", SCRIPT, include_str!("assets/theme.js")),
    ("dom.js", SCRIPT, include_str!("assets/dom.js")),
    ("format.js", SCRIPT, include_str!("assets/format.js")),
    ("poll.js", SCRIPT, include_str!("assets/poll.js")),
    ("spark.js", SCRIPT, include_str!("assets/spark.js")),
    ("worker.js", SCRIPT, include_str!("assets/worker.js")),
    ("fleet.js", SCRIPT, include_str!("assets/fleet.js")),
    ("restaurants.js", SCRIPT, include_str!("assets/restaurants.js")),
    ("letters.js", SCRIPT, include_str!("assets/letters.js")),
];

/// `/assets/…`.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/assets/{name}", get(asset))
}

/// A page.
pub(super) fn html(body: &'static str) -> Response {
    whole(HTML, body)
}

async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, body)) => whole(kind, body),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Kept by nobody: it is small, and comes with the program that it must fit.
fn whole(kind: &'static str, body: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: [&str; 2] = [include_str!("assets/worker.html"), include_str!("assets/fleet.html")];

    /// What stands between two marks, wherever they do.
    fn between<'t>(text: &'t str, before: &str, after: &str) -> Vec<&'t str> {
        text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
    }

    #[test]
    fn a_page_asks_for_what_there_is_and_for_nothing_elsewhere() {
        let is_known = |name: &str| ASSETS.iter().any(|(known, ..)| *known == name);
        for page in PAGES {
            for reference in between(page, "src=\"", "\"").into_iter().chain(between(page, "href=\"", "\"")) {
                let known = reference.strip_prefix("assets/").is_some_and(is_known);
                assert!(known || reference.starts_with('#'), "{reference}");
            }
        }
        for (name, kind, body) in ASSETS {
            for imported in between(body, "from \"./", "\"") {
                assert!(*kind == SCRIPT && is_known(imported), "{name} imports {imported}");
            }
            // The name of a vocabulary is no address that is asked.
            let addresses =
                between(body, "http", " ").into_iter().filter(|rest| !rest.starts_with("://www.w3.org/"));
            assert_eq!(addresses.count(), 0, "{name} names an address");
        }
    }

    #[test]
    fn nothing_makes_markup_of_text_and_no_script_or_style_is_inline() {
        for (name, _, body) in ASSETS {
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"]
            {
                assert!(!body.contains(forbidden), "{name} uses {forbidden}");
            }
        }
        for page in PAGES {
            assert!(between(page, "<script", "</script>").iter().all(|script| script.ends_with('>')));
            for forbidden in ["<style", " style=", "javascript:", " onclick=", " onload="] {
                assert!(!page.contains(forbidden), "a page uses {forbidden}");
            }
        }
    }
}
