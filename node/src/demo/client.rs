//! An XMPP client over one connection, with TLS, login and bind, for the demo and for tests.
//!
//! It is strict where a real client is: it checks the certificate against the roots that it was given,
//! the server's SCRAM proof, and the list of mechanisms (XEP-0474). [`super::session`] adds what
//! outlives a connection.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use proto::jid::JidError;
use proto::limit::Limits;
use proto::sasl::client::{Distrust, ScramClient};
use proto::sasl::{self, BindingType, Mechanism};
use proto::xml::{ReadError, Reader, Token};
use proto::{Element, Jid, ns};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clock;

/// Bytes read at a time.
const CHUNK: usize = 16 * 1024;

/// Why a connection failed or ended.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket, or TLS.
    #[error("the connection is lost: {0}")]
    Io(#[from] io::Error),
    /// The server sent what is no XMPP.
    #[error("the server sent malformed XML: {0}")]
    Xml(#[from] ReadError),
    /// The server ended the stream with an error of this name.
    #[error("stream error: {0}")]
    Stream(String),
    /// The server closed the stream.
    #[error("the server closed the stream")]
    Closed,
    /// The server refused the login with this condition.
    #[error("login refused: {0}")]
    Refused(String),
    /// The server could not prove itself.
    #[error("login broken off: {0}")]
    Distrust(#[from] Distrust),
    /// The server does not offer what we need.
    #[error("the server does not offer {0}")]
    NotOffered(&'static str),
    /// The server sent something else than it had to.
    #[error("unexpected <{0}/>")]
    Unexpected(String),
    /// The bound address is not one.
    #[error("the server bound a bad address: {0}")]
    Address(#[from] JidError),
    /// The domain cannot be the name in a certificate.
    #[error("{0:?} is not a server name")]
    ServerName(String),
}

/// Who logs in, and where.
#[derive(Clone)]
pub struct Credentials {
    /// The localpart, prepared.
    pub username: String,
    /// The domain, prepared; also the name in the certificate.
    pub domain: String,
    /// The password, prepared.
    pub password: String,
}

/// TLS that trusts exactly these certificates.
pub fn trusting(
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// An open stream over TLS.
pub struct Connection {
    socket: TlsStream<TcpStream>,
    reader: Reader,
    /// First-level elements that came and were not taken.
    waiting: VecDeque<Element>,
    domain: String,
    local: SocketAddr,
}

impl Connection {
    /// Connects to a port where TLS comes first.
    pub async fn open_tls(
        address: SocketAddr,
        domain: &str,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, ClientError> {
        let socket = TcpStream::connect(address).await?;
        Self::secure(socket, domain, tls, &[b"xmpp-client"]).await
    }

    /// The same from an address of our own, if the system lets us have it.
    pub async fn open_tls_from(
        source: Ipv4Addr,
        address: SocketAddr,
        domain: &str,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, ClientError> {
        let socket = TcpSocket::new_v4()?;
        if socket.bind(SocketAddr::from((source, 0))).is_err() {
            return Self::open_tls(address, domain, tls).await;
        }
        let socket = socket.connect(address).await?;
        Self::secure(socket, domain, tls, &[b"xmpp-client"]).await
    }

    /// Connects to a port where TLS is negotiated.
    pub async fn open_starttls(
        address: SocketAddr,
        domain: &str,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, ClientError> {
        let mut socket = TcpStream::connect(address).await?;
        let mut reader = Reader::new(Limits::own());
        let mut waiting = VecDeque::new();
        socket.write_all(header(domain).as_bytes()).await?;
        let mut stage = Starttls {
            socket: &mut socket,
            reader: &mut reader,
            waiting: &mut waiting,
        };
        let features = stage.next().await?;
        if features.child("starttls", ns::TLS).is_none() {
            return Err(ClientError::NotOffered("STARTTLS"));
        }
        let request = Element::new("starttls", ns::TLS).to_xml(ns::CLIENT);
        stage.socket.write_all(request.as_bytes()).await?;
        let answer = stage.next().await?;
        if !answer.is("proceed", ns::TLS) {
            return Err(ClientError::Unexpected(answer.local().to_owned()));
        }
        Self::secure(socket, domain, tls, &[]).await
    }

    async fn secure(
        socket: TcpStream,
        domain: &str,
        tls: &Arc<ClientConfig>,
        alpn: &[&[u8]],
    ) -> Result<Self, ClientError> {
        socket.set_nodelay(true)?;
        let local = socket.local_addr()?;
        let name = ServerName::try_from(domain.to_owned())
            .map_err(|_| ClientError::ServerName(domain.to_owned()))?;
        let mut config = ClientConfig::clone(tls);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self {
            socket: connector.connect(name, socket).await?,
            reader: Reader::new(Limits::own()),
            waiting: VecDeque::new(),
            domain: domain.to_owned(),
            local,
        })
    }

    /// The client's own address, by which a balancer knows it.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Opens a stream and authenticates; the features behind the login are returned.
    pub async fn login(&mut self, credentials: &Credentials) -> Result<Element, ClientError> {
        let features = self.open_stream().await?;
        let (mut scram, mechanism) = self.choose(&features, credentials)?;
        let auth = Element::new("auth", ns::SASL)
            .with_attr("mechanism", mechanism.name())
            .with_text(&sasl::encode(&scram.first()));
        self.send(&auth).await?;
        let challenge = self.sasl("challenge").await?;
        let response = scram.respond(&challenge)?;
        let response = Element::new("response", ns::SASL).with_text(&sasl::encode(&response));
        self.send(&response).await?;
        scram.finish(&self.sasl("success").await?)?;
        self.reader.reset();
        self.open_stream().await
    }

    /// Binds a resource; the server chooses one if none is given.
    pub async fn bind(&mut self, resource: Option<&str>) -> Result<Jid, ClientError> {
        let mut bind = Element::new("bind", ns::BIND);
        if let Some(resource) = resource {
            bind.push(Element::new("resource", ns::BIND).with_text(resource));
        }
        let request = Element::new("iq", ns::CLIENT)
            .with_attr("type", "set")
            .with_attr("id", "bind")
            .with_child(bind);
        self.send(&request).await?;
        let answer = self.next().await?;
        let jid = answer
            .child("bind", ns::BIND)
            .and_then(|bind| bind.child("jid", ns::BIND));
        match jid {
            Some(jid) if answer.attr("type") == Some("result") => Ok(Jid::new(&jid.text())?),
            _ => Err(ClientError::Unexpected(answer.local().to_owned())),
        }
    }

    /// The next first-level element. A stream error or the end of the stream is an error. May be
    /// cancelled: what was read is kept.
    pub async fn next(&mut self) -> Result<Element, ClientError> {
        let mut buffer = [0; CHUNK];
        loop {
            if let Some(element) = self.waiting.pop_front() {
                return checked(element);
            }
            while let Some(token) = self.reader.next()? {
                match token {
                    Token::Element(element) => self.waiting.push_back(element),
                    Token::Close if self.waiting.is_empty() => return Err(ClientError::Closed),
                    Token::Close => break,
                    Token::Open(_) | Token::Whitespace => {}
                }
            }
            if !self.waiting.is_empty() {
                continue;
            }
            let count = self.socket.read(&mut buffer).await?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.reader.feed(&buffer[..count]);
        }
    }

    /// Sends an element.
    pub async fn send(&mut self, element: &Element) -> Result<(), ClientError> {
        self.send_text(&element.to_xml(ns::CLIENT)).await
    }

    /// Sends any text, well-formed or not.
    pub async fn send_text(&mut self, text: &str) -> Result<(), ClientError> {
        self.socket.write_all(text.as_bytes()).await?;
        Ok(self.socket.flush().await?)
    }

    /// Closes the stream, so that its session ends.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.send_text("</stream:stream>").await?;
        loop {
            match self.next().await {
                Ok(_) => {}
                Err(ClientError::Closed | ClientError::Io(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn open_stream(&mut self) -> Result<Element, ClientError> {
        self.send_text(&header(&self.domain)).await?;
        let features = self.next().await?;
        match features.is("features", ns::STREAM) {
            true => Ok(features),
            false => Err(ClientError::Unexpected(features.local().to_owned())),
        }
    }

    /// The best SCRAM that both sides speak.
    fn choose(
        &self,
        features: &Element,
        credentials: &Credentials,
    ) -> Result<(ScramClient, Mechanism), ClientError> {
        let texts = |parent: Option<&Element>| -> Vec<String> {
            parent
                .into_iter()
                .flat_map(Element::elements)
                .map(Element::text)
                .collect()
        };
        let mechanisms = texts(features.child("mechanisms", ns::SASL));
        let bindings = features.child("sasl-channel-binding", ns::SASL_CB);
        let bindings: Vec<_> = bindings
            .into_iter()
            .flat_map(Element::elements)
            .filter_map(|binding| binding.attr("type").map(str::to_owned))
            .collect();
        let offers = |mechanism: Mechanism| mechanisms.iter().any(|name| name == mechanism.name());
        let exporter = BindingType::Exporter;
        let bound = offers(Mechanism::ScramSha256Plus)
            && bindings.iter().any(|name| name == exporter.name());
        let key = match bound {
            true => Some(self.export_key()?),
            false => None,
        };
        let mechanism = match (&key, offers(Mechanism::ScramSha256)) {
            (Some(_), _) => Mechanism::ScramSha256Plus,
            (None, true) => Mechanism::ScramSha256,
            (None, false) => return Err(ClientError::NotOffered("SCRAM-SHA-256")),
        };
        let binding = key.as_ref().map(|key| (exporter, &key[..]));
        let nonce = clock::hex::<16>();
        let Credentials {
            username, password, ..
        } = credentials;
        let scram = ScramClient::new(mechanism, username, password, &nonce, binding);
        let names = mechanisms.iter().map(String::as_str);
        let scram = scram.expecting(names, bindings.iter().map(String::as_str));
        Ok((scram, mechanism))
    }

    /// Keying material for `tls-exporter` (RFC 9266).
    fn export_key(&self) -> Result<[u8; 32], ClientError> {
        let (_, connection) = self.socket.get_ref();
        let key = connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None);
        key.map_err(|error| io::Error::other(error).into())
    }

    /// The message in the SASL element of that name.
    async fn sasl(&mut self, name: &str) -> Result<Vec<u8>, ClientError> {
        let element = self.next().await?;
        if element.is(name, ns::SASL) {
            let message = sasl::decode(&element.text()).ok().flatten();
            return Ok(message.unwrap_or_default());
        }
        let condition = element.elements().next().map_or("nothing", Element::local);
        match element.is("failure", ns::SASL) {
            true => Err(ClientError::Refused(condition.to_owned())),
            false => Err(ClientError::Unexpected(element.local().to_owned())),
        }
    }
}

/// The part of a stream before TLS.
struct Starttls<'a> {
    socket: &'a mut TcpStream,
    reader: &'a mut Reader,
    waiting: &'a mut VecDeque<Element>,
}

impl Starttls<'_> {
    async fn next(&mut self) -> Result<Element, ClientError> {
        let mut buffer = [0; CHUNK];
        loop {
            if let Some(element) = self.waiting.pop_front() {
                return checked(element);
            }
            match self.reader.next()? {
                Some(Token::Element(element)) => self.waiting.push_back(element),
                Some(Token::Close) => return Err(ClientError::Closed),
                Some(Token::Open(_) | Token::Whitespace) => {}
                None => match self.socket.read(&mut buffer).await? {
                    0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                    count => self.reader.feed(&buffer[..count]),
                },
            }
        }
    }
}

fn checked(element: Element) -> Result<Element, ClientError> {
    if !element.is("error", ns::STREAM) {
        return Ok(element);
    }
    let condition = element.elements().next().map_or("unknown", Element::local);
    Err(ClientError::Stream(condition.to_owned()))
}

/// The stream header. A prepared domain has no character that XML would need escaped.
fn header(domain: &str) -> String {
    let (client, stream) = (ns::CLIENT, ns::STREAM);
    format!("<stream:stream to='{domain}' version='1.0' xmlns='{client}' xmlns:stream='{stream}'>")
}
