//! What nodes hold, and what whoever asks is to them.

use proto::payload::form::FormType;
use proto::payload::rsm::Page;
use proto::stanza::error::StanzaError;
use proto::{Element, ns};

use super::access::Reader;
use super::config::Config;
use super::error;
use super::request::Ask;
use super::storage::{Item, Wanted};
use crate::hooks::{Request, Scope, failure};

fn answer(child: Element) -> Element {
    Element::new("pubsub", ns::PUBSUB).with_child(child)
}

/// Answers what a client asks.
pub async fn ask(request: Request<Ask>) -> Result<Element, StanzaError> {
    match &request.payload {
        Ask::Items(node, wanted) => items(&request, node, wanted).await,
        Ask::Subscriptions(node) => subscriptions(&request, node.as_deref()).await,
        Ask::Affiliations(node) => affiliations(&request, node.as_deref()).await,
        Ask::Default => {
            let form = Config::default().form(FormType::Form).to_element();
            Ok(answer(Element::new("default", ns::PUBSUB).with_child(form)))
        }
    }
}

fn element(item: Item) -> Element {
    let mut element = Element::new("item", ns::PUBSUB).with_attr("id", item.id);
    if let Some(payload) = item.payload {
        element.push(payload);
    }
    element
}

async fn items(
    request: &Request<Ask>,
    node: &str,
    wanted: &Wanted,
) -> Result<Element, StanzaError> {
    let (edge, account) = (&*request.edge, &request.target);
    let found = edge.storage.node(account, node).await;
    let found = found.map_err(|error| failure(&error))?;
    let found = found.ok_or_else(error::not_found)?;
    let reader = Reader::new(edge, &request.account, account).await;
    let reader = reader.map_err(|error| failure(&error))?;
    let refusal = reader.refusal(node, &found.config).await;
    if let Some(refusal) = refusal.map_err(|error| failure(&error))? {
        return Err(refusal);
    }
    let items = edge.storage.items(account, node, wanted).await;
    let items = items.map_err(|error| failure(&error))?;
    if items.is_empty() && !wanted.ids.is_empty() {
        return Err(error::not_found());
    }
    let ends = items.first().zip(items.last());
    let page = Page {
        range: ends.map(|(first, last)| (first.id.clone(), last.id.clone())),
        index: None,
        count: Some(found.items),
    };
    // Whoever did not get all of them is told so, and can ask for the rest.
    let asked = match wanted.ids.len() {
        0 => found.items,
        ids => ids as u64,
    };
    let partial = wanted.after.is_some() || (items.len() as u64) < asked;
    let mut list = Element::new("items", ns::PUBSUB).with_attr("node", node);
    items.into_iter().for_each(|item| list.push(element(item)));
    let mut pubsub = answer(list);
    if partial && wanted.ids.is_empty() {
        pubsub.push(page.to_element());
    }
    Ok(pubsub)
}

async fn subscriptions(request: &Request<Ask>, node: Option<&str>) -> Result<Element, StanzaError> {
    let storage = &request.edge.storage;
    let found = storage
        .subscriptions_by(&request.target, &request.account)
        .await;
    let found = found.map_err(|error| failure(&error))?;
    let mut list = Element::new("subscriptions", ns::PUBSUB);
    for (name, jid) in found {
        if node.is_none_or(|node| node == name) {
            let one = Element::new("subscription", ns::PUBSUB)
                .with_attr("node", name)
                .with_attr("jid", jid.as_str())
                .with_attr("subscription", "subscribed");
            list.push(one);
        }
    }
    Ok(answer(list))
}

async fn affiliations(request: &Request<Ask>, node: Option<&str>) -> Result<Element, StanzaError> {
    let (storage, account) = (&request.edge.storage, &request.target);
    let found: Vec<(String, &str)> = match request.scope {
        Scope::Account => {
            let nodes = storage.nodes(account).await;
            let nodes = nodes.map_err(|error| failure(&error))?.into_iter();
            nodes.map(|(name, _)| (name, "owner")).collect()
        }
        Scope::Contact | Scope::Host => {
            let known = storage.affiliations(account, &request.account).await;
            let known = known.map_err(|error| failure(&error))?.into_iter();
            known.map(|(name, what)| (name, what.name())).collect()
        }
    };
    let mut list = Element::new("affiliations", ns::PUBSUB);
    for (name, affiliation) in found {
        if node.is_none_or(|node| node == name) {
            let one = Element::new("affiliation", ns::PUBSUB)
                .with_attr("node", name)
                .with_attr("affiliation", affiliation);
            list.push(one);
        }
    }
    Ok(answer(list))
}
