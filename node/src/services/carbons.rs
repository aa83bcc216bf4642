//! XEP-0280: Message Carbons. Here they are switched on and off; copies are made where messages are
//! delivered, in the account's shard (IM-76). Repeats are fine (IM-74).

use cluster::session::Action;
use proto::ns;
use proto::stanza::error::StanzaError;

use crate::empty_payload;
use crate::hooks::{Reply, Request, Scope, Service, Setup, Xep};

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
