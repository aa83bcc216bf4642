//! What only the owner of a node does, which is its account (PE-14).

use proto::payload::form::{Form, FormType};
use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Element, Jid, ns};

use super::change::{account_of, told};
use super::config::Config;
use super::settings::Quotas;
use super::storage::{Affiliation, Parties};
use super::{error, event, request};
use crate::hooks::{Payload, Reply, Request, fail, failure};

/// The most affiliations or subscriptions that one request changes.
const MAX_CHANGES: usize = 500;

/// What is asked.
pub enum Ask {
    /// How a node is configured.
    Configure(String),
    /// How nodes are configured that say nothing about it.
    Default,
    /// What others are to a node.
    Affiliations(String),
    /// Who has subscribed to it.
    Subscriptions(String),
}

/// What is to be done.
pub enum Change {
    /// A node is configured; nothing is, if the form was given up.
    Configure(String, Option<Form>),
    /// It goes.
    Delete(String),
    /// All of its items go.
    Purge(String),
    /// Others are something else to it.
    Affiliate(String, Vec<(BareJid, Option<Affiliation>)>),
    /// Others have subscribed, or are not subscribed any more.
    Subscribe(String, Vec<(Jid, bool)>),
}

fn subject(pubsub: &Element) -> Result<&Element, StanzaError> {
    let mut subjects = pubsub.elements();
    let subject = subjects.find(|e| e.ns() == ns::PUBSUB_OWNER);
    Ok(subject.ok_or(Condition::BadRequest)?)
}

impl Payload for Ask {
    const NS: &'static str = ns::PUBSUB_OWNER;
    const NAME: &'static str = "pubsub";
    const ANNOUNCED: bool = false;

    fn decode(pubsub: &Element) -> Result<Self, StanzaError> {
        let subject = subject(pubsub)?;
        match subject.local() {
            "configure" => Ok(Self::Configure(request::node(subject)?)),
            "default" => Ok(Self::Default),
            "affiliations" => Ok(Self::Affiliations(request::node(subject)?)),
            "subscriptions" => Ok(Self::Subscriptions(request::node(subject)?)),
            _ => fail(Condition::FeatureNotImplemented),
        }
    }
}

impl Payload for Change {
    const NS: &'static str = ns::PUBSUB_OWNER;
    const NAME: &'static str = "pubsub";
    const ANNOUNCED: bool = false;

    fn decode(pubsub: &Element) -> Result<Self, StanzaError> {
        let subject = subject(pubsub)?;
        let node = request::node(subject)?;
        match subject.local() {
            "configure" => Ok(Self::Configure(node, request::form(subject)?)),
            "delete" => Ok(Self::Delete(node)),
            "purge" => Ok(Self::Purge(node)),
            "affiliations" => {
                let changes = changes(subject, "affiliation", |jid, name| {
                    let affiliation = match name {
                        "none" => None,
                        name => Some(Affiliation::named(name).ok_or_else(error::not_acceptable)?),
                    };
                    Ok((jid.bare(), affiliation))
                });
                Ok(Self::Affiliate(node, changes?))
            }
            "subscriptions" => {
                let changes = changes(subject, "subscription", |jid, name| match name {
                    "subscribed" => Ok((jid, true)),
                    "none" => Ok((jid, false)),
                    _ => Err(error::not_acceptable()),
                });
                Ok(Self::Subscribe(node, changes?))
            }
            _ => fail(Condition::FeatureNotImplemented),
        }
    }
}

/// The children of a list of this name, which is also the name of the attribute that says what they are.
fn changes<T>(
    subject: &Element,
    name: &'static str,
    read: impl Fn(Jid, &str) -> Result<T, StanzaError>,
) -> Result<Vec<T>, StanzaError> {
    let children = subject.elements().filter(|e| e.is(name, ns::PUBSUB_OWNER));
    let one = |child: &Element| {
        let jid = child.attr("jid").and_then(|jid| Jid::new(jid).ok());
        let value = child.attr(name).ok_or(Condition::BadRequest)?;
        read(jid.ok_or_else(|| error::bad_request("invalid-jid"))?, value)
    };
    let changes: Vec<T> = children.map(one).collect::<Result<_, _>>()?;
    match changes.len() <= MAX_CHANGES {
        true => Ok(changes),
        false => fail(Condition::PolicyViolation),
    }
}

fn answer(child: Element) -> Element {
    Element::new("pubsub", ns::PUBSUB_OWNER).with_child(child)
}

/// Answers what only the owner may know.
pub async fn ask(request: Request<Ask>) -> Result<Element, StanzaError> {
    let account = account_of(&request)?;
    let storage = &request.edge.storage;
    let owner = |name| Element::new(name, ns::PUBSUB_OWNER);
    let node = match &request.payload {
        Ask::Default => {
            let form = Config::default().form(FormType::Form).to_element();
            return Ok(answer(owner("default").with_child(form)));
        }
        Ask::Configure(node) | Ask::Affiliations(node) | Ask::Subscriptions(node) => node,
    };
    let found = storage.node(account, node).await.map_err(|e| failure(&e))?;
    let found = found.ok_or_else(error::not_found)?;
    let parties = storage.parties(account, node).await;
    let parties = parties.map_err(|error| failure(&error))?;
    let child = match &request.payload {
        Ask::Affiliations(_) => affiliations(account, owner("affiliations"), &parties),
        Ask::Subscriptions(_) => subscriptions(owner("subscriptions"), &parties),
        _ => owner("configure").with_child(found.config.form(FormType::Form).to_element()),
    };
    Ok(answer(child.with_attr("node", node.as_str())))
}

fn affiliations(account: &BareJid, mut list: Element, parties: &Parties) -> Element {
    let one = |jid: &str, name: &str| {
        Element::new("affiliation", ns::PUBSUB_OWNER)
            .with_attr("jid", jid)
            .with_attr("affiliation", name)
    };
    list.push(one(account.as_str(), "owner"));
    for (jid, affiliation) in &parties.affiliations {
        list.push(one(jid.as_str(), affiliation.name()));
    }
    list
}

fn subscriptions(mut list: Element, parties: &Parties) -> Element {
    for jid in &parties.subscriptions {
        let one = Element::new("subscription", ns::PUBSUB_OWNER)
            .with_attr("jid", jid.as_str())
            .with_attr("subscription", "subscribed");
        list.push(one);
    }
    list
}

/// Does what only the owner may do.
pub async fn change(request: Request<Change>, quotas: Quotas) -> Result<Reply, StanzaError> {
    let account = account_of(&request)?;
    let (edge, storage) = (&*request.edge, &request.edge.storage);
    match &request.payload {
        Change::Configure(_, None) => Ok(Reply::empty()),
        Change::Configure(node, Some(form)) => configure(&request, quotas, node, form).await,
        Change::Delete(node) => {
            // Who is to hear of it is known only while it is there.
            let found = storage.node(account, node).await.map_err(|e| failure(&e))?;
            let config = found.ok_or_else(error::not_found)?.config;
            let events = config
                .notify_delete
                .then(|| event::deleted(account, node, &config));
            let actions = told(edge, account, node, &config, Vec::from_iter(events)).await?;
            let deleted = storage.delete_node(account, node).await;
            deleted.map_err(|error| failure(&error))?;
            Ok(Reply::empty().then_all(actions))
        }
        Change::Purge(node) => {
            let purged = storage.purge_node(account, node).await;
            let purged = purged.map_err(|error| failure(&error))?;
            let config = purged.ok_or_else(error::not_found)?;
            let events = vec![event::purged(account, node, &config)];
            let actions = told(edge, account, node, &config, events).await?;
            Ok(Reply::empty().then_all(actions))
        }
        Change::Affiliate(node, changes) => {
            if changes.iter().any(|(jid, _)| jid == account) {
                return Err(error::not_acceptable());
            }
            let done = storage.affiliate(&quotas, (account, node), changes).await;
            found(done.map_err(|error| failure(&error))?)
        }
        Change::Subscribe(node, changes) => {
            let known = storage.node(account, node).await.map_err(|e| failure(&e))?;
            if known.is_none() {
                return Err(error::not_found());
            }
            for (jid, subscribed) in changes {
                let done = match subscribed {
                    true => storage.subscribe(&quotas, (account, node), jid).await,
                    false => storage.unsubscribe(account, node, jid).await,
                };
                done.map_err(|error| failure(&error))?;
            }
            Ok(Reply::empty())
        }
    }
}

fn found(found: bool) -> Result<Reply, StanzaError> {
    match found {
        true => Ok(Reply::empty()),
        false => Err(error::not_found()),
    }
}

async fn configure(
    request: &Request<Change>,
    quotas: Quotas,
    node: &str,
    form: &Form,
) -> Result<Reply, StanzaError> {
    let (edge, account) = (&*request.edge, &request.account);
    let change = |config: &Config| config.with_known(form, quotas.pubsub_items);
    let done = edge
        .storage
        .configure_node(&quotas, (account, node), change);
    let done = done.await.map_err(|error| failure(&error))?;
    let config = done.ok_or_else(error::not_found)?;
    let config = config.map_err(|_| error::not_acceptable())?;
    let events = config
        .notify_config
        .then(|| event::configured(account, node));
    let actions = told(edge, account, node, &config, Vec::from_iter(events)).await?;
    Ok(Reply::empty().then_all(actions))
}
