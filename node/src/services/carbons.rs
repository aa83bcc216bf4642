//! XEP-0280: Message Carbons. Here they are switched on and off; copies are made where messages are
//! delivered, in the account's shard (IM-76). Repeats are fine (IM-74).

use cluster::session::{Action, Traits};
use proto::stanza::MessageType;
use proto::stanza::error::StanzaError;
use proto::{Element, ns};

use crate::empty_payload;
use crate::hooks::{Content, Reply, Request, Scope, Service, Setup, Xep};

/// The service.
pub const SERVICE: Service = Service::new("carbons", &[Xep(280, "1.0.1")], register);

/// Says that messages are chosen by the rules of XEP-0280 §6.1 (IM-75).
const RULES: &str = "urn:xmpp:carbons:rules:0";

fn register(setup: &mut Setup<'_>) {
    setup.iq_set(&[Scope::Account], enable);
    setup.iq_set(&[Scope::Account], disable);
    // Clients look for the feature at the server.
    setup.feature(&[Scope::Host, Scope::Account], ns::CARBONS);
    setup.feature(&[Scope::Host, Scope::Account], RULES);
    setup.forged(is_forged);
    setup.classify(classify);
}

/// A copy is made by the server only (T-47).
fn is_forged(child: &Element) -> bool {
    child.ns() == ns::CARBONS && matches!(child.local(), "received" | "sent")
}

/// Of what there are copies.
fn classify(content: Content, traits: &mut Traits) {
    traits.carbon = match content.kind {
        MessageType::Normal | MessageType::Chat => {
            let shared = content.kind == MessageType::Chat
                || content.text()
                || content.signal
                || content.chat_state
                || content.invitation
                || content.call;
            content.converses() && shared && !content.private && !content.no_copy
        }
        // It may answer a message of which there were copies (IM-80). Hints are ignored (IM-53).
        MessageType::Error => !content.private,
        MessageType::Groupchat | MessageType::Headline => false,
    };
}

async fn enable(_: Request<Enable>) -> Result<Reply, StanzaError> {
    Ok(Reply::empty().after(Action::Carbons(true)))
}

async fn disable(_: Request<Disable>) -> Result<Reply, StanzaError> {
    Ok(Reply::empty().after(Action::Carbons(false)))
}

empty_payload! {
    /// Copies are wanted.
    Enable, ns::CARBONS, "enable"
}

empty_payload! {
    /// Copies are no longer wanted.
    Disable, ns::CARBONS, "disable"
}
