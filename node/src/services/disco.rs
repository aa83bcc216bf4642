//! XEP-0030: Service Discovery. What the server and accounts can do is what services have announced.
//!
//! An account shows itself to its owner and to those who see its presence. To all others it looks like an
//! account that does not exist: an error for info, no items (DI-1).

use proto::payload::disco;
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
    if let Some(node) = &request.payload.0 {
        return node_info(&request, node).await;
    }
    if !may_ask(&request).await? {
        return fail(Condition::ServiceUnavailable);
    }
    Ok(request.features.info(request.scope, None))
}

/// Of a node of an account hears who may read it (PE-17); of any other, who may ask at all hears that it is not there.
async fn node_info(request: &Request<Info>, node: &str) -> Result<Element, StanzaError> {
    if request.scope != Scope::Host {
        let (edge, viewer) = (&*request.edge, &request.account);
        let found = edge.nodes.info(edge, viewer, &request.target, node).await?;
        if let Some(found) = found {
            let features = [ns::PUBSUB, ns::DISCO_INFO];
            let (identity, form) = ([found.identity], [found.form]);
            return Ok(disco::info(Some(node), &identity, features, &form));
        }
    } else if let Some(info) = host_node(request, node) {
        return Ok(info);
    }
    match may_ask(request).await? {
        true => fail(Condition::ItemNotFound),
        false => fail(Condition::ServiceUnavailable),
    }
}

/// Of the server there are the commands, and what it has announced (DI-2, AD-1).
fn host_node(request: &Request<Info>, node: &str) -> Option<Element> {
    if request.features.is_caps(node) {
        return Some(request.features.info(Scope::Host, Some(node)));
    }
    let (edge, account) = (&*request.edge, &request.account);
    let identity = request.commands.identity(edge, account, node)?;
    let features = [ns::COMMANDS, ns::DATA_FORM, ns::DISCO_INFO];
    Some(disco::info(Some(node), &[identity], features, &[]))
}

async fn items(request: Request<Items>) -> Result<Element, StanzaError> {
    let (edge, viewer, account) = (&*request.edge, &request.account, &request.target);
    let is_account = request.scope != Scope::Host;
    if let Some(node) = &request.payload.0 {
        if is_account {
            let found = edge.nodes.contents(edge, viewer, account, node).await?;
            if let Some(found) = found {
                return Ok(disco::items(Some(node), &found));
            }
        } else if node == ns::COMMANDS {
            let found = request.commands.items(edge, viewer, account);
            return Ok(disco::items(Some(node), &found));
        }
        return match may_ask(&request).await? {
            true => fail(Condition::ItemNotFound),
            false => Ok(disco::items(None, &[])),
        };
    }
    // To a stranger an account looks like none, whatever it has (DI-1).
    let found = match is_account && may_ask(&request).await? {
        true => edge.nodes.list(edge, viewer, account).await?,
        false => Vec::new(),
    };
    Ok(disco::items(None, &found))
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
