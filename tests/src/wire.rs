//! One connection of a client, byte by byte: nothing is answered, counted or repeated here.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proto::limit::Limits;
use proto::sasl::client::ScramClient;
use proto::sasl::{self, Mechanism};
use proto::xml::{Reader, Token};
use proto::{Element, Jid, ns};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Empty, empty};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::PATIENCE;

/// The domain that the nodes serve.
pub const DOMAIN: &str = "localhost";

/// How a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The server said why; the condition and the whole error.
    #[error("stream error {0}: {1:?}")]
    Error(String, Element),
    /// The server closed the stream without an error.
    #[error("the server closed the stream")]
    Closed,
    /// The connection ended in the middle of the stream.
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    /// What came is no XML as XMPP has it.
    #[error("the server sent malformed XML: {0}")]
    Xml(#[from] proto::xml::ReadError),
    /// Nothing came in time.
    #[error("the server sent nothing for {PATIENCE:?}")]
    Silent,
}

impl End {
    /// Whether a client comes back for its session after this: the server did not end it.
    pub fn is_passing(&self) -> bool {
        let passing = [
            "connection-timeout",
            "internal-server-error",
            "system-shutdown",
        ];
        matches!(self, Self::Lost(_)) || passing.contains(&self.condition())
    }

    /// The condition of the stream error, or nothing.
    pub fn condition(&self) -> &str {
        match self {
            Self::Error(condition, _) => condition,
            _ => "",
        }
    }
}

/// A socket: before TLS, with it, or no longer there.
enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Gone(Empty),
}

impl Socket {
    fn read(&mut self) -> &mut (dyn AsyncRead + Send + Unpin) {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(socket) => socket,
            Self::Gone(nothing) => nothing,
        }
    }

    fn write(&mut self) -> &mut (dyn AsyncWrite + Send + Unpin) {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(socket) => socket,
            Self::Gone(nothing) => nothing,
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(socket) => Some(socket.get_ref().0),
            Self::Gone(_) => None,
        }
    }
}

/// A connection to a node.
pub struct Wire {
    /// Where it leads.
    pub address: SocketAddr,
    socket: Socket,
    reader: Reader,
    waiting: VecDeque<Element>,
    closed: bool,
}

impl Wire {
    /// Connects without TLS.
    pub async fn plain(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self::over(Socket::Plain(socket), address))
    }

    /// Connects without TLS, from one of the addresses that a loopback interface has.
    pub async fn plain_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((source, 0)))?;
        let socket = socket.connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self::over(Socket::Plain(socket), address))
    }

    /// The same to a port where TLS comes first.
    pub async fn direct_from(
        source: Ipv4Addr,
        address: SocketAddr,
        tls: &Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let wire = Self::plain_from(source, address).await?;
        wire.secured(tls).await
    }

    /// Connects to a port where TLS comes first.
    pub async fn direct(address: SocketAddr, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        Self::plain(address).await?.secured(tls).await
    }

    /// Connects to a port where TLS is negotiated, and does so.
    pub async fn starttls(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Self, End> {
        let mut wire = Self::plain(address).await?;
        let features = wire.open().await?;
        assert!(
            features.child("starttls", ns::TLS).is_some(),
            "{features:?}"
        );
        assert!(
            features.child("mechanisms", ns::SASL).is_none(),
            "no login without TLS: {features:?}"
        );
        wire.send(&format!("<starttls xmlns='{}'/>", ns::TLS))
            .await?;
        let proceed = wire.next().await?;
        assert!(proceed.is("proceed", ns::TLS), "{proceed:?}");
        Ok(wire.secured(tls).await?)
    }

    async fn secured(self, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(DOMAIN).map_err(io::Error::other)?;
        let Socket::Plain(socket) = self.socket else {
            return Err(io::Error::other("TLS within TLS"));
        };
        let socket = TlsConnector::from(tls.clone())
            .connect(name, socket)
            .await?;
        Ok(Self::over(Socket::Tls(Box::new(socket)), self.address))
    }

    fn over(socket: Socket, address: SocketAddr) -> Self {
        // Like the clients of the field, it bounds nothing that a server may write.
        let reader = Reader::new(Limits::own());
        Self {
            address,
            socket,
            reader,
            waiting: VecDeque::new(),
            closed: false,
        }
    }

    /// The TLS connection, if there is one.
    pub fn tls(&self) -> Option<&ClientConnection> {
        match &self.socket {
            Socket::Plain(_) | Socket::Gone(_) => None,
            Socket::Tls(socket) => Some(socket.get_ref().1),
        }
    }

    /// Opens a stream; the features that are offered.
    pub async fn open(&mut self) -> Result<Element, End> {
        self.reader.reset();
        self.send(&header()).await?;
        self.next().await
    }

    /// Logs in; the answer to the last step: `<success/>` or `<failure/>`.
    pub async fn authenticate(&mut self, user: &str, password: &str) -> Result<Element, End> {
        let nonce: String = rand::random::<[u8; 16]>()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut scram = ScramClient::new(Mechanism::ScramSha256, user, password, &nonce, None);
        let first = sasl::encode(&scram.first());
        self.send(&format!(
            "<auth xmlns='{}' mechanism='SCRAM-SHA-256'>{first}</auth>",
            ns::SASL
        ))
        .await?;
        let challenge = self.next().await?;
        if !challenge.is("challenge", ns::SASL) {
            return Ok(challenge);
        }
        let last = scram
            .respond(&decoded(&challenge))
            .expect("an honest server");
        let response = sasl::encode(&last);
        self.send(&format!(
            "<response xmlns='{}'>{response}</response>",
            ns::SASL
        ))
        .await?;
        let outcome = self.next().await?;
        if outcome.is("success", ns::SASL) {
            scram
                .finish(&decoded(&outcome))
                .expect("the server knows the account");
        }
        Ok(outcome)
    }

    /// Opens a stream, logs in and opens the stream of the session; its features.
    pub async fn login(&mut self, user: &str, password: &str) -> Result<Element, End> {
        let features = self.open().await?;
        assert!(
            features.child("mechanisms", ns::SASL).is_some(),
            "{features:?}"
        );
        let outcome = self.authenticate(user, password).await?;
        assert!(outcome.is("success", ns::SASL), "{outcome:?}");
        self.open().await
    }

    /// Binds a resource.
    pub async fn bind(&mut self, resource: &str) -> Result<Jid, End> {
        self.send(&format!(
            "<iq type='set' id='bind'><bind xmlns='{}'><resource>{resource}</resource></bind></iq>",
            ns::BIND
        ))
        .await?;
        let answer = self.next().await?;
        let jid = answer
            .child("bind", ns::BIND)
            .and_then(|bind| bind.child("jid", ns::BIND));
        let jid = jid.unwrap_or_else(|| panic!("bound: {answer:?}")).text();
        Ok(Jid::new(&jid).expect("an address"))
    }

    /// Asks the server for a sign of life and waits for it, whatever comes before.
    pub async fn ping(&mut self, id: &str) -> Result<(), End> {
        let ping = format!("<iq type='get' id='{id}'><ping xmlns='{}'/></iq>", ns::PING);
        self.send(&ping).await?;
        while self.next().await?.attr("id") != Some(id) {}
        Ok(())
    }

    /// Sends any text, well-formed or not.
    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.send_bytes(text.as_bytes()).await
    }

    /// Sends any bytes.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let socket = self.socket.write();
        socket.write_all(bytes).await?;
        socket.flush().await
    }

    /// The next first-level element.
    pub async fn next(&mut self) -> Result<Element, End> {
        timeout(PATIENCE, self.read())
            .await
            .map_err(|_| End::Silent)?
    }

    /// The next first-level element, if it comes within this time. Only to let a wrong one show itself.
    pub async fn next_within(&mut self, time: Duration) -> Option<Result<Element, End>> {
        timeout(time, self.read()).await.ok()
    }

    /// How the stream ends, whatever comes before.
    pub async fn end(&mut self) -> End {
        loop {
            if let Err(end) = self.next().await {
                return end;
            }
        }
    }

    /// May be cancelled: what was read is kept.
    async fn read(&mut self) -> Result<Element, End> {
        let mut buffer = [0; 16 * 1024];
        loop {
            while let Some(token) = self.reader.next()? {
                match token {
                    Token::Element(element) => self.waiting.push_back(element),
                    Token::Close => self.closed = true,
                    Token::Open(_) | Token::Whitespace => {}
                }
            }
            match self.waiting.pop_front() {
                Some(error) if error.is("error", ns::STREAM) => {
                    let condition = error.elements().find(|child| child.ns() == ns::STREAMS);
                    let condition = condition.map_or("", Element::local).to_owned();
                    return Err(End::Error(condition, error));
                }
                Some(element) => return Ok(element),
                None if self.closed => return Err(End::Closed),
                None => {}
            }
            let count = self.socket.read().read(&mut buffer).await?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.reader.feed(&buffer[..count]);
        }
    }

    /// Is gone at once: the server gets a reset, and no end of the stream.
    pub fn cut(&mut self) {
        if let Some(socket) = self.socket.tcp() {
            // If it fails the reset becomes an orderly end of the connection, which serves as well.
            drop(socket.set_zero_linger());
        }
        self.socket = Socket::Gone(empty());
    }

    /// Closes the stream as one should, and waits for the other side to do so.
    pub async fn close(mut self) {
        self.send("</stream:stream>")
            .await
            .expect("an open connection");
        match self.end().await {
            End::Closed | End::Lost(_) => {}
            end => panic!("{end}"),
        }
    }
}

fn decoded(element: &Element) -> Vec<u8> {
    sasl::decode(&element.text())
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// What opens a stream.
pub fn header() -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='{}' xmlns:stream='{}'>",
        ns::CLIENT,
        ns::STREAM
    )
}
