//! Sends one HTTP request to a node's admin interface.
//!
//! HTTP/1.0, so that the answer ends where the connection does: no chunks, no keeping alive. Enough for
//! our own interface, and no more than that.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::token::Token;

/// The most bytes of an answer.
const MAX_BYTES: u64 = 64 << 20;
/// How long connecting may take; with a dead host it would hang.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the whole answer may take; changes wait for a commit.
const ANSWER: Duration = Duration::from_secs(20);

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Changes something.
    Put,
    /// Ends something.
    Delete,
}

impl Method {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends a request to `address` (`host:port`). `path` is percent-encoded already.
pub async fn request(
    address: &str,
    method: Method,
    path: &str,
    token: Option<&Token>,
) -> io::Result<Answer> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let socket = timeout(CONNECT, TcpStream::connect(address))
        .await
        .map_err(late)??;
    timeout(ANSWER, exchange(socket, address, method, path, token))
        .await
        .map_err(late)?
}

async fn exchange(
    mut socket: TcpStream,
    address: &str,
    method: Method,
    path: &str,
    token: Option<&Token>,
) -> io::Result<Answer> {
    let authorization = match token {
        Some(token) => format!("Authorization: Bearer {}\r\n", token.reveal()),
        None => String::new(),
    };
    let method = method.name();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n{authorization}\r\n");
    socket.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    socket.take(MAX_BYTES).read_to_end(&mut bytes).await?;
    parse(&bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Splits an answer into status and body.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut words = head.lines().next()?.split(' ');
    words
        .next()
        .filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next()?.parse().ok()?;
    let body = bytes[end + 4..].to_vec();
    Some(Answer { status, body })
}

/// Percent-encodes a value for a query.
pub(super) fn encode(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = parse(b"HTTP/1.0 404 Not Found\r\nx: y\r\n\r\nbody").unwrap();
        assert_eq!((answer.status, &*answer.body), (404, &b"body"[..]));
        for wrong in [
            "",
            "\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 ok\r\n\r\n",
            "HTTP/1.1 200",
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn addresses_fit_into_a_query() {
        assert_eq!(encode("a b@x/é&"), "a%20b%40x%2F%C3%A9%26");
    }
}
