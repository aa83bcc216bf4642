//! XEP-0030: Service Discovery. What the server and accounts can do is what services have announced.
//!
//! An account shows itself to its owner and to those who see its presence. To all others it looks like an
//! account that does not exist: an error for info, no items (DI-1).

use proto::payload::disco::{self, Identity};
use proto::stanza::error::{Condition, StanzaError};
use proto::{Element, ns};

use crate::hooks::{Payload, Request, Scope, Service, Setup, Xep, fail, permission};

/// The service.
pub const SERVICE: Service = Service::new("disco", &[Xep(30, "2.5.0")], register);

const EVERYWHERE: [Scope; 3] = [Scope::Host, Scope::Account, Scope::Contact];

fn register(setup: &mut Setup<'_>) {
    setup.iq_get(&EVERYWHERE, info);
    setup.iq_get(&EVERYWHERE, items);
}

async fn info(request: Request<Info>) -> Result<Element, StanzaError> {
    if !may_ask(&request).await? {
        return fail(Condition::ServiceUnavailable);
    }
    if request.payload.0.is_some() {
        return fail(Condition::ItemNotFound);
    }
    let (identity, scope) = match request.scope {
        Scope::Host => (Identity::new("server", "im", "Holdfast"), Scope::Host),
        Scope::Account | Scope::Contact => {
            (Identity::new("account", "registered", ""), Scope::Account)
        }
    };
    let features = request.features.of(scope);
    Ok(disco::info(None, &[identity], features, &[]))
}

async fn items(request: Request<Items>) -> Result<Element, StanzaError> {
    if request.payload.0.is_some() && may_ask(&request).await? {
        return fail(Condition::ItemNotFound);
    }
    Ok(disco::items(None, &[]))
}

async fn may_ask<P>(request: &Request<P>) -> Result<bool, StanzaError> {
    match request.scope {
        Scope::Host | Scope::Account => Ok(true),
        Scope::Contact => permission::sees(&request.edge, &request.account, &request.target).await,
    }
}

/// Asks for identities and features, perhaps of a node.
pub struct Info(Option<String>);

/// Asks for items, perhaps of a node.
pub struct Items(Option<String>);

fn node(element: &Element) -> Option<String> {
    element
        .attr("node")
        .filter(|node| !node.is_empty())
        .map(str::to_owned)
}

impl Payload for Info {
    const NS: &'static str = ns::DISCO_INFO;
    const NAME: &'static str = "query";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        Ok(Self(node(element)))
    }
}

impl Payload for Items {
    const NS: &'static str = ns::DISCO_ITEMS;
    const NAME: &'static str = "query";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        Ok(Self(node(element)))
    }
}
