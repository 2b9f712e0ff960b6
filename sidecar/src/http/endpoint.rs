//! Which requests get the token on localhost. Agents fetch URLs that prompts name: no prompt may fetch this one.

use agentwrit_protocol::Sensitive;
use agentwrit_protocol::inject::{ENDPOINT_HEADER, ENDPOINT_PATH, HEALTH_READY_PATH, HEALTH_STARTUP_PATH};
use http::header::{FORWARDED, HOST, ORIGIN};
use http::{HeaderMap, Method, Uri};

use crate::cause::Cause;

/// An answer in text.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Header `Allow`, for 405.
    pub(crate) allow: Option<&'static str>,
    pub(crate) body: Body,
}

/// A body: a sentence of ours, or the token.
#[derive(Debug)]
pub(crate) enum Body {
    Text(&'static str),
    /// A sentence of ours that isn't always the same; not a secret either.
    Line(String),
    Token(Sensitive),
}

fn text(status: u16, body: &'static str) -> Reply {
    Reply {
        status,
        allow: None,
        body: Body::Text(body),
    }
}

fn wrong_method(allow: &'static str) -> Reply {
    Reply {
        allow: Some(allow),
        ..text(405, "only GET is served here\n")
    }
}

/// Answers a request to the token endpoint.
pub(crate) fn token(method: &Method, uri: &Uri, headers: &HeaderMap, token: Option<Sensitive>) -> Reply {
    if let Some(refusal) = refused(uri, headers) {
        return text(403, refusal);
    }
    if uri.path() != ENDPOINT_PATH {
        return text(404, "the token is at /token\n");
    }
    if method != Method::GET {
        return wrong_method("GET");
    }
    match token {
        Some(token) => Reply {
            status: 200,
            allow: None,
            body: Body::Token(token),
        },
        None => text(503, "there is no token now\n"),
    }
}

/// Why a request is refused: no program that means this endpoint sends one like it.
fn refused(uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    let mut marks = headers.get_all(ENDPOINT_HEADER).iter();
    if marks.next().is_none_or(|mark| mark != "1") || marks.next().is_some() {
        return Some("the header Agentwrit-Request: 1 is needed\n");
    }
    let forwarded = |name: &http::HeaderName| name == FORWARDED || name.as_str().starts_with("x-forwarded-");
    if headers.contains_key(ORIGIN) || headers.keys().any(forwarded) {
        return Some("requests of browsers and proxies are refused\n");
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let authority = uri.authority().map_or(host, http::uri::Authority::as_str);
    if hosts.next().is_some() || !is_local(host) || !is_local(authority) {
        return Some("the Host must be 127.0.0.1 or localhost\n");
    }
    None
}

/// `127.0.0.1` or `localhost`, with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.split_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return false,
        None => host,
    };
    name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost")
}

/// Answers a request to the health listener; there is no secret on it.
pub(crate) fn health(method: &Method, uri: &Uri, not_ready: Option<Cause>) -> Reply {
    if uri.path() != HEALTH_STARTUP_PATH && uri.path() != HEALTH_READY_PATH {
        return text(404, "the probes are /startup and /ready\n");
    }
    if method != Method::GET && method != Method::HEAD {
        return wrong_method("GET, HEAD");
    }
    match not_ready {
        None => text(200, "a valid token is in the file\n"),
        Some(cause) => Reply {
            status: 503,
            allow: None,
            body: Body::Line(cause.line()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn ask(method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        token(&method, &uri.parse().unwrap(), &map, Some(Sensitive::from("t"))).status
    }

    #[test]
    fn only_programs_that_mean_it_get_the_token() {
        type Headers<'a> = &'a [(&'a str, &'a str)];
        const MARK: (&str, &str) = ("agentwrit-request", "1");
        const LOCAL: (&str, &str) = ("host", "127.0.0.1:15080");
        let table: &[(&str, &str, Headers<'_>, u16)] = &[
            ("GET", "/token", &[MARK, LOCAL], 200),
            ("GET", "/token", &[MARK, ("host", "127.0.0.1")], 200),
            ("GET", "/token", &[MARK, ("host", "LocalHost:15080")], 200),
            ("GET", "http://localhost:15080/token", &[MARK, LOCAL], 200),
            ("GET", "/token", &[LOCAL], 403),
            ("GET", "/token", &[("agentwrit-request", "true"), LOCAL], 403),
            ("GET", "/token", &[MARK, MARK, LOCAL], 403),
            ("GET", "/token", &[MARK], 403),
            ("GET", "/token", &[MARK, LOCAL, LOCAL], 403),
            ("GET", "/token", &[MARK, ("host", "evil.example:15080")], 403),
            ("GET", "/token", &[MARK, ("host", "127.0.0.1.evil.example")], 403),
            ("GET", "/token", &[MARK, ("host", "localhost:evil")], 403),
            ("GET", "/token", &[MARK, ("host", "user@localhost")], 403),
            ("GET", "http://evil.example/token", &[MARK, LOCAL], 403),
            ("GET", "/token", &[MARK, LOCAL, ("origin", "http://localhost")], 403),
            ("GET", "/token", &[MARK, LOCAL, ("origin", "null")], 403),
            ("GET", "/token", &[MARK, LOCAL, ("x-forwarded-for", "10.0.0.1")], 403),
            ("GET", "/token", &[MARK, LOCAL, ("X-Forwarded-Anything", "")], 403),
            ("GET", "/token", &[MARK, LOCAL, ("forwarded", "for=10.0.0.1")], 403),
            ("POST", "/token", &[MARK, LOCAL], 405),
            ("HEAD", "/token", &[MARK, LOCAL], 405),
            ("OPTIONS", "/token", &[MARK, LOCAL], 405),
            ("GET", "/token/", &[MARK, LOCAL], 404),
            ("GET", "/", &[MARK, LOCAL], 404),
        ];
        for (method, uri, headers, status) in table {
            assert_eq!(ask(method, uri, headers), *status, "{method} {uri} {headers:?}");
        }
    }

    #[test]
    fn probes_follow_readiness() {
        let get = |path: &str, cause| health(&Method::GET, &path.parse().unwrap(), cause).status;
        let starting = Some(Cause::Starting);
        assert_eq!((get("/startup", starting), get("/ready", starting)), (503, 503));
        assert_eq!((get("/startup", None), get("/ready", None)), (200, 200));
        assert_eq!(get("/token", None), 404);
        assert_eq!(health(&Method::POST, &"/ready".parse().unwrap(), None).status, 405);
    }
}
