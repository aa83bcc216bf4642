//! Authenticates both ends of a link, by TLS certificates or by a shared secret.
//!
//! With certificates, both ends present one that the cluster's authority has signed, for the host name of a configured
//! seat. With a shared secret, certificates are made anew by each process and prove nothing. Instead each end sends a
//! MAC over the TLS exporter of the connection. An attacker in the middle cannot pass it on, because his two
//! connections have different exporters. The dialling side sends its proof first, and the other answers with the same
//! secret. A peer that has not authenticated is told nothing, not even a version (T-67).
//!
//! There may be several secrets, so that they can be changed while the nodes run. The accepting side knows all of its
//! own; the dialling side shows one, and calls again with the next if it is turned away. So two nodes meet if they have
//! a secret in common.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::config::LinkAuth;

const EXPORTER: &[u8] = b"EXPORTER-holdfast-link";
const PROOF: usize = 32;

/// The certificates of the cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("{}: {source}", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// The underlying error.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificates do not fit together.
    #[error("the cluster's certificates cannot be used: {0}")]
    Certificates(#[from] rustls::Error),
    /// No verifier can be made of the authority's certificate.
    #[error("the cluster's authority cannot be used: {0}")]
    Authority(#[from] rustls::server::VerifierBuilderError),
    /// No certificate can be made.
    #[error("no certificate can be made: {0}")]
    Generate(#[from] rcgen::Error),
}

/// Why the other end is not authenticated.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The connection was lost, or TLS refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not know the secret, or not this one.
    #[error("the peer shows a secret that is not in this node's cluster.secret_file")]
    WrongProof,
    /// It was sent a proof and hung up. A node with another secret does that without saying why (T-67).
    #[error(
        "it hangs up instead of proving that it knows the cluster's secret: have both nodes a line of cluster.secret_file \
         in common?"
    )]
    Unproved,
    /// TLS gives no exporter, so there can be no proof.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The address of a seat has no host that a certificate could name.
    #[error("{0} is not an address")]
    Address(String),
    /// Its certificate is for another name.
    #[error("the peer's certificate is not for {0}")]
    WrongName(String),
}

/// The means to authenticate both ends of a link.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    /// None if certificates prove who is there.
    secrets: Option<Arc<[Vec<u8>]>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("by_secret", &self.secrets.is_some())
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files that `auth` names. Blocks.
    pub fn new(auth: &LinkAuth) -> Result<Self, TlsError> {
        match auth {
            LinkAuth::Secrets(secrets) => Self::by_secrets(secrets),
            LinkAuth::Certificates {
                ca,
                certificate,
                key,
            } => Self::by_certificates(ca, certificate, key),
        }
    }

    fn by_secrets(secrets: &[Vec<u8>]) -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed(vec![String::from("holdfast")])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))?;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Ok(Self::with(server, client, Some(secrets.into())))
    }

    fn by_certificates(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let pem = |file: &Path| {
            let file = file.to_owned();
            move |source| TlsError::Pem { file, source }
        };
        let certificates = |file: &Path| {
            CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(pem(file))
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root)?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Self::with(server, client, None))
    }

    fn with(
        mut server: ServerConfig,
        mut client: ClientConfig,
        secrets: Option<Arc<[Vec<u8>]>>,
    ) -> Self {
        // Tickets are off: a resumed TLS session would not check the certificates again.
        server.send_tls13_tickets = 0;
        client.resumption = rustls::client::Resumption::disabled();
        Self {
            acceptor: Arc::new(server).into(),
            connector: Arc::new(client).into(),
            secrets,
        }
    }

    /// Connects and authenticates, with each secret in turn until the peer knows one. With certificates, the peer's has to
    /// be for the host of `named`, a host with a port.
    pub async fn dial(
        &self,
        address: impl ToSocketAddrs,
        named: &str,
    ) -> Result<TlsStream<TcpStream>, AuthError> {
        let ways = self.secrets.as_ref().map_or(1, |secrets| secrets.len());
        let mut way = 0;
        loop {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            way += 1;
            match self.connect(tcp, named, way - 1).await {
                Err(AuthError::Unproved) if way < ways => {}
                met => return met,
            }
        }
    }

    /// Authenticates as the dialling side, with the secret of this number if there are any.
    async fn connect(
        &self,
        tcp: TcpStream,
        named: &str,
        way: usize,
    ) -> Result<TlsStream<TcpStream>, AuthError> {
        let name = server_name(named)?;
        let stream = self.connector.connect(name, tcp).await?;
        let exporter = stream
            .get_ref()
            .1
            .export_keying_material([0; PROOF], EXPORTER, None)?;
        let mut stream = TlsStream::Client(stream);
        if let Some(secrets) = &self.secrets {
            let secret = secrets.get(way).ok_or(AuthError::Unproved)?;
            let shown = proof(secret, b"dialled", &exporter);
            let proved = async {
                stream.write_all(&shown).await?;
                stream.flush().await?;
                let same = std::slice::from_ref(secret);
                read_proof(&mut stream, same, b"accepted", &exporter).await
            };
            match proved.await {
                Err(AuthError::Io(error)) if hangs_up(&error) => return Err(AuthError::Unproved),
                proved => proved?,
            };
        }
        Ok(stream)
    }

    /// Authenticates as the accepting side. With certificates, the name has still to be checked ([`Tls::check_name`]),
    /// once the peer has said which seat it has.
    pub async fn accept(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, AuthError> {
        let stream = self.acceptor.accept(tcp).await?;
        let exporter = stream
            .get_ref()
            .1
            .export_keying_material([0; PROOF], EXPORTER, None)?;
        let mut stream = TlsStream::Server(stream);
        if let Some(secrets) = &self.secrets {
            let secret = read_proof(&mut stream, secrets, b"dialled", &exporter).await?;
            stream
                .write_all(&proof(secret, b"accepted", &exporter))
                .await?;
            stream.flush().await?;
        }
        Ok(stream)
    }

    /// Checks that the peer's certificate is for the host of `address`. With a shared secret there is nothing to check.
    pub fn check_name(
        &self,
        stream: &TlsStream<TcpStream>,
        address: &str,
    ) -> Result<(), AuthError> {
        if self.secrets.is_some() {
            return Ok(());
        }
        let wrong = || AuthError::WrongName(address.to_owned());
        let name = server_name(address)?;
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
            .ok_or_else(wrong)?;
        let parsed = ParsedCertificate::try_from(certificate)?;
        rustls::client::verify_server_name(&parsed, &name).map_err(|_| wrong())
    }
}

/// Whether an error means that the other end has closed the connection.
pub(super) fn hangs_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// The host of `host:port`.
fn server_name(address: &str) -> Result<ServerName<'static>, AuthError> {
    let bad = || AuthError::Address(address.to_owned());
    let (host, _) = address.rsplit_once(':').ok_or_else(bad)?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    ServerName::try_from(host).map_err(|_| bad())
}

fn mac(secret: &[u8], side: &[u8], exporter: &[u8; PROOF]) -> Hmac<Sha256> {
    // This cannot fail: HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length will do");
    mac.update(side);
    mac.update(exporter);
    mac
}

/// The proof of one side. The two differ, so that a peer cannot just send ours back.
fn proof(secret: &[u8], side: &[u8], exporter: &[u8; PROOF]) -> [u8; PROOF] {
    mac(secret, side, exporter).finalize().into_bytes().into()
}

/// Reads a proof, and finds the secret that it was made with.
async fn read_proof<'a>(
    stream: &mut TlsStream<TcpStream>,
    secrets: &'a [Vec<u8>],
    side: &[u8],
    exporter: &[u8; PROOF],
) -> Result<&'a [u8], AuthError> {
    let mut shown = [0; PROOF];
    stream.read_exact(&mut shown).await?;
    // Each comparison takes constant time.
    let proves = |secret: &&Vec<u8>| mac(secret, side, exporter).verify_slice(&shown).is_ok();
    let secret = secrets.iter().find(proves);
    secret.map(Vec::as_slice).ok_or(AuthError::WrongProof)
}

/// Accepts any certificate, but checks the signature that is made with it. The proof that follows is bound to the
/// connection, so the handshake must be sound, but the name in the certificate means nothing.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use std::fs;
    use tokio::net::TcpListener;

    /// The result of each side: that of the accepting one includes the check of the name.
    async fn meet(
        dialler: &LinkAuth,
        acceptor: &LinkAuth,
    ) -> (Result<(), AuthError>, Result<(), AuthError>) {
        let (dialler, acceptor) = (
            Tls::new(dialler).expect("is good"),
            Tls::new(acceptor).expect("is good"),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has one").to_string();
        let dial = async {
            let tcp = TcpStream::connect(&address).await?;
            let mut stream = dialler.connect(tcp, &address, 0).await?;
            // In TLS 1.3 the one who dialled hears last that his certificate was refused.
            stream.read_u8().await?;
            Ok(())
        };
        let accept = async {
            let mut stream = acceptor.accept(listener.accept().await?.0).await?;
            acceptor.check_name(&stream, &address)?;
            stream.write_u8(1).await?;
            Ok(stream.flush().await?)
        };
        tokio::join!(dial, accept)
    }

    #[tokio::test]
    async fn t_67_the_same_secret_is_accepted_and_another_refused() {
        let secret = |byte| LinkAuth::Secrets(vec![vec![byte; 32]]);
        let (a, b) = (secret(1), secret(2));
        let (dialled, accepted) = meet(&a, &a).await;
        dialled.expect("knows the secret");
        accepted.expect("knows the secret");
        let (dialled, accepted) = meet(&a, &b).await;
        assert!(matches!(dialled, Err(AuthError::Unproved)));
        assert!(matches!(accepted, Err(AuthError::WrongProof)));
        let both = LinkAuth::Secrets(vec![vec![1; 32], vec![2; 32]]);
        for one in [&a, &b] {
            let (dialled, accepted) = meet(one, &both).await;
            dialled.expect("it answers with the secret that it was shown");
            accepted.expect("knows both");
        }
        let (dialled, _) = meet(&both, &b).await;
        assert!(
            matches!(dialled, Err(AuthError::Unproved)),
            "the first is shown first"
        );
    }

    #[test]
    fn t_67_a_proof_of_one_side_or_connection_is_none_of_another() {
        let shown = proof(b"secret", b"dialled", &[1; PROOF]);
        assert!(
            mac(b"secret", b"dialled", &[1; PROOF])
                .verify_slice(&shown)
                .is_ok()
        );
        assert!(
            mac(b"secret", b"accepted", &[1; PROOF])
                .verify_slice(&shown)
                .is_err()
        );
        assert!(
            mac(b"secret", b"dialled", &[2; PROOF])
                .verify_slice(&shown)
                .is_err()
        );
    }

    fn authority(dir: &Path) -> (PathBuf, Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().expect("makes");
        let mut params = CertificateParams::new(Vec::new()).expect("is good");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = dir.join("ca.pem");
        fs::write(&file, params.self_signed(&key).expect("signs").pem()).expect("writes");
        (file, Issuer::new(params, key))
    }

    fn member(dir: &Path, ca: &Path, issuer: &Issuer<'static, KeyPair>, name: &str) -> LinkAuth {
        let key = KeyPair::generate().expect("makes");
        let made = CertificateParams::new(vec![name.to_owned()])
            .expect("is good")
            .signed_by(&key, issuer);
        let (certificate, private) = (
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}.key")),
        );
        fs::write(&certificate, made.expect("signs").pem()).expect("writes");
        fs::write(&private, key.serialize_pem()).expect("writes");
        LinkAuth::Certificates {
            ca: ca.to_owned(),
            certificate,
            key: private,
        }
    }

    #[tokio::test]
    async fn t_67_the_right_authority_with_the_right_name_is_accepted_and_nothing_else() {
        let (ours, theirs) = (
            tempfile::tempdir().expect("makes"),
            tempfile::tempdir().expect("makes"),
        );
        let (ca, issuer) = authority(ours.path());
        let (other_ca, other_issuer) = authority(theirs.path());
        let good = member(ours.path(), &ca, &issuer, "127.0.0.1");
        let misnamed = member(ours.path(), &ca, &issuer, "10.0.0.1");
        let foreign = member(theirs.path(), &other_ca, &other_issuer, "127.0.0.1");
        let (dialled, accepted) = meet(&good, &good).await;
        dialled.expect("is a member");
        accepted.expect("is a member");
        let (_, accepted) = meet(&misnamed, &good).await;
        assert!(matches!(accepted, Err(AuthError::WrongName(_))));
        for (dialler, acceptor) in [(&good, &misnamed), (&foreign, &good), (&good, &foreign)] {
            let (dialled, _) = meet(dialler, acceptor).await;
            assert!(dialled.is_err());
        }
    }
}
