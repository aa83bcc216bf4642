//! A client of BOSH, request by request: connections of HTTP, and what is said by them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use proto::{Element, ns};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::PATIENCE;
use crate::cluster::Cluster;
use crate::web::{address, plain, secured};
use crate::web_session::Carrier;
use crate::wire::{DOMAIN, End};

/// What every node's configuration needs for clients of BOSH. The system chooses the port.
pub const BOSH: &str =
    "[web]\nlisten = [\"127.0.0.1:0\"]\nbosh_url = \"https://web.example/http-bind\"\n";

/// An answer of HTTP.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status line and headers.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// The body as XML.
    pub fn element(&self) -> Element {
        let element = Element::parse(&self.body);
        element.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The condition with which the session ends.
    pub fn condition(&self) -> String {
        let body = self.element();
        assert_eq!(body.attr("type"), Some("terminate"), "{self:?}");
        body.attr("condition").unwrap_or_default().to_owned()
    }
}

/// A connection that carries one request after the other.
pub struct Http {
    socket: TlsStream<TcpStream>,
    rest: Vec<u8>,
}

impl Http {
    /// Connects.
    pub async fn connect(address: SocketAddr, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        let socket = secured(address, tls).await?;
        let rest = Vec::new();
        Ok(Self { socket, rest })
    }

    /// Sends bytes, whatever they are.
    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.socket.write_all(text.as_bytes()).await?;
        self.socket.flush().await
    }

    /// The next answer.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let end = loop {
            let end = self.rest.windows(4).position(|four| four == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => self.fill().await?,
            }
        };
        let head = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        while self.rest.len() < end + length {
            self.fill().await?;
        }
        let body = String::from_utf8_lossy(&self.rest[end..end + length]).into_owned();
        self.rest.drain(..end + length);
        Ok(Answer { head, body })
    }

    async fn fill(&mut self) -> io::Result<()> {
        let read = self.socket.read_buf(&mut self.rest);
        match timeout(PATIENCE, read).await?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Sends bytes, whatever they are, and waits for the answer.
    pub async fn answer_to(&mut self, text: &str) -> io::Result<Answer> {
        self.send(text).await?;
        self.answer().await
    }

    /// Posts a body and waits for the answer.
    pub async fn post(&mut self, body: &str) -> io::Result<Answer> {
        self.answer_to(&post(body)).await
    }
}

/// A request with a body.
pub fn post(body: &str) -> String {
    format!(
        "POST /http-bind HTTP/1.1\r\nHost: {DOMAIN}\r\nOrigin: https://any.example\r\n\
         Content-Type: text/xml; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A session of BOSH, seen by its client. Requests are made as clients in browsers make them: one waits, and another one
/// says what there is to say meanwhile.
pub struct Bosh {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    idle: Arc<Mutex<Vec<Http>>>,
    /// The name of the session.
    pub sid: String,
    /// The number of the next request.
    pub rid: u64,
    open: VecDeque<JoinHandle<io::Result<Answer>>>,
    heard: VecDeque<Element>,
    /// The first answer.
    pub terms: Element,
}

impl Bosh {
    /// Begins a session.
    pub async fn begin(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Self, End> {
        Self::begin_with(address, tls, "hold='1' wait='60'").await
    }

    /// The same on other terms.
    pub async fn begin_with(
        address: SocketAddr,
        tls: &Arc<ClientConfig>,
        terms: &str,
    ) -> Result<Self, End> {
        let mut http = Http::connect(address, tls).await?;
        let rid = 1_573_741_820;
        let answer = http
            .post(&format!(
                "<body xmlns='{}' rid='{rid}' to='{DOMAIN}' ver='1.6' {terms} xml:lang='en' \
                 xmpp:version='1.0' xmlns:xmpp='{}'/>",
                ns::BOSH,
                ns::XBOSH
            ))
            .await?;
        let terms = ended(answer.element())?;
        let sid = terms.attr("sid").expect("a session").to_owned();
        assert!(sid.len() >= 32, "{sid}");
        Ok(Self {
            address,
            tls: tls.clone(),
            idle: Arc::new(Mutex::new(vec![http])),
            sid,
            rid: rid + 1,
            open: VecDeque::new(),
            heard: terms.elements().cloned().collect(),
            terms,
        })
    }

    /// A request as it is posted.
    pub fn body(&self, rid: u64, attributes: &str, payload: &str) -> String {
        let (sid, ns, xbosh) = (&self.sid, ns::BOSH, ns::XBOSH);
        format!(
            "<body xmlns='{ns}' rid='{rid}' sid='{sid}' {attributes} xmlns:xmpp='{xbosh}'>{payload}</body>"
        )
    }

    /// Posts a body by a connection that is free, or a new one.
    pub fn post(&self, body: String) -> JoinHandle<io::Result<Answer>> {
        let (idle, address, tls) = (self.idle.clone(), self.address, self.tls.clone());
        tokio::spawn(async move {
            let free = idle.lock().expect("no panic").pop();
            let mut http = match free {
                Some(http) => http,
                None => Http::connect(address, &tls).await?,
            };
            let answer = http.post(&body).await?;
            if !answer.head.contains("connection: close") {
                idle.lock().expect("no panic").push(http);
            }
            Ok(answer)
        })
    }

    /// Makes the next request, with attributes and payload.
    pub async fn ask(&mut self, attributes: &str, payload: &str) -> Result<(), End> {
        while self.open.len() > 1 {
            self.collect().await?;
        }
        let body = self.body(self.rid, attributes, payload);
        self.rid += 1;
        self.open.push_back(self.post(body));
        Ok(())
    }

    /// Takes the answer to the first request that has none yet.
    async fn collect(&mut self) -> Result<(), End> {
        let Some(first) = self.open.pop_front() else {
            return Ok(());
        };
        let answer = first.await.expect("no panic")?;
        let body = answer.element();
        let elements: Vec<_> = body.elements().cloned().collect();
        if body.attr("type") != Some("terminate") {
            self.heard.extend(elements);
            return Ok(());
        }
        if body.attr("condition").is_none() {
            self.heard.extend(elements);
        }
        ended(body).map(drop)
    }

    /// Waits for nothing more: the answers to all requests are taken.
    pub async fn settle(&mut self) -> Result<(), End> {
        while !self.open.is_empty() {
            self.collect().await?;
        }
        Ok(())
    }
}

impl Carrier for Bosh {
    async fn reach(cluster: &Cluster, node: usize) -> Result<Self, End> {
        Self::begin(address(cluster, node), cluster.tls()).await
    }

    fn passes(end: &End) -> bool {
        let remote = ["remote-stream-error", "remote-connection-failed"];
        end.is_passing() || remote.contains(&end.condition())
    }

    async fn login(&mut self, user: &str) -> Result<Element, End> {
        let features = self.next().await?;
        assert!(features.is("features", ns::STREAM), "{features:?}");
        let auth = format!(
            "<auth xmlns='{}' mechanism='PLAIN'>{}</auth>",
            ns::SASL,
            plain(user)
        );
        self.send(&auth).await?;
        let success = self.next().await?;
        assert!(success.is("success", ns::SASL), "{success:?}");
        let restart = format!("xmpp:restart='true' to='{DOMAIN}'");
        self.ask(&restart, "").await?;
        self.next().await
    }

    async fn send(&mut self, payload: &str) -> Result<(), End> {
        self.ask("", payload).await
    }

    /// Asks for it, if no request waits.
    async fn next(&mut self) -> Result<Element, End> {
        loop {
            if let Some(element) = self.heard.pop_front() {
                return Ok(element);
            }
            if self.open.is_empty() {
                self.send("").await?;
            }
            self.collect().await?;
        }
    }
}

/// An answer, unless it is the last one.
fn ended(body: Element) -> Result<Element, End> {
    match (body.attr("type"), body.attr("condition")) {
        (Some("terminate"), Some(condition)) => Err(End::Error(condition.to_owned(), body)),
        (Some("terminate"), None) => Err(End::Closed),
        _ => Ok(body),
    }
}
