//! What the server answers to those who should not have it, whatever they ask with.

use maitred_testkit::wait_until;

use crate::page::rig::{Rig, TOKEN, ask, get};

fn status(address: &str, lines: &str) -> u16 {
    ask(address, lines).0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_itself_refuses_without_the_token_and_works_with_it() {
    let Some(rig) = Rig::new() else { return };
    let worker = rig.worker("ada");
    rig.publish_bad_jobs(&["first", "second"]).await;
    drop(worker);
    let post = |path: &str, host: &str, more: &str| {
        format!("POST /api/dead-letters/{path} HTTP/1.1\r\nHost: {host}{more}")
    };

    let silent = rig.ui(None);
    let at = silent.address();
    for more in ["", &format!("\r\nAuthorization: Bearer {TOKEN}")] {
        assert_eq!(status(at, &post("1/replay", at, more)), 403);
        assert_eq!(status(at, &post("1/drop", at, more)), 403);
    }

    let page = rig.ui(Some(TOKEN));
    let at = page.address();
    let bearer = format!("\r\nAuthorization: Bearer {TOKEN}");
    for more in
        ["", "\r\nAuthorization: Bearer x", "\r\nAuthorization: Bearer ", &format!("\r\nX-Token: {TOKEN}")]
    {
        assert_eq!(status(at, &post("1/replay", at, more)), 401, "{more}");
        assert_eq!(status(at, &post("1/drop", at, more)), 401, "{more}");
    }
    assert_eq!(status(at, &post(&format!("1/replay?token={TOKEN}"), at, "")), 401, "not in an address");
    assert_eq!(status(at, &format!("GET /api/dead-letters/1/replay HTTP/1.1\r\nHost: {at}{bearer}")), 405);
    assert_eq!(status(at, &post("1/replay", at, &bearer)), 200);
    assert_eq!(status(at, &post("1/replay", at, &bearer)), 404, "it is gone");
    assert_eq!(status(at, &post("2/drop", at, &bearer)), 200);
    assert!(!page.program.log().contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_policy_and_no_other_name_is_answered() {
    let Some(rig) = Rig::new() else { return };
    let (worker, page) = (rig.worker("ada"), rig.ui(None));
    for at in [worker.address(), page.address()] {
        for path in ["/", "/assets/style.css", "/api/state", "/assets/nothing.js"] {
            let (_, answer) = get(at, path);
            let answer = answer.to_lowercase();
            for wanted in
                ["script-src 'self';", "default-src 'none'", "frame-ancestors 'none'", "trusted-types 'none'"]
            {
                assert!(answer.contains(wanted), "{path}: {answer}");
            }
            assert!(answer.contains("x-content-type-options: nosniff"), "{path}");
        }
        // A site that has its name point to this machine.
        for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example"] {
            for path in ["/", "/api/state", "/assets/fleet.js"] {
                assert_eq!(status(at, &format!("GET {path} HTTP/1.1\r\nHost: {host}")), 421, "{host} {path}");
            }
        }
        assert_eq!(status(at, "GET /api/state HTTP/1.1\r\nHost: localhost:1"), 200);
    }
    assert_eq!(status(page.address(), "GET /api/backlog HTTP/1.1\r\nHost: evil.example"), 421);
    // Whoever restarts workers asks by the address that it knows.
    assert_eq!(status(worker.address(), "GET /livez HTTP/1.1\r\nHost: 10.1.2.3:8080"), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_it_takes_the_token_to_look() {
    let Some(rig) = Rig::new() else { return };
    let refused = rig.maitred.run(&["ui", "--listen", "0.0.0.0:0"]).ended(1);
    refused.told(&["0.0.0.0:0", "others can reach", "ui.token_file", "127.0.0.1"]);

    let mut page = rig.maitred.clone().set("ui.token", TOKEN).start("open", &["ui", "--listen", "0.0.0.0:0"]);
    let url = page.wait_printed("http://");
    let at = format!("127.0.0.1:{}", url.trim_end_matches('/').rsplit(':').next().unwrap());
    wait_until("the page", || get(&at, "/").0 == 200);
    let bearer = format!("\r\nAuthorization: Bearer {TOKEN}");
    // Counts quote nobody, and who scales by them need not have the token.
    wait_until("the counts", || get(&at, "/api/backlog").0 == 200);
    for path in ["/api/state", "/api/restaurants", "/api/restaurants/r", "/api/dead-letters/1"] {
        assert_eq!(get(&at, path).0, 401, "{path}");
        assert_ne!(
            status(&at, &format!("GET {path} HTTP/1.1\r\nHost: fleet.example{bearer}")),
            401,
            "{path}"
        );
    }
    let shown = rig.maitred.clone().set("ui.token", TOKEN).run(&["config", "show"]).ended(0);
    assert!(shown.stdout.contains("ui.token ") && !shown.stdout.contains(TOKEN), "{}", shown.stdout);
}
