//! XEP-0202: Entity Time. A server has no time zone of its own: it answers in UTC (DI-5).

use proto::payload::delay;
use proto::stanza::error::StanzaError;
use proto::{Element, ns};

use crate::empty_payload;
use crate::hooks::{Request, Scope, Service, Setup, Xep};

/// The service.
pub const SERVICE: Service = Service::new("time", &[Xep(202, "2.0")], register);

fn register(setup: &mut Setup<'_>) {
    setup.iq_get(&[Scope::Host], time);
}

async fn time(request: Request<Time>) -> Result<Element, StanzaError> {
    let zone = Element::new("tzo", ns::TIME).with_text("+00:00");
    let now = Element::new("utc", ns::TIME).with_text(&delay::stamp((request.edge.now)()));
    Ok(Element::new("time", ns::TIME)
        .with_child(zone)
        .with_child(now))
}

empty_payload! {
    /// The question.
    Time, ns::TIME, "time"
}
