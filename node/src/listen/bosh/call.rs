//! What the head of a request asks for, and the heads of answers.
//!
//! Scripts of all origins may ask, as they may open a WebSocket (WS-5), and no browser takes an answer for a page: who
//! has others write to him could have them write a script there.

use httparse::Request;

use super::PATH;
use crate::listen::web::{Head, is, names};

/// A request of BOSH, or one before it.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// A browser asks whether a script may send one.
    Preflight,
    /// A body of so many bytes follows.
    Post {
        /// The bytes of the body.
        length: usize,
        /// The client awaits a word before it sends them (RFC 9110 §10.1.1).
        expects: bool,
        /// The connection has further requests behind it.
        keeps: bool,
    },
    /// The status that refuses it.
    Refused(&'static str),
}

/// Whether it is for BOSH.
pub fn is_asked(head: &Head) -> bool {
    head.read_as(|request| path(request) == PATH)
        .unwrap_or_default()
}

/// What is asked for; none if it is not for BOSH.
pub(super) fn call(head: &Head) -> Option<Call> {
    head.read_as(|request| (path(request) == PATH).then(|| read(request)))
        .flatten()
}

fn path<'a>(request: &Request<'_, 'a>) -> &'a str {
    let path = request.path.unwrap_or_default();
    path.split('?').next().unwrap_or_default()
}

fn read(request: &Request<'_, '_>) -> Call {
    let headers = &*request.headers;
    match request.method {
        Some("OPTIONS") => return Call::Preflight,
        Some("POST") => {}
        _ => return Call::Refused("405 Method Not Allowed"),
    }
    // What has two lengths could be taken for two requests by somebody else (RFC 9112 §6.3).
    if headers.iter().any(|header| is(header, "transfer-encoding")) {
        return Call::Refused("411 Length Required");
    }
    let mut lengths = headers
        .iter()
        .filter(|header| is(header, "content-length"))
        .map(|header| header.value);
    let length = match (lengths.next(), lengths.next()) {
        (Some(length), None) => std::str::from_utf8(length).ok(),
        (None, _) => return Call::Refused("411 Length Required"),
        (Some(_), Some(_)) => None,
    };
    let length = length.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(length) = length.and_then(|text| text.parse().ok()) else {
        return Call::Refused("400 Bad Request");
    };
    Call::Post {
        length,
        expects: names(headers, "expect", "100-continue"),
        keeps: request.version == Some(1) && !names(headers, "connection", "close"),
    }
}

/// The word that a client may await.
pub(super) const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// The answer to a browser that asks for a script.
pub(super) fn preflight(keeps: bool) -> String {
    let close = close_unless(keeps);
    format!(
        "HTTP/1.1 204 No Content\r\naccess-control-allow-origin: *\r\naccess-control-allow-methods: POST, OPTIONS\r\n\
         access-control-allow-headers: content-type\r\naccess-control-max-age: 86400\r\n{close}\r\n"
    )
}

/// The header that says whether another request may follow.
fn close_unless(keeps: bool) -> &'static str {
    if keeps { "" } else { "connection: close\r\n" }
}

/// The head of an answer that is a body of BOSH.
pub(super) fn answered(content: Option<&str>, length: usize, keeps: bool) -> String {
    let content = content.unwrap_or("text/xml; charset=utf-8");
    let close = close_unless(keeps);
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content}\r\ncontent-length: {length}\r\naccess-control-allow-origin: *\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\n\
         content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n{close}\r\n"
    )
}

/// A request that is none of BOSH.
pub(super) fn refused(status: &str) -> String {
    let text = "Requests of BOSH are posted here, with their length.";
    let length = text.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\nallow: POST, OPTIONS\r\naccess-control-allow-origin: *\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{text}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(head: &str) -> Option<Call> {
        let head = Head::read(&mut format!("{head}\r\n\r\n").as_bytes(), Vec::new()).await;
        call(&head.unwrap().unwrap())
    }

    #[tokio::test]
    async fn bo_9_only_what_has_one_length_is_taken() {
        let post = "POST /http-bind HTTP/1.1\r\nHost: a";
        let taken = |length, expects, keeps| {
            Some(Call::Post {
                length,
                expects,
                keeps,
            })
        };
        for (head, expect) in [
            ("\r\nContent-Length: 7", taken(7, false, true)),
            (
                "\r\ncontent-length: 7\r\nConnection: Close",
                taken(7, false, false),
            ),
            (
                "\r\ncontent-length: 7\r\nExpect: 100-continue",
                taken(7, true, true),
            ),
            ("", Some(Call::Refused("411 Length Required"))),
            (
                "\r\nTransfer-Encoding: chunked",
                Some(Call::Refused("411 Length Required")),
            ),
            (
                "\r\nTransfer-Encoding: chunked\r\nContent-Length: 7",
                Some(Call::Refused("411 Length Required")),
            ),
            (
                "\r\nContent-Length: 7\r\nContent-Length: 7",
                Some(Call::Refused("400 Bad Request")),
            ),
            (
                "\r\nContent-Length: +7",
                Some(Call::Refused("400 Bad Request")),
            ),
            (
                "\r\nContent-Length: 7, 7",
                Some(Call::Refused("400 Bad Request")),
            ),
            (
                "\r\nContent-Length: 99999999999999999999999",
                Some(Call::Refused("400 Bad Request")),
            ),
        ] {
            assert_eq!(asked(&format!("{post}{head}")).await, expect, "{head}");
        }
        let old = "POST /http-bind?x HTTP/1.0\r\nContent-Length: 7";
        assert_eq!(asked(old).await, taken(7, false, false));
        assert_eq!(
            asked("OPTIONS /http-bind HTTP/1.1").await,
            Some(Call::Preflight)
        );
        assert_eq!(
            asked("GET /http-bind HTTP/1.1").await,
            Some(Call::Refused("405 Method Not Allowed"))
        );
        assert_eq!(asked("POST /http-bind/x HTTP/1.1").await, None);
    }
}
