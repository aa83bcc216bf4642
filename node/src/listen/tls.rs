//! The server's certificate, and TLS with it.
//!
//! TLS 1.2 and 1.3, no early data (T-18, SM-49). The certificate is read again when its file changes;
//! connections keep the one they were given, which is also the one their channel binding names (ST-53).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use cluster::disk;
use proto::stream::TlsInfo;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

use super::Door;
use super::certificate::{Fault, Verdict};
use crate::clock;

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate is configured, and the domain is a real one.
    #[error(
        "tls.certificate and tls.key must be set to serve {0}: only localhost gets a self-signed one"
    )]
    NotConfigured(String),
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, String),
    /// A file cannot be written.
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, std::io::Error),
    /// The certificate and its key do not work together.
    #[error("cannot use the certificate {certificate} with the key {key}: {error}", certificate = .0.display(), key = .1.display(), error = .2)]
    Unusable(PathBuf, PathBuf, rustls::Error),
    /// The file holds a key that only a passphrase opens.
    #[error(
        "cannot read {0}: the key is encrypted; store it without a passphrase, for its owner only"
    )]
    Encrypted(PathBuf),
    /// Clients would refuse the certificate.
    #[error("{0}: {1}")]
    Unfit(PathBuf, Fault),
    /// A self-signed certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
}

/// A certificate with all that depends on it.
pub struct Identity {
    starttls: TlsAcceptor,
    direct: TlsAcceptor,
    web: TlsAcceptor,
    end_point: Option<Vec<u8>>,
    verdict: Verdict,
}

/// The certificate in use, and where it came from.
pub struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    domains: Vec<String>,
    current: ArcSwap<Identity>,
}

impl Certificates {
    /// Reads the configured files; without any, makes or reads a self-signed certificate for localhost.
    pub fn open(
        files: Option<(PathBuf, PathBuf)>,
        domains: &[String],
        data_dir: &Path,
    ) -> Result<Self, TlsError> {
        let (certificate, key) = match files {
            Some(files) => files,
            None => self_signed(domains, data_dir)?,
        };
        let current = ArcSwap::from_pointee(load(&certificate, &key, domains)?);
        Ok(Self {
            certificate,
            key,
            domains: domains.to_vec(),
            current,
        })
    }

    /// The file of the certificate.
    pub fn file(&self) -> &Path {
        &self.certificate
    }

    /// Reads the files again. On error, or if clients would refuse the new certificate, the one in use stays.
    pub fn refresh(&self) -> Result<(), TlsError> {
        let fresh = load(&self.certificate, &self.key, &self.domains)?;
        if let Some(fault) = fresh.verdict.fatal() {
            return Err(TlsError::Unfit(self.certificate.clone(), fault.clone()));
        }
        self.current.store(Arc::new(fresh));
        Ok(())
    }

    /// The certificate for a new connection.
    pub fn current(&self) -> Arc<Identity> {
        self.current.load_full()
    }
}

impl Identity {
    /// What was found out about the certificate.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Shakes hands. Where TLS comes first it may name its protocol (ST-29).
    pub async fn accept(
        &self,
        socket: TcpStream,
        door: Door,
    ) -> std::io::Result<(TlsStream<TcpStream>, TlsInfo)> {
        let acceptor = match door {
            Door::StartTls => &self.starttls,
            Door::Tls => &self.direct,
            Door::Web => &self.web,
        };
        let stream = acceptor.accept(socket).await?;
        let info = TlsInfo {
            exporter: exporter(&stream),
            end_point: self.end_point.clone(),
        };
        Ok((stream, info))
    }
}

/// Keying material for `tls-exporter`. Not with TLS 1.2, of which we cannot tell whether the master
/// secret is an extended one (ST-54).
fn exporter(stream: &TlsStream<TcpStream>) -> Option<[u8; 32]> {
    let connection = stream.get_ref().1;
    if connection.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3) {
        return None;
    }
    let context = Some(&[][..]);
    connection
        .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", context)
        .ok()
}

/// Loads a certificate and its key. Whether clients will accept it is judged elsewhere.
pub fn load(certificate: &Path, key: &Path, domains: &[String]) -> Result<Identity, TlsError> {
    let unread =
        |path: &Path, e: rustls::pki_types::pem::Error| TlsError::Read(path.into(), e.to_string());
    if is_encrypted(key) {
        return Err(TlsError::Encrypted(key.into()));
    }
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unread(certificate, e))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| unread(key, e))?;
    let Some(leaf) = chain.first() else {
        return Err(TlsError::Read(
            certificate.into(),
            "there is no certificate in it".into(),
        ));
    };
    let end_point = end_point(leaf);
    let verdict = Verdict::on(leaf, domains, clock::now());
    let unusable = |e| TlsError::Unusable(certificate.into(), key.into(), e);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unusable)?;
    let naming = |protocol: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    };
    let (direct, web) = (naming(b"xmpp-client"), naming(b"http/1.1"));
    Ok(Identity {
        starttls: TlsAcceptor::from(Arc::new(config)),
        direct,
        web,
        end_point,
        verdict,
    })
}

/// Whether a PEM file holds an encrypted key, in either of the two forms.
fn is_encrypted(key: &Path) -> bool {
    let text = std::fs::read(key).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// The hash of a certificate for `tls-server-end-point` (RFC 5929 §4.1): with the hash of its signature,
/// SHA-256 in place of weaker ones, nothing where the signature has no single hash (ST-53).
fn end_point(leaf: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let algorithm = &certificate.signature_algorithm;
    let oid = match SignatureAlgorithm::try_from(algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(params)) => params.hash_algorithm_oid().to_id_string(),
        _ => algorithm.algorithm.to_id_string(),
    };
    match oid.as_str() {
        // MD5, SHA-1 and SHA-256, with RSA, ECDSA and by themselves.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => {
            Some(Sha256::digest(leaf).to_vec())
        }
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => Some(Sha256::digest(leaf).to_vec()),
        "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(Sha256::digest(leaf).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            Some(Sha384::digest(leaf).to_vec())
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            Some(Sha512::digest(leaf).to_vec())
        }
        _ => None,
    }
}

/// Makes a self-signed certificate, or reads the one of an earlier start: it is kept, so that clients can pin it.
fn self_signed(domains: &[String], data_dir: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    let is_local = |d: &&String| *d == "localhost" || d.ends_with(".localhost");
    if let Some(domain) = domains.iter().find(|d| !is_local(d)) {
        return Err(TlsError::NotConfigured(domain.clone()));
    }
    let (certificate, key) = (
        data_dir.join("localhost.crt"),
        data_dir.join("localhost.key"),
    );
    let is_there = |file: &Path| file.metadata().is_ok_and(|found| found.len() > 0);
    if is_there(&certificate) && is_there(&key) {
        for file in [&certificate, &key] {
            disk::private_file(file).map_err(|e| TlsError::Write(file.clone(), e))?;
        }
        return Ok((certificate, key));
    }
    let made = rcgen::generate_simple_self_signed(domains.to_vec())?;
    write(&key, &made.signing_key.serialize_pem())?;
    write(&certificate, &made.cert.pem())?;
    Ok((certificate, key))
}

/// Writes a file whole or not at all: half of one, from a full disk, would keep the node from ever starting.
fn write(path: &Path, text: &str) -> Result<(), TlsError> {
    let partial = path.with_extension("new");
    let written = disk::create(&partial).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    });
    written.map_err(|e| TlsError::Write(path.into(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(name: &str) -> Vec<String> {
        vec![name.to_owned()]
    }

    #[test]
    fn a_self_signed_certificate_is_made_once_and_for_localhost_only() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| Certificates::open(None, &domains(name), dir.path());
        assert!(matches!(
            open("example.org"),
            Err(TlsError::NotConfigured(_))
        ));
        let first = open("localhost").unwrap().current().end_point.clone();
        assert_eq!(first.as_ref().map(Vec::len), Some(32));
        assert_eq!(open("localhost").unwrap().current().end_point, first);
    }

    #[test]
    fn t_75_a_certificate_that_a_full_disk_cut_short_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Certificates::open(None, &domains("localhost"), dir.path());
        open().unwrap();
        for file in ["localhost.crt", "localhost.key"] {
            std::fs::write(dir.path().join(file), "").unwrap();
            open().unwrap();
        }
    }

    #[test]
    fn a_changed_certificate_is_read_and_a_broken_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::open(None, &domains("localhost"), dir.path()).unwrap();
        let before = certificates.current().end_point.clone();
        certificates.refresh().unwrap();
        assert_eq!(certificates.current().end_point, before);
        let write = |text: &str| std::fs::write(dir.path().join("localhost.crt"), text).unwrap();
        write("broken");
        assert!(certificates.refresh().is_err());
        assert_eq!(certificates.current().end_point, before);
        let made = rcgen::generate_simple_self_signed(domains("localhost")).unwrap();
        std::fs::write(
            dir.path().join("localhost.key"),
            made.signing_key.serialize_pem(),
        )
        .unwrap();
        write(&made.cert.pem());
        certificates.refresh().unwrap();
        assert_ne!(certificates.current().end_point, before);
        let before = certificates.current().end_point.clone();
        let other = rcgen::generate_simple_self_signed(domains("elsewhere.example")).unwrap();
        let key = dir.path().join("localhost.key");
        std::fs::write(key, other.signing_key.serialize_pem()).unwrap();
        write(&other.cert.pem());
        let refused = certificates.refresh().unwrap_err();
        assert!(matches!(refused, TlsError::Unfit(..)), "{refused}");
        assert_eq!(certificates.current().end_point, before);
    }
}
