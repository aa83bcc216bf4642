//! The request with which a web client begins: an upgrade to WebSocket (RFC 7395), the question where to connect
//! (XEP-0156), or one for the page that explains invitations.
//!
//! A connection has one request, unless the first is one of BOSH: those are in [`super::bosh`], and may be many. A head
//! is bounded here, its time by whoever reads it. Pages of all origins may
//! connect: nothing that a browser adds by itself, such as a cookie, is worth anything here (WS-5).

use std::io;

use httparse::{Header, Request, Status};
use proto::{Element, ns};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tungstenite::handshake::derive_accept_key;

use super::invite;

/// Where clients connect.
pub const PATH: &str = "/ws";
/// Bytes of a head. Browsers may send cookies of other servers along.
const HEAD_BYTES: usize = 8 * 1024;
/// Lines of a head.
const HEADERS: usize = 64;
/// The end of a head.
const END: &[u8] = b"\r\n\r\n";

/// What is sent back.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The stream begins behind it.
    Upgrade(String),
    /// The connection ends behind it.
    Page(String),
}

/// What clients are told about ways to connect: the kind of each, and its address. Where they are told nothing there is
/// no page either.
pub type Links<'a> = &'a [(&'static str, &'a str)];

/// A head, and what came behind it.
#[derive(Debug)]
pub struct Head {
    bytes: Vec<u8>,
    end: usize,
}

impl Head {
    /// Reads a head, of which some bytes may have come already; none if it is too long.
    pub async fn read(
        socket: &mut (impl AsyncRead + Unpin),
        mut bytes: Vec<u8>,
    ) -> io::Result<Option<Self>> {
        let mut looked_at = 0_usize;
        loop {
            let from = looked_at.saturating_sub(END.len() - 1);
            let end = bytes[from..]
                .windows(END.len())
                .position(|four| four == END);
            if let Some(end) = end {
                let end = from + end + END.len();
                return Ok(Some(Self { bytes, end }));
            }
            looked_at = bytes.len();
            if looked_at >= HEAD_BYTES {
                return Ok(None);
            }
            if socket.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// What it says, to whom it is HTTP.
    pub fn read_as<T>(&self, read: impl FnOnce(&Request<'_, '_>) -> T) -> Option<T> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = Request::new(&mut headers);
        match request.parse(&self.bytes[..self.end]) {
            Ok(Status::Complete(_)) => Some(read(&request)),
            Ok(Status::Partial) | Err(_) => None,
        }
    }

    /// What is said to it.
    pub fn answer(&self, links: Links<'_>) -> Answer {
        self.read_as(|request| answer(request, links))
            .unwrap_or_else(|| page("400 Bad Request", PLAIN, "This is not HTTP/1.1."))
    }

    /// What came behind it.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.bytes.split_off(self.end)
    }
}

/// A head was too long.
pub fn too_long() -> Answer {
    page(
        "431 Request Header Fields Too Large",
        PLAIN,
        "The head of the request is too long.",
    )
}

/// There is no room for the client.
pub fn no_room(why: &str) -> Answer {
    page("503 Service Unavailable", PLAIN, why)
}

const PLAIN: &str = "content-type: text/plain";

fn page(status: &str, headers: &str, text: &str) -> Answer {
    let length = text.len();
    Answer::Page(format!(
        "HTTP/1.1 {status}\r\n{headers}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
    ))
}

impl Answer {
    /// The same without the text of the page.
    fn into_head(self) -> Self {
        match self {
            Self::Upgrade(head) => Self::Upgrade(head),
            Self::Page(page) => {
                let head = page.split_inclusive("\r\n\r\n").next();
                Self::Page(head.unwrap_or_default().to_owned())
            }
        }
    }
}

fn answer(request: &Request<'_, '_>, links: Links<'_>) -> Answer {
    let path = request.path.unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    match request.method {
        Some("GET") => get(request, path, links),
        // A server that has GET has HEAD as well (RFC 9110 §9.1).
        Some("HEAD") if path != PATH => get(request, path, links).into_head(),
        _ => {
            let headers = format!("{PLAIN}\r\nallow: GET, HEAD");
            page("405 Method Not Allowed", &headers, "This is only read.")
        }
    }
}

fn get(request: &Request<'_, '_>, path: &str, links: Links<'_>) -> Answer {
    match (path, links.is_empty()) {
        (PATH, _) => upgrade(request.headers),
        (HOST_META, false) => told("application/xrd+xml", &host_meta(links)),
        (HOST_META_JSON, false) => told("application/json", &host_meta_json(links)),
        (invite::PATH, false) => page("200 OK", &invite::HEADERS, invite::HTML),
        _ => page("404 Not Found", PLAIN, "There is nothing here."),
    }
}

/// A page that scripts of any origin may read (XEP-0156 §3).
fn told(kind: &str, text: &str) -> Answer {
    let headers = format!("content-type: {kind}\r\naccess-control-allow-origin: *");
    page("200 OK", &headers, text)
}

/// Where clients look for ways to connect, as an XRD.
pub const HOST_META: &str = "/.well-known/host-meta";
/// The same as JSON.
pub const HOST_META_JSON: &str = "/.well-known/host-meta.json";

/// The page that names the ways to connect as an XRD (XEP-0156 §3): what kind each is, and its address.
pub fn host_meta(links: &[(&str, &str)]) -> String {
    let mut all = Element::new("XRD", ns::XRD);
    for (rel, url) in links {
        let link = Element::new("Link", ns::XRD);
        all.push(link.with_attr("rel", *rel).with_attr("href", *url));
    }
    format!("<?xml version='1.0' encoding='utf-8'?>{}", all.to_xml(""))
}

/// The same as JSON (XEP-0156 §3).
pub fn host_meta_json(links: &[(&str, &str)]) -> String {
    let links = links.iter();
    let links = links.map(|(rel, url)| serde_json::json!({ "rel": rel, "href": url }));
    serde_json::json!({ "links": links.collect::<Vec<_>>() }).to_string()
}

/// RFC 6455 §4.2, with the subprotocol of XMPP (WS-1).
fn upgrade(headers: &[Header<'_>]) -> Answer {
    if !names(headers, "upgrade", "websocket") || !names(headers, "connection", "upgrade") {
        let headers = format!("{PLAIN}\r\nupgrade: websocket");
        return page(
            "426 Upgrade Required",
            &headers,
            "XMPP is spoken here, over WebSocket.",
        );
    }
    if !names(headers, "sec-websocket-version", "13") {
        let headers = format!("{PLAIN}\r\nsec-websocket-version: 13");
        return page(
            "426 Upgrade Required",
            &headers,
            "Version 13 of WebSocket is spoken here.",
        );
    }
    if !names(headers, "sec-websocket-protocol", "xmpp") {
        return page("400 Bad Request", PLAIN, "The subprotocol must be xmpp.");
    }
    let mut keys = headers
        .iter()
        .filter(|header| is(header, "sec-websocket-key"));
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return page("400 Bad Request", PLAIN, "One Sec-WebSocket-Key is needed.");
    };
    let accept = derive_accept_key(key.value.trim_ascii());
    Answer::Upgrade(format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: xmpp\r\n\r\n"
    ))
}

pub(super) fn is(header: &Header<'_>, name: &str) -> bool {
    header.name.eq_ignore_ascii_case(name)
}

/// Whether a word is in a header that is a list of them, in whatever case.
pub(super) fn names(headers: &[Header<'_>], name: &str, word: &str) -> bool {
    let values = headers.iter().filter(|header| is(header, name));
    let mut words = values.flat_map(|header| header.value.split(|byte| *byte == b','));
    words.any(|found| found.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a.example\r\nOrigin: https://b.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: x, xmpp\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    async fn asked(text: &str, url: Option<&str>) -> String {
        let head = Head::read(&mut format!("{text}\r\nrest").as_bytes(), Vec::new()).await;
        let head = head.unwrap().unwrap();
        let links = url.map(|url| (ns::ALT_WEBSOCKET, url));
        let answer = head.answer(links.as_slice());
        assert_eq!(head.into_rest(), b"rest");
        match answer {
            Answer::Upgrade(text) | Answer::Page(text) => text,
        }
    }

    #[track_caller]
    fn begins(text: &str, with: &str) {
        assert!(text.starts_with(with), "{text}");
    }

    #[tokio::test]
    async fn the_head_of_a_page_is_that_of_the_page() {
        let url = Some("wss://example.org/ws");
        for (path, status) in [("/.well-known/host-meta", 200), ("/x", 404)] {
            let ask = |method| format!("{method} {path} HTTP/1.1\r\nHost: example.org\r\n");
            let page = asked(&ask("GET"), url).await;
            let head = asked(&ask("HEAD"), url).await;
            begins(&head, &format!("HTTP/1.1 {status} "));
            assert!(head.ends_with("\r\n\r\n"), "{head}");
            begins(&page, &head);
            assert!(page.len() > head.len());
        }
    }

    #[tokio::test]
    async fn ws_1_and_ws_5_the_subprotocol_is_demanded_and_echoed_whatever_the_origin_is() {
        let text = asked(UPGRADE, None).await;
        begins(&text, "HTTP/1.1 101 ");
        // The example of RFC 6455 §1.3.
        assert!(
            text.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            "{text}"
        );
        assert!(
            text.ends_with("\r\nsec-websocket-protocol: xmpp\r\n\r\n"),
            "{text}"
        );
        for (from, to, status) in [
            ("x, xmpp", "x", 400),
            ("x, xmpp", "xmpp2", 400),
            ("Sec-WebSocket-Protocol", "X", 400),
            ("Sec-WebSocket-Key", "X", 400),
            ("Version: 13", "Version: 8", 426),
            ("Upgrade: websocket", "Upgrade: h2c", 426),
            ("keep-alive, Upgrade", "keep-alive", 426),
            ("GET", "POST", 405),
            ("GET", "HEAD", 405),
            ("/ws", "/", 404),
            ("HTTP/1.1", "nonsense", 400),
        ] {
            let text = asked(&UPGRADE.replace(from, to), None).await;
            begins(&text, &format!("HTTP/1.1 {status} "));
        }
    }

    #[tokio::test]
    async fn wd_1_scripts_of_any_origin_learn_where_to_connect() {
        let ask = async |path: &str, url| asked(&format!("GET {path} HTTP/1.1\r\n"), url).await;
        let url = Some("wss://a.example/ws?a&b");
        for (path, kind, expect) in [
            (
                "/.well-known/host-meta",
                "application/xrd+xml",
                "<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\
                 <Link rel='urn:xmpp:alt-connections:websocket' href='wss://a.example/ws?a&amp;b'/></XRD>",
            ),
            (
                "/.well-known/host-meta.json",
                "application/json",
                r#"{"links":[{"href":"wss://a.example/ws?a&b","rel":"urn:xmpp:alt-connections:websocket"}]}"#,
            ),
        ] {
            let text = ask(path, url).await;
            begins(&text, "HTTP/1.1 200 OK\r\n");
            assert!(
                text.contains("\r\naccess-control-allow-origin: *\r\n"),
                "{text}"
            );
            assert!(
                text.contains(&format!("content-type: {kind}\r\n")),
                "{text}"
            );
            assert!(text.ends_with(expect), "{text}");
            begins(&ask(path, None).await, "HTTP/1.1 404 ");
        }
    }

    #[tokio::test]
    async fn re_4_a_page_explains_invitations_where_there_may_be_any() {
        let ask = async |path: &str, url| asked(&format!("GET {path} HTTP/1.1\r\n"), url).await;
        let url = Some("wss://a.example/ws");
        for path in ["/invite", "/invite?x"] {
            let text = ask(path, url).await;
            begins(&text, "HTTP/1.1 200 OK\r\n");
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(body, invite::HTML);
            for header in [
                "content-security-policy: default-src 'none'; script-src 'sha256-",
                "referrer-policy: no-referrer",
                "x-content-type-options: nosniff",
                "cache-control: no-store",
            ] {
                assert!(head.contains(&format!("\r\n{header}")), "{head}");
            }
        }
        begins(&ask("/invite", None).await, "HTTP/1.1 404 ");
        begins(&ask("/invite/x", url).await, "HTTP/1.1 404 ");
    }

    #[tokio::test]
    async fn t_12_a_head_is_bounded() {
        let long = format!(
            "GET / HTTP/1.1\r\nX: {}\r\n\r\n",
            "x".repeat(4 * HEAD_BYTES)
        );
        let head = Head::read(&mut long.as_bytes(), Vec::new()).await;
        assert!(head.unwrap().is_none());
        assert!(
            Head::read(&mut &b"GET / HTTP/1.1\r\n"[..], Vec::new())
                .await
                .is_err()
        );
    }
}
