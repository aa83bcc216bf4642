//! XEP-0191: who may be blocked, and how a stanza to somebody who is comes back.

use crate::jid::{BareJid, Jid};
use crate::ns;
use crate::stanza::error::{Condition, ErrorType, StanzaError};
use crate::xml::Element;

/// The account can do without this address: it is neither its own, nor that of the server that it lives on (IM-71).
pub fn is_blockable(account: &BareJid, peer: &Jid) -> bool {
    let is_server = peer.local().is_none() && peer.domain() == account.domain();
    !is_server && !peer.belongs_to(account)
}

/// What a client is told that writes to somebody whom its account has blocked (IM-70).
pub fn refusal() -> StanzaError {
    StanzaError::new(Condition::NotAcceptable)
        .with_type(ErrorType::Cancel)
        .with_application(Element::new("blocked", ns::BLOCKING_ERRORS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn im_71_neither_the_account_nor_its_server_is_blocked() {
        let account = BareJid::new("alice@example.org").unwrap();
        for (peer, blockable) in [
            ("alice@example.org", false),
            ("alice@example.org/desk", false),
            ("example.org", false),
            ("example.org/x", false),
            ("bob@example.org", true),
            ("example.net", true),
        ] {
            let peer = Jid::new(peer).unwrap();
            assert_eq!(is_blockable(&account, &peer), blockable, "{peer}");
        }
    }
}
