//! SASL: how a client proves who it is (RFC 6120 §6, RFC 5802, RFC 4616, RFC 9266, XEP-0474).
//!
//! It is pure code for both sides. The caller looks up the keys of accounts and draws the nonces. The exchange of
//! elements around the messages is in [`crate::stream`].

pub mod client;
pub mod digest;
pub mod ht;
mod keys;
pub mod password;
pub mod plain;
pub mod scram;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use digest::Digest;
pub use keys::{KeyPair, ScramKeys};

/// A mechanism that can be offered. The order is the server's preference (ST-39).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// SCRAM-SHA-512-PLUS
    ScramSha512Plus,
    /// SCRAM-SHA-256-PLUS
    ScramSha256Plus,
    /// SCRAM-SHA-1-PLUS
    ScramSha1Plus,
    /// SCRAM-SHA-512
    ScramSha512,
    /// SCRAM-SHA-256
    ScramSha256,
    /// SCRAM-SHA-1
    ScramSha1,
    /// PLAIN
    Plain,
}

impl Mechanism {
    /// Every mechanism, preferred ones first.
    pub const ALL: [Self; 7] = [
        Self::ScramSha512Plus,
        Self::ScramSha256Plus,
        Self::ScramSha1Plus,
        Self::ScramSha512,
        Self::ScramSha256,
        Self::ScramSha1,
        Self::Plain,
    ];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha512Plus => "SCRAM-SHA-512-PLUS",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
        }
    }

    /// The mechanism of that registered name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The SCRAM mechanism of a hash, without channel binding.
    pub const fn scram(digest: Digest) -> Self {
        match digest {
            Digest::Sha1 => Self::ScramSha1,
            Digest::Sha256 => Self::ScramSha256,
            Digest::Sha512 => Self::ScramSha512,
        }
    }

    /// Whether the proof is bound to the TLS channel.
    pub const fn is_bound(self) -> bool {
        matches!(
            self,
            Self::ScramSha512Plus | Self::ScramSha256Plus | Self::ScramSha1Plus
        )
    }

    /// The hash of a SCRAM mechanism.
    pub const fn digest(self) -> Option<Digest> {
        match self {
            Self::ScramSha512Plus | Self::ScramSha512 => Some(Digest::Sha512),
            Self::ScramSha256Plus | Self::ScramSha256 => Some(Digest::Sha256),
            Self::ScramSha1Plus | Self::ScramSha1 => Some(Digest::Sha1),
            Self::Plain => None,
        }
    }
}

/// A kind of channel binding. `tls-unique` is not among them (ST-55).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BindingType {
    /// Keying material exported from the TLS connection (RFC 9266).
    Exporter,
    /// The hash of the server's certificate (RFC 5929 §4).
    EndPoint,
}

impl BindingType {
    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exporter => "tls-exporter",
            Self::EndPoint => "tls-server-end-point",
        }
    }

    /// The type of that registered name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Exporter, Self::EndPoint]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

/// What one stream offers: remembered with it, never computed anew from configuration (ST-58).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    mechanisms: Vec<Mechanism>,
    bindings: Vec<(BindingType, Vec<u8>)>,
}

impl Offer {
    /// The allowed mechanisms, as far as the channel-binding data at hand lets them work.
    pub fn new(allowed: &[Mechanism], bindings: Vec<(BindingType, Vec<u8>)>) -> Self {
        let mut mechanisms: Vec<_> = allowed
            .iter()
            .copied()
            .filter(|mechanism| !mechanism.is_bound() || !bindings.is_empty())
            .collect();
        mechanisms.sort_unstable();
        mechanisms.dedup();
        let bound = mechanisms.iter().any(|mechanism| mechanism.is_bound());
        Self {
            mechanisms,
            bindings: if bound { bindings } else { Vec::new() },
        }
    }

    /// The mechanisms, preferred ones first.
    pub fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    /// The kinds of channel binding that are advertised (ST-52).
    pub fn binding_types(&self) -> impl Iterator<Item = BindingType> {
        self.bindings.iter().map(|(kind, _)| *kind)
    }

    /// The channel-binding data of an advertised kind.
    pub fn binding(&self, kind: BindingType) -> Option<&[u8]> {
        self.bindings
            .iter()
            .find(|(known, _)| *known == kind)
            .map(|(_, data)| &**data)
    }

    /// Whether a mechanism with channel binding is offered.
    pub fn has_bound(&self) -> bool {
        self.mechanisms.iter().any(|mechanism| mechanism.is_bound())
    }

    /// The `h` attribute of SCRAM's first answer: a hash of all that is offered (XEP-0474, ST-57).
    pub fn fingerprint(&self, digest: Digest) -> String {
        let mechanisms = self.mechanisms.iter().map(|known| known.name());
        fingerprint(
            digest,
            mechanisms,
            self.binding_types().map(BindingType::name),
        )
    }
}

/// The hash over the names of an offer, from whichever side (ST-57).
pub fn fingerprint<'a>(
    digest: Digest,
    mechanisms: impl Iterator<Item = &'a str>,
    bindings: impl Iterator<Item = &'a str>,
) -> String {
    let sorted = |names: &mut Vec<&str>| {
        names.sort_unstable();
        names.join("\u{1e}")
    };
    let mut offer = sorted(&mut mechanisms.collect());
    let mut bindings: Vec<_> = bindings.collect();
    if !bindings.is_empty() {
        offer.push('\u{1f}');
        offer.push_str(&sorted(&mut bindings));
    }
    STANDARD.encode(digest.hash(offer.as_bytes()))
}

/// What an account is checked against. For an unknown one the keys are made up, always the same for
/// the same name, and `real` is false: the exchange then fails at its end, not before (ST-49).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The keys for SCRAM-SHA-1.
    pub sha1: Option<ScramKeys>,
    /// The keys for SCRAM-SHA-256.
    pub sha256: Option<ScramKeys>,
    /// The keys for SCRAM-SHA-512.
    pub sha512: Option<ScramKeys>,
    /// Made-up keys for each hash that the account has no real ones for. Nobody can log in with them, but such an
    /// account answers like any other (ST-49).
    pub stand_ins: Vec<(Digest, ScramKeys)>,
    /// Whether the account exists and may log in.
    pub real: bool,
}

impl Credentials {
    /// The account's own keys for a hash.
    pub fn own(&self, digest: Digest) -> Option<&ScramKeys> {
        match digest {
            Digest::Sha1 => self.sha1.as_ref(),
            Digest::Sha256 => self.sha256.as_ref(),
            Digest::Sha512 => self.sha512.as_ref(),
        }
    }

    /// The keys for a hash, and whether somebody can log in with them.
    pub fn keys(self, digest: Digest) -> Option<(ScramKeys, bool)> {
        let real = self.real;
        let own = match digest {
            Digest::Sha1 => self.sha1,
            Digest::Sha256 => self.sha256,
            Digest::Sha512 => self.sha512,
        };
        let mut stand_ins = self.stand_ins.into_iter();
        let mut stand_in = || stand_ins.find(|(known, _)| *known == digest);
        let own = own.map(|keys| (keys, real));
        own.or_else(|| stand_in().map(|(_, keys)| (keys, false)))
    }

    /// The keys that PLAIN is checked against, with their hash: of those that are strong the cheapest.
    pub fn cheapest(self) -> Option<(Digest, ScramKeys)> {
        let sha256 = self.sha256.map(|keys| (Digest::Sha256, keys));
        let sha512 = self.sha512.map(|keys| (Digest::Sha512, keys));
        let sha1 = self.sha1.map(|keys| (Digest::Sha1, keys));
        sha256.or(sha512).or(sha1)
    }

    /// Whether both stem from the same password. One of them may lack keys that were derived later.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let alike = |one: &Option<ScramKeys>, other: &Option<ScramKeys>| match (one, other) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        let shares_keys =
            |one: &Option<ScramKeys>, other: &Option<ScramKeys>| one.is_some() && one == other;
        let none = |it: &Self| it.sha1.is_none() && it.sha256.is_none() && it.sha512.is_none();
        let shared = shares_keys(&self.sha1, &other.sha1)
            || shares_keys(&self.sha256, &other.sha256)
            || shares_keys(&self.sha512, &other.sha512);
        self.real == other.real
            && alike(&self.sha1, &other.sha1)
            && alike(&self.sha256, &other.sha256)
            && alike(&self.sha512, &other.sha512)
            && (shared || (none(self) && none(other)))
    }
}

/// Why a login failed (RFC 6120 §6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.name())]
pub enum Failure {
    /// The client gave up.
    Aborted,
    /// Right credentials, locked account.
    AccountDisabled,
    /// Right credentials, no longer valid.
    CredentialsExpired,
    /// The mechanism needs TLS.
    EncryptionRequired,
    /// Not Base64.
    IncorrectEncoding,
    /// Not allowed to act as that identity (ST-36).
    InvalidAuthzid,
    /// Not offered on this stream.
    InvalidMechanism,
    /// A message of the mechanism breaks its grammar, or comes out of order.
    MalformedRequest,
    /// Policy forbids it for this account.
    MechanismTooWeak,
    /// Wrong or unknown credentials, or another channel.
    NotAuthorized,
    /// The accounts cannot be read at the moment.
    TemporaryAuthFailure,
}

impl Failure {
    /// Every failure.
    pub const ALL: [Self; 11] = [
        Self::Aborted,
        Self::AccountDisabled,
        Self::CredentialsExpired,
        Self::EncryptionRequired,
        Self::IncorrectEncoding,
        Self::InvalidAuthzid,
        Self::InvalidMechanism,
        Self::MalformedRequest,
        Self::MechanismTooWeak,
        Self::NotAuthorized,
        Self::TemporaryAuthFailure,
    ];

    /// The name of its element.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AccountDisabled => "account-disabled",
            Self::CredentialsExpired => "credentials-expired",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::MechanismTooWeak => "mechanism-too-weak",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }

    /// The failure of that name; an unknown one counts as `not-authorized` (ST-38).
    pub fn parse(name: &str) -> Self {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        known.unwrap_or(Self::NotAuthorized)
    }
}

/// The message in a SASL element: `None` where there is none, `=` stands for an empty one (ST-32).
pub fn decode(text: &str) -> Result<Option<Vec<u8>>, Failure> {
    match text {
        "" => Ok(None),
        "=" => Ok(Some(Vec::new())),
        data => match STANDARD.decode(data) {
            Ok(message) => Ok(Some(message)),
            Err(_) => Err(Failure::IncorrectEncoding),
        },
    }
}

/// The text of a SASL element that carries a message.
pub fn encode(message: &[u8]) -> String {
    if message.is_empty() {
        return "=".to_owned();
    }
    STANDARD.encode(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the vectors are made with.
    const WITHOUT_SHA_512: [Mechanism; 5] = [
        Mechanism::ScramSha256Plus,
        Mechanism::ScramSha1Plus,
        Mechanism::ScramSha256,
        Mechanism::ScramSha1,
        Mechanism::Plain,
    ];

    #[test]
    fn st_49_keys_that_an_account_lacks_are_made_up_and_open_nothing() {
        let keys = |byte| ScramKeys {
            salt: vec![byte; 16],
            iterations: 10_000,
            stored_key: vec![byte],
            server_key: vec![byte],
            others: Vec::new(),
        };
        let old = Credentials {
            sha1: None,
            sha256: Some(keys(1)),
            sha512: None,
            stand_ins: vec![(Digest::Sha512, keys(2))],
            real: true,
        };
        assert_eq!(old.clone().keys(Digest::Sha256), Some((keys(1), true)));
        assert_eq!(old.clone().keys(Digest::Sha512), Some((keys(2), false)));
        assert_eq!(old.clone().keys(Digest::Sha1), None);
        let cheapest = old.clone().cheapest();
        assert_eq!(cheapest, Some((Digest::Sha256, keys(1))));
        // The keys that it gets later stem from the same password; others do not.
        let sha512 = Some(keys(3));
        let upgraded = Credentials {
            sha512,
            ..old.clone()
        };
        assert!(old.agrees_with(&upgraded) && upgraded.agrees_with(&old));
        let sha256 = Some(keys(4));
        assert!(!old.agrees_with(&Credentials {
            sha256,
            ..upgraded.clone()
        }));
        let sha256 = None;
        assert!(!old.agrees_with(&Credentials {
            sha256,
            ..upgraded.clone()
        }));
        assert!(!old.agrees_with(&Credentials {
            real: false,
            ..old.clone()
        }));
    }

    #[test]
    fn st_32_absent_empty_and_broken_messages_differ() {
        assert_eq!(decode(""), Ok(None));
        assert_eq!(decode("="), Ok(Some(Vec::new())));
        assert_eq!(decode("YQ=="), Ok(Some(b"a".to_vec())));
        for broken in ["YQ", "YQ= ", " YQ==", "YQ==\n", "Y", "==", "YR==", "Y*=="] {
            assert_eq!(
                decode(broken),
                Err(Failure::IncorrectEncoding),
                "{broken:?}"
            );
        }
        assert_eq!(encode(b""), "=");
    }

    #[test]
    fn st_57_the_fingerprint_covers_names_and_bindings() {
        let check = |digest, mechanisms: &str, bindings: &str, expect| {
            let result = fingerprint(
                digest,
                mechanisms.split_whitespace(),
                bindings.split_whitespace(),
            );
            assert_eq!(result, expect);
        };
        check(
            Digest::Sha1,
            "SCRAM-SHA-1-PLUS SCRAM-SHA-1",
            "tls-server-end-point tls-exporter",
            "G6k/rBLDqgOhRRaCuuatSDFkJ08=",
        );
        check(
            Digest::Sha1,
            "SCRAM-SHA-256 PLAIN SCRAM-SHA-1",
            "",
            "uYJXMaNHTMxSJNZes6xsLrR+vu0=",
        );
        let bindings = vec![
            (BindingType::EndPoint, vec![1]),
            (BindingType::Exporter, vec![2]),
        ];
        let offer = Offer::new(&WITHOUT_SHA_512, bindings);
        assert_eq!(
            offer.fingerprint(Digest::Sha256),
            "HsVT3zgfiif56i/w96g+XTr+Rx/Yfkw1VkxOAdVb9Wk="
        );
    }

    #[test]
    fn st_40_bound_mechanisms_need_a_channel_to_bind_to() {
        let offer = Offer::new(&Mechanism::ALL, Vec::new());
        assert!(!offer.has_bound());
        assert_eq!(offer.mechanisms(), &Mechanism::ALL[3..]);
    }

    #[test]
    fn st_52_bindings_are_not_advertised_without_a_bound_mechanism() {
        let offer = Offer::new(&[Mechanism::Plain], vec![(BindingType::Exporter, vec![1])]);
        assert_eq!(offer.binding_types().count(), 0);
    }
}
