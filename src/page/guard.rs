//! Who may look, and who may do something.
//!
//! - To do something takes the token, in a header. A form or a link of another site cannot send one, so there is no
//!   request to forge; and a header is in no address bar, history, or log of a proxy.
//! - On loopback anybody may look: whoever is on the machine. A site in the browser of somebody there may not: it could
//!   have its own name point to this address, so only names of this machine are answered.
//! - Beyond loopback nobody may even look without the token, because results quote what guests wrote. Counts quote
//!   nobody: what a scaler asks for takes no token, and so the scaler need not have one.

use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::Request;
use axum::http::header::{self, AUTHORIZATION, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Nothing but our own files; no script, style or handler inside the page; no markup made of strings; in no frame; and
/// no form sent anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Sent with every answer.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// What a page offers to whom.
#[derive(Clone)]
pub enum Access {
    /// Everybody may look, nobody may do anything.
    Look,
    /// Everybody may look; the token is wanted to do something.
    LookAndAct(Token),
    /// The token is wanted for both.
    Closed(Token),
}

/// The page would show reviews to whoever can reach it.
#[derive(Debug, thiserror::Error)]
#[error(
    "`ui.listen` is {0}, which others can reach, and results quote what guests wrote: set `ui.token_file` (or `ui.token`), \
     so that only those who have the token can read them, or listen on 127.0.0.1"
)]
pub struct Exposed(pub SocketAddr);

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no token with which it could be.
    NotOffered,
    /// It brings no token.
    NoToken,
    /// It brings another token.
    WrongToken,
}

/// The token, as far as it is kept: enough to know it again.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// Keeps the token's digest.
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether it is this one. The time it takes says nothing: of the digests all bytes are compared, and how far two of
    /// them agree says nothing of the tokens.
    pub fn is(&self, offered: &str) -> bool {
        let offered: [u8; 32] = Sha256::digest(offered).into();
        let differences = self.0.iter().zip(offered).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differences) == 0
    }
}

impl Access {
    /// What can be offered at this address with this token.
    pub fn new(listen: SocketAddr, token: Option<&str>) -> Result<Self, Exposed> {
        match (listen.ip().is_loopback(), token.map(Token::new)) {
            (true, None) => Ok(Self::Look),
            (true, Some(token)) => Ok(Self::LookAndAct(token)),
            (false, Some(token)) => Ok(Self::Closed(token)),
            (false, None) => Err(Exposed(listen)),
        }
    }

    /// Whether there is anything to do at all.
    pub const fn offers_actions(&self) -> bool {
        !matches!(self, Self::Look)
    }

    /// Whether who sends these headers may look.
    pub fn may_look(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match self {
            Self::Look | Self::LookAndAct(_) => Ok(()),
            Self::Closed(token) => check(token, headers),
        }
    }

    /// Whether who sends these headers may do something.
    pub fn may_act(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match self {
            Self::Look => Err(Refused::NotOffered),
            Self::LookAndAct(token) | Self::Closed(token) => check(token, headers),
        }
    }
}

fn check(token: &Token, headers: &HeaderMap) -> Result<(), Refused> {
    let offered = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match offered {
        None => Err(Refused::NoToken),
        Some(offered) if token.is(offered.trim()) => Ok(()),
        Some(_) => Err(Refused::WrongToken),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NotOffered => (
                StatusCode::FORBIDDEN,
                "nothing can be done here: `maitred ui` was started without `ui.token`",
            ),
            Self::NoToken => (StatusCode::UNAUTHORIZED, "this takes the token of `ui.token`"),
            Self::WrongToken => (StatusCode::UNAUTHORIZED, "this is not the token of `ui.token`"),
        };
        problem(status, text)
    }
}

/// An answer that says why there is none.
pub(super) fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// Adds what every answer has; what is asked for again must not come from a cache.
pub async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Answers only requests to a name of this machine.
pub async fn to_this_machine(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
    match host {
        Some(host) if !is_local(host) => {
            problem(StatusCode::MISDIRECTED_REQUEST, "ask for localhost or 127.0.0.1, by no other name")
        }
        _ => next.run(request).await,
    }
}

/// Whether a `Host` header names this machine and nothing that a name server could answer for.
fn is_local(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: &str = "0123456789abcdef";

    fn bearing(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    fn access(listen: &str, token: Option<&str>) -> Access {
        Access::new(listen.parse().unwrap(), token).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn beyond_loopback_there_is_no_page_without_a_token_and_it_says_why() {
        for listen in ["0.0.0.0:8090", "[::]:8090", "192.168.1.2:8090"] {
            let Err(error) = Access::new(listen.parse().unwrap(), None) else { panic!("{listen} is open") };
            let text = error.to_string();
            assert!(
                text.contains(listen) && text.contains("quote") && text.contains("ui.token_file"),
                "{text}"
            );
        }
    }

    #[test]
    fn on_loopback_everybody_looks_and_only_the_token_acts() {
        let (look, act) = (access("127.0.0.1:1", None), access("[::1]:1", Some(TOKEN)));
        let right = bearing(&format!("Bearer {TOKEN}"));
        assert_eq!(look.may_look(&HeaderMap::new()), Ok(()));
        assert_eq!(look.may_act(&right), Err(Refused::NotOffered));
        assert!(!look.offers_actions() && act.offers_actions());
        assert_eq!(act.may_look(&HeaderMap::new()), Ok(()));
        assert_eq!(act.may_act(&HeaderMap::new()), Err(Refused::NoToken));
        assert_eq!(act.may_act(&bearing(TOKEN)), Err(Refused::NoToken));
        assert_eq!(act.may_act(&bearing("Bearer 0123456789abcdeF")), Err(Refused::WrongToken));
        assert_eq!(act.may_act(&right), Ok(()));
    }

    #[test]
    fn beyond_loopback_the_token_is_wanted_for_looking_too() {
        let closed = access("0.0.0.0:1", Some(TOKEN));
        assert_eq!(closed.may_look(&HeaderMap::new()), Err(Refused::NoToken));
        assert_eq!(closed.may_look(&bearing("Bearer x")), Err(Refused::WrongToken));
        assert_eq!(closed.may_look(&bearing(&format!("Bearer {TOKEN}"))), Ok(()));
    }

    #[test]
    fn a_name_that_a_name_server_answers_for_is_not_this_machine() {
        for host in
            ["localhost", "localhost:8090", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8090", "[::1]", "[::1]:80"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil.example",
            "10.0.0.1:80",
            "a:b:c",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    proptest! {
        #[test]
        fn a_token_is_itself_and_no_other(a in "[!-~]{16,40}", b in "[!-~]{0,40}") {
            prop_assert!(Token::new(&a).is(&a));
            prop_assert_eq!(Token::new(&a).is(&b), a == b);
        }

        #[test]
        fn no_header_breaks_it(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            prop_assert!(access("0.0.0.0:1", Some(TOKEN)).may_act(&headers).is_err());
        }
    }
}
