//! What is kept between two messages of a login.

use zeroize::Zeroizing;

use crate::jid::BareJid;
use crate::sasl::scram::{ClientFirst, Exchange};
use crate::sasl::{Digest, Mechanism};

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
    },
    /// PLAIN waits for the account's keys.
    Plain {
        password: Zeroizing<String>,
        account: BareJid,
    },
    /// PLAIN waits until the password is checked.
    Verifying { account: BareJid, real: bool },
}
