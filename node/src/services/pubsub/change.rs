//! Items come and go, nodes are made, and others subscribe to them.

use cluster::session::{Action, NodeEvent, Recipient, Relay};
use proto::payload::form::Form;
use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Element, Jid, ns};
use sha1::{Digest as _, Sha1};

use super::access::Reader;
use super::config::{Config, SendLast};
use super::request::{Change, Publish};
use super::settings::Quotas;
use super::storage::{Item, Publishing, Wanted};
use super::{error, event};
use crate::hooks::{Edge, Reply, Request, Scope, fail, failure};

/// The account whose nodes are changed, which only it does itself (PE-2).
pub fn account_of<P>(request: &Request<P>) -> Result<&BareJid, StanzaError> {
    match request.scope {
        Scope::Account => Ok(&request.account),
        Scope::Contact | Scope::Host => Err(error::forbidden()),
    }
}

/// Has everybody told whom it concerns.
pub async fn told(
    edge: &Edge,
    account: &BareJid,
    node: &str,
    config: &Config,
    events: Vec<NodeEvent>,
) -> Result<Vec<Action>, StanzaError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let to = event::recipients(edge, account, node, config).await;
    let to = to.map_err(|error| failure(&error))?;
    Ok(event::send(events, &to))
}

/// A name that is the same whenever the same request is made again.
fn named_by<P>(request: &Request<P>, more: &str) -> String {
    let words = [request.session.as_str(), &request.id, more].join("\n");
    let digest = Sha1::digest(words);
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn answer(child: Element) -> Element {
    Element::new("pubsub", ns::PUBSUB).with_child(child)
}

/// Does what a client wants.
pub async fn change(request: Request<Change>, quotas: Quotas) -> Result<Reply, StanzaError> {
    match &request.payload {
        Change::Publish(what) => {
            account_of(&request)?;
            publish(&request, quotas, what).await
        }
        Change::Retract(node, ids, notify) => {
            account_of(&request)?;
            let actions = retract(&request.edge, &request.account, node, ids, *notify).await?;
            Ok(Reply::empty().then_all(actions))
        }
        Change::Create(node, form) => {
            account_of(&request)?;
            create(&request, quotas, node.as_deref(), form.as_ref()).await
        }
        Change::Subscribe(node, jid) => subscribe(&request, quotas, node, jid).await,
        Change::Unsubscribe(node, jid) => unsubscribe(&request, node, jid).await,
    }
}

async fn publish(
    request: &Request<Change>,
    quotas: Quotas,
    what: &Publish,
) -> Result<Reply, StanzaError> {
    let id = match &what.id {
        Some(id) => id.clone(),
        None => named_by(request, &what.payload.to_xml("")),
    };
    let item = Item {
        id,
        stamp: (request.edge.now)(),
        payload: Some(what.payload.clone()),
    };
    let (edge, account) = (&*request.edge, &request.account);
    let options = what.options.as_ref();
    let actions = put(edge, quotas, account, (&what.node, options), &item).await?;
    let named = Element::new("item", ns::PUBSUB).with_attr("id", &item.id);
    let publish = Element::new("publish", ns::PUBSUB).with_attr("node", &what.node);
    Ok(Reply::new(answer(publish.with_child(named))).then_all(actions))
}

/// Publishes an item on a node of the account's own; returns what follows.
pub async fn put(
    edge: &Edge,
    quotas: Quotas,
    account: &BareJid,
    (node, options): (&str, Option<&Form>),
    item: &Item,
) -> Result<Vec<Action>, StanzaError> {
    let xml = item.payload.as_ref().map(|payload| payload.to_xml(""));
    let xml = xml.unwrap_or_default();
    if xml.len() as u64 > quotas.pubsub_item_bytes {
        return Err(error::payload_too_big());
    }
    let publishing = Publishing {
        node,
        id: &item.id,
        stamp: item.stamp,
        xml: &xml,
        options,
        kind: item.payload.as_ref().map_or("", |payload| payload.ns()),
    };
    let published = edge.storage.publish(&quotas, account, &publishing).await;
    let published = published.map_err(|error| failure(&error))?;
    let published = published.map_err(|_| error::precondition_not_met())?;
    let mut config = published.config;
    let to = event::recipients(edge, account, node, &config).await;
    let to = to.map_err(|error| failure(&error))?;
    let mut event = event::published(account, node, &config, item);
    if !event::fits(&event, &to) {
        // Whoever wants it reads it.
        config.payloads = false;
        event = event::published(account, node, &config, item);
    }
    Ok(event::send([event], &to))
}

/// Takes items out of a node of the account's own; returns what follows.
pub async fn retract(
    edge: &Edge,
    account: &BareJid,
    node: &str,
    ids: &[String],
    notify: bool,
) -> Result<Vec<Action>, StanzaError> {
    let gone = edge.storage.retract(account, node, ids).await;
    let gone = gone.map_err(|error| failure(&error))?;
    let (config, gone) = gone.ok_or_else(error::not_found)?;
    if gone.is_empty() {
        return Err(error::not_found());
    }
    let told_of = gone.iter().filter(|_| notify || config.notify_retract);
    let events = told_of.map(|id| event::retracted(account, node, &config, id));
    let events = events.collect();
    told(edge, account, node, &config, events).await
}

async fn create(
    request: &Request<Change>,
    quotas: Quotas,
    node: Option<&str>,
    form: Option<&Form>,
) -> Result<Reply, StanzaError> {
    let made_by = named_by(request, node.unwrap_or_default());
    let name = node.map_or_else(|| made_by.clone(), str::to_owned);
    let config = match form {
        Some(form) => Config::default().with_known(form, quotas.pubsub_items),
        None => Ok(Config::default()),
    };
    let config = config.map_err(|_| error::not_acceptable())?;
    let (storage, account) = (&request.edge.storage, &request.account);
    let created = storage.create_node(&quotas, (account, &name), &config, &made_by);
    match created.await {
        Ok(true) if node.is_some() => Ok(Reply::empty()),
        Ok(true) => {
            let create = Element::new("create", ns::PUBSUB).with_attr("node", name);
            Ok(Reply::new(answer(create)))
        }
        Ok(false) => fail(Condition::Conflict),
        Err(error) => Err(failure(&error)),
    }
}

/// Whoever subscribes does so with an address of their own (PE-11).
fn check_own(request: &Request<Change>, jid: &Jid) -> Result<(), StanzaError> {
    let own = *jid == request.session || jid == request.account.as_jid();
    own.then_some(())
        .ok_or_else(|| error::bad_request("invalid-jid"))
}

async fn subscribe(
    request: &Request<Change>,
    quotas: Quotas,
    node: &str,
    jid: &Jid,
) -> Result<Reply, StanzaError> {
    check_own(request, jid)?;
    let (edge, account) = (&*request.edge, &request.target);
    let found = edge.storage.node(account, node).await;
    let found = found.map_err(|error| failure(&error))?;
    let config = found.ok_or_else(error::not_found)?.config;
    let reader = Reader::new(edge, &request.account, account).await;
    let reader = reader.map_err(|error| failure(&error))?;
    let refusal = reader.refusal(node, &config).await;
    if let Some(refusal) = refusal.map_err(|error| failure(&error))? {
        return Err(refusal);
    }
    let done = edge.storage.subscribe(&quotas, (account, node), jid).await;
    if !done.map_err(|error| failure(&error))? {
        return Err(error::not_found());
    }
    let mut last = None;
    if config.send_last != SendLast::Never {
        let newest = Wanted {
            most: Some(1),
            ..Wanted::default()
        };
        let items = edge.storage.items(account, node, &newest).await;
        last = items.map_err(|error| failure(&error))?.pop();
    }
    let last = last.map(|item| {
        let event = event::last(account, node, &config, &item);
        let to = vec![Recipient {
            jid: jid.clone(),
            subscribed: true,
        }];
        Action::Send(Relay::Event { event, to })
    });
    let subscription = Element::new("subscription", ns::PUBSUB)
        .with_attr("node", node)
        .with_attr("jid", jid.as_str())
        .with_attr("subscription", "subscribed");
    Ok(Reply::new(answer(subscription)).then_all(last))
}

async fn unsubscribe(
    request: &Request<Change>,
    node: &str,
    jid: &Jid,
) -> Result<Reply, StanzaError> {
    check_own(request, jid)?;
    let storage = &request.edge.storage;
    let done = storage.unsubscribe(&request.target, node, jid).await;
    match done.map_err(|error| failure(&error))? {
        true => Ok(Reply::empty()),
        false => Err(error::not_subscribed()),
    }
}
