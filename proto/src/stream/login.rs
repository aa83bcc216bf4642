//! What is kept between two messages of a login.

use zeroize::Zeroizing;

use super::upgrade::Upgrade;
use crate::jid::BareJid;
use crate::sasl::ht::{Initiator, TokenMechanism};
use crate::sasl::scram::{ClientFirst, Exchange};
use crate::sasl::{Digest, Mechanism};
use crate::sm::elements::Failed;

/// How many logins a stream may try (ST-34).
pub(super) const ATTEMPTS: u8 = 3;

/// Which of the two forms of an exchange is used on a stream. The first login decides it for good (SA-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// That of RFC 6120.
    Sasl,
    /// That of XEP-0388.
    Sasl2,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) enum Login {
    /// Nothing is going on.
    #[default]
    None,
    /// The first message was left out of `<auth/>` and is due now.
    Invited(Mechanism),
    /// SCRAM waits for the account's keys.
    Scram {
        mechanism: Mechanism,
        first: ClientFirst,
        digest: Digest,
        binding_input: Vec<u8>,
        account: BareJid,
    },
    /// SCRAM waits for the client's proof.
    Proof {
        mechanism: Mechanism,
        exchange: Box<Exchange>,
        account: BareJid,
        /// What the client is asked for then.
        upgrade: Option<Upgrade>,
    },
    /// PLAIN waits for the account's keys.
    Plain {
        password: Zeroizing<String>,
        account: BareJid,
    },
    /// PLAIN waits until the password is checked.
    Verifying { account: BareJid, real: bool },
    /// HT waits for the client's tokens.
    Token {
        mechanism: TokenMechanism,
        initiator: Initiator,
        account: BareJid,
    },
    /// The password is proven, and keys for another mechanism are due.
    Upgrade(Box<Pending>),
    /// The client is authenticated, and waits for what it asked for along with that.
    Opening(Box<Authenticated>),
}

/// A login that goes on once the client has given new keys.
#[derive(Debug)]
pub(super) struct Pending {
    pub mechanism: Mechanism,
    pub account: BareJid,
    pub upgrade: Upgrade,
    /// For the new keys, once it is told.
    pub salt: Vec<u8>,
}

/// What `<success/>` will say.
#[derive(Debug)]
pub(super) struct Authenticated {
    pub account: BareJid,
    /// The mechanism's last message, in Base64.
    pub last: Option<String>,
    /// Why nothing is resumed.
    pub failed: Option<Failed>,
    /// Whether someone looks at the client.
    pub active: Option<bool>,
}
