//! HTTP/1.1 as every client here speaks it: the bytes of a request, and where its answer ends.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue};

const HEADERS: usize = 32;

/// Bytes of a request with these headers, and with a length unless it is a GET without a body.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = String::with_capacity(256 + path.len());
    // Writing to a String can't fail.
    let _ = write!(head, "{method} {path} HTTP/1.1\r\nhost: broker\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if method != "GET" || !body.is_empty() {
        let _ = write!(head, "content-length: {}\r\n", body.len());
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Where the body begins.
    pub(crate) body_at: usize,
    /// Where it ends.
    pub(crate) end: usize,
}

/// The head of the answer to this method, once it is whole, with what `read` makes of its headers. Only answers with a
/// length are understood: the broker sends no others.
pub(crate) fn parse<T>(
    method: &str,
    bytes: &[u8],
    read: impl FnOnce(&[httparse::Header<'_>]) -> T,
) -> Result<Option<(Head, T)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let body_at = match response.parse(bytes) {
        Ok(httparse::Status::Complete(body_at)) => body_at,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let status = response.code.unwrap_or_default();
    let given = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = given.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let length = match length {
        _ if method == "HEAD" || status == 204 || status == 304 => 0,
        Some(length) => length,
        None => return Err(format!("answer {status} without content-length")),
    };
    let head = Head {
        status,
        body_at,
        end: body_at.saturating_add(length),
    };
    Ok(Some((head, read(response.headers))))
}

/// For [`parse`]: all headers.
pub(crate) fn header_map(headers: &[httparse::Header<'_>]) -> HeaderMap {
    let header = |header: &httparse::Header<'_>| {
        let name = HeaderName::from_bytes(header.name.as_bytes()).unwrap();
        (name, HeaderValue::from_bytes(header.value).unwrap())
    };
    headers.iter().map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_what_was_given_and_no_more() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(request("GET", "/a", &[], b"")),
            "GET /a HTTP/1.1\r\nhost: broker\r\n\r\n"
        );
        assert_eq!(
            text(request("POST", "/a", &[("authorization", "Bearer t")], b"{}")),
            "POST /a HTTP/1.1\r\nhost: broker\r\nauthorization: Bearer t\r\ncontent-length: 2\r\n\r\n{}"
        );
    }

    #[test]
    fn a_head_is_read_when_it_is_whole_and_must_have_a_length() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert!(parse("GET", &whole[..30], |_| ()).unwrap().is_none());
        let (head, headers) = parse("GET", whole, header_map).unwrap().unwrap();
        assert_eq!((head.status, head.body_at, head.end), (200, 38, 41));
        assert_eq!(headers["content-length"], "3");
        let ends = |method: &str, bytes: &[u8]| {
            let (head, ()) = parse(method, bytes, |_| ()).unwrap().unwrap();
            head.end == head.body_at
        };
        assert!(ends("HEAD", whole), "no body follows");
        assert!(ends("GET", b"HTTP/1.1 204 No Content\r\n\r\n"));
        assert!(parse("GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", |_| ()).is_err());
        assert!(parse("GET", b"rubbish\r\n\r\n", |_| ()).is_err());
    }
}
