//! XEP-0199: XMPP Ping. Answers pings to a host, and to one's own account.

use proto::ns;
use proto::stanza::error::StanzaError;

use crate::empty_payload;
use crate::hooks::{Empty, Request, Scope, Service, Setup, Xep};

/// The service.
pub const SERVICE: Service = Service::new("ping", &[Xep(199, "2.0.1")], register);

fn register(setup: &mut Setup<'_>) {
    setup.iq_get(&[Scope::Host, Scope::Account], pong);
}

async fn pong(_: Request<Ping>) -> Result<Empty, StanzaError> {
    Ok(Empty)
}

empty_payload! {
    /// A ping.
    Ping, ns::PING, "ping"
}
