//! One connection of a web client, message by message: nothing is answered, counted or repeated here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use proto::{Element, ns, sasl};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::PATIENCE;
use crate::client::PASSWORD;
use crate::cluster::Cluster;
use crate::web_session::Carrier;
use crate::wire::{DOMAIN, End};

/// What every node's configuration needs for web clients. The system chooses the port.
pub const WEB: &str = "[web]\nlisten = [\"127.0.0.1:0\"]\nurl = \"wss://web.example/ws\"\n";

/// Where a node that runs listens for web clients.
pub fn address(cluster: &Cluster, node: usize) -> SocketAddr {
    let file = cluster.data_dir(node).join("addresses.json");
    let text = std::fs::read_to_string(file).expect("the node is ready");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let address = all["web"][0].as_str().expect("it listens for web clients");
    address.parse().expect("an address")
}

/// A connection with TLS, before its first request.
pub async fn secured(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(DOMAIN).map_err(io::Error::other)?;
    TlsConnector::from(tls.clone()).connect(name, socket).await
}

/// What is answered to a request, as it comes.
pub async fn ask(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    request: &str,
) -> io::Result<String> {
    let mut socket = secured(address, tls).await?;
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut answer)).await??;
    Ok(answer)
}

/// An open WebSocket.
pub struct Web {
    frames: WebSocketStream<TlsStream<TcpStream>>,
}

impl Web {
    /// Opens a WebSocket with the subprotocol of XMPP.
    pub async fn connect(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Self, End> {
        let socket = secured(address, tls).await?;
        let mut request = format!("wss://{DOMAIN}/ws")
            .into_client_request()
            .expect("a URL");
        let protocol = HeaderValue::from_static("xmpp");
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", protocol.clone());
        headers.insert("origin", HeaderValue::from_static("https://any.example"));
        let (frames, answer) = client_async(request, socket).await.map_err(lost)?;
        let echoed = answer.headers().get("sec-websocket-protocol");
        assert_eq!(echoed, Some(&protocol), "WS-1");
        Ok(Self { frames })
    }

    /// Sends a message, whatever it is.
    pub async fn send_message(&mut self, message: Message) -> Result<(), End> {
        self.frames.send(message).await.map_err(lost)
    }

    /// The next message.
    pub async fn message(&mut self) -> Result<Message, End> {
        let next = timeout(PATIENCE, self.frames.next()).await;
        let next = next.map_err(|_| End::Silent)?;
        next.unwrap_or(Err(Error::ConnectionClosed)).map_err(lost)
    }

    /// The next message as it was written.
    pub async fn text(&mut self) -> Result<String, End> {
        match self.message().await? {
            Message::Text(text) => Ok(text.to_string()),
            other => Err(io::Error::other(format!("no text: {other:?}")).into()),
        }
    }

    /// Opens a stream; the features that are offered.
    pub async fn open(&mut self) -> Result<Element, End> {
        let framing = ns::FRAMING;
        self.send(&format!(
            "<open xmlns='{framing}' to='{DOMAIN}' version='1.0'/>"
        ))
        .await?;
        let open = self.next().await?;
        assert!(open.is("open", ns::FRAMING), "{open:?}");
        assert_eq!(open.attr("from"), Some(DOMAIN), "{open:?}");
        assert!(open.attr("id").is_some_and(|id| id.len() == 32), "{open:?}");
        let features = self.next().await?;
        assert!(features.is("features", ns::STREAM), "{features:?}");
        Ok(features)
    }

    /// The condition with which the stream ends, behind whatever else comes, and the code with which the WebSocket
    /// is closed then. `<close/>` must come between them (WS-3).
    pub async fn failure(&mut self) -> (String, u16) {
        let condition = loop {
            match self.next().await {
                Ok(_) => {}
                Err(End::Error(condition, _)) => break condition,
                Err(end) => panic!("no error: {end}"),
            }
        };
        let end = self.next().await.expect_err("the end");
        assert!(matches!(end, End::Closed), "WS-3: {end}");
        (condition, self.close_code().await)
    }

    /// The code with which the WebSocket is closed.
    pub async fn close_code(&mut self) -> u16 {
        match self.message().await {
            Ok(Message::Close(Some(close))) => close.code.into(),
            other => panic!("no close: {other:?}"),
        }
    }
}

impl Carrier for Web {
    async fn reach(cluster: &Cluster, node: usize) -> Result<Self, End> {
        Self::connect(address(cluster, node), cluster.tls()).await
    }

    async fn login(&mut self, user: &str) -> Result<Element, End> {
        self.open().await?;
        self.send(&format!(
            "<auth xmlns='{}' mechanism='PLAIN'>{}</auth>",
            ns::SASL,
            plain(user)
        ))
        .await?;
        let success = self.next().await?;
        assert!(success.is("success", ns::SASL), "{success:?}");
        self.open().await
    }

    async fn send(&mut self, text: &str) -> Result<(), End> {
        self.send_message(Message::text(text)).await
    }

    /// It must be all of its message. `<close/>` and an error are ends.
    async fn next(&mut self) -> Result<Element, End> {
        let text = self.text().await?;
        let element = Element::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        if element.is("close", ns::FRAMING) {
            return Err(End::Closed);
        }
        if element.is("error", ns::STREAM) {
            let condition = element.elements().find(|child| child.ns() == ns::STREAMS);
            let condition = condition.map_or("", Element::local).to_owned();
            return Err(End::Error(condition, element));
        }
        Ok(element)
    }
}

/// What PLAIN sends.
pub fn plain(user: &str) -> String {
    sasl::encode(format!("\0{user}\0{PASSWORD}").as_bytes())
}

fn lost(error: Error) -> End {
    match error {
        Error::Io(error) => End::Lost(error),
        error => End::Lost(io::Error::other(error)),
    }
}
