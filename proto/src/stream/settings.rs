//! What an operator decides about client streams, and what TLS tells about one.

use super::upgrade::Upgrade;
use crate::limit;
use crate::sasl::{BindingType, Mechanism, Offer};
use crate::xml::Element;

/// The same for all streams of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hosted domains, prepared. The first is the default.
    pub domains: Vec<String>,
    /// The mechanisms that may be offered; those with channel binding only where it is possible.
    pub mechanisms: Vec<Mechanism>,
    /// Bytes of one first-level element after authentication (ST-88).
    pub max_stanza_bytes: usize,
    /// After how much silence the server cuts a stream, if it does (ST-89).
    pub idle_seconds: Option<u32>,
    /// The language of what the server says.
    pub default_lang: String,
    /// Whether Stream Management is offered.
    pub sm: bool,
    /// Whether strangers may ask for an account (XEP-0077); on which conditions is for the driver to say.
    pub registration: bool,
    /// Whether tokens for the next login are given out and accepted (XEP-0484).
    pub tokens: bool,
    /// Keys that clients are asked for whose accounts lack them (XEP-0480). All clients are offered that.
    pub upgrade: Option<Upgrade>,
    /// Further features of an authenticated stream, such as the server's capabilities.
    pub features: Vec<Element>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domains: vec!["localhost".to_owned()],
            mechanisms: Mechanism::ALL.to_vec(),
            max_stanza_bytes: limit::STANZA_BYTES,
            idle_seconds: None,
            default_lang: "en".to_owned(),
            sm: true,
            registration: false,
            tokens: true,
            upgrade: None,
            features: Vec::new(),
        }
    }
}

/// How a connection begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// In the clear: STARTTLS is required.
    Plain,
    /// TLS comes first.
    Tls(TlsInfo),
}

/// The channel-binding data of a TLS connection; what is absent is not offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// Exported keying material (ST-54).
    pub exporter: Option<[u8; 32]>,
    /// The hash of the certificate that was shown (ST-53).
    pub end_point: Option<Vec<u8>>,
}

impl TlsInfo {
    /// What a stream over this connection offers.
    pub(super) fn offer(self, mechanisms: &[Mechanism]) -> Offer {
        let exporter = self
            .exporter
            .map(|data| (BindingType::Exporter, data.to_vec()));
        let end_point = self.end_point.map(|data| (BindingType::EndPoint, data));
        Offer::new(mechanisms, exporter.into_iter().chain(end_point).collect())
    }
}
