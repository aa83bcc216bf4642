//! What clients ask of nodes and do to them (XEP-0060 §6, §7).

use proto::payload::form::{Form, FormType};
use proto::payload::rsm;
use proto::stanza::error::{Condition, StanzaError};
use proto::{Element, Jid, ns};

use super::error;
use super::storage::Wanted;
use crate::hooks::{Payload, fail};

/// The most bytes of the name of a node or an item.
pub const MAX_NAME: usize = 1_023;
/// Ids that one request may name.
const MAX_IDS: usize = 500;

/// What is asked.
pub enum Ask {
    /// Items of a node.
    Items(String, Wanted),
    /// To what the asker has subscribed.
    Subscriptions(Option<String>),
    /// What the asker is to nodes.
    Affiliations(Option<String>),
    /// How nodes are configured that say nothing about it.
    Default,
}

/// What is to be done.
pub enum Change {
    /// An item is published.
    Publish(Publish),
    /// Items are taken out; their going is told if that is wished.
    Retract(String, Vec<String>, bool),
    /// A node is made, which may be given a name by the server.
    Create(Option<String>, Option<Form>),
    /// Somebody wants to hear of a node.
    Subscribe(String, Jid),
    /// Somebody no longer does.
    Unsubscribe(String, Jid),
}

/// An item that is published.
pub struct Publish {
    /// Where.
    pub node: String,
    /// Its id, if it was given one.
    pub id: Option<String>,
    /// What.
    pub payload: Element,
    /// How the node is to be.
    pub options: Option<Form>,
}

/// The name of a node that is named.
pub fn node(element: &Element) -> Result<String, StanzaError> {
    named_node(element)?.ok_or_else(|| error::bad_request("nodeid-required"))
}

fn named_node(element: &Element) -> Result<Option<String>, StanzaError> {
    let node = element.attr("node").filter(|node| !node.is_empty());
    node.map(|node| name(node).map(str::to_owned)).transpose()
}

fn name(name: &str) -> Result<&str, StanzaError> {
    match name.len() <= MAX_NAME {
        true => Ok(name),
        false => fail(Condition::NotAcceptable),
    }
}

/// The form within an element, if there is one that is filled in.
pub fn form(element: &Element) -> Result<Option<Form>, StanzaError> {
    let Some(x) = element.elements().find(|x| x.ns() == ns::DATA_FORM) else {
        return Ok(None);
    };
    let form = Form::parse(x).ok_or(Condition::BadRequest)?;
    Ok((form.kind == FormType::Submit).then_some(form))
}

/// The ids of the items within an element.
fn ids(element: &Element) -> Result<Vec<String>, StanzaError> {
    let items = element
        .elements()
        .filter(|item| item.is("item", ns::PUBSUB));
    let ids = items.map(|item| match item.attr("id") {
        Some(id) => Ok(name(id)?.to_owned()),
        None => Err(error::bad_request("item-required")),
    });
    let ids: Vec<String> = ids.collect::<Result<_, _>>()?;
    match ids.len() <= MAX_IDS {
        true => Ok(ids),
        false => fail(Condition::PolicyViolation),
    }
}

/// The one element that says what is wanted, apart from those that only add to it.
fn subject(pubsub: &Element) -> Result<&Element, StanzaError> {
    let adds = |e: &&Element| matches!(e.local(), "configure" | "options" | "publish-options");
    let mut subjects = pubsub.elements();
    let subject = subjects.find(|e| e.ns() == ns::PUBSUB && !adds(e));
    Ok(subject.ok_or(Condition::BadRequest)?)
}

impl Payload for Ask {
    const NS: &'static str = ns::PUBSUB;
    const NAME: &'static str = "pubsub";

    fn decode(pubsub: &Element) -> Result<Self, StanzaError> {
        let Ok(subject) = subject(pubsub) else {
            return Err(error::unsupported("subscription-options"));
        };
        match subject.local() {
            "items" => items(pubsub, subject),
            "subscriptions" => Ok(Self::Subscriptions(named_node(subject)?)),
            "affiliations" => Ok(Self::Affiliations(named_node(subject)?)),
            "default" => Ok(Self::Default),
            _ => fail(Condition::FeatureNotImplemented),
        }
    }
}

fn items(pubsub: &Element, subject: &Element) -> Result<Ask, StanzaError> {
    let page = rsm::Request::parse(pubsub).map_err(|_| Condition::BadRequest)?;
    if page.before.is_some_and(|before| !before.is_empty()) || page.index.is_some() {
        return Err(error::unsupported("rsm"));
    }
    let most = match subject.attr("max_items") {
        Some(most) => Some(most.parse::<u32>().map_err(|_| Condition::BadRequest)?),
        None => None,
    };
    let most = most.into_iter().chain(page.max).min().map(u64::from);
    let wanted = Wanted {
        ids: ids(subject)?,
        most,
        after: page.after,
    };
    Ok(Ask::Items(node(subject)?, wanted))
}

impl Payload for Change {
    const NS: &'static str = ns::PUBSUB;
    const NAME: &'static str = "pubsub";

    fn decode(pubsub: &Element) -> Result<Self, StanzaError> {
        let Ok(subject) = subject(pubsub) else {
            return Err(error::unsupported("subscription-options"));
        };
        match subject.local() {
            "publish" => publish(pubsub, subject),
            "retract" => {
                let ids = ids(subject)?;
                if ids.is_empty() {
                    return Err(error::bad_request("item-required"));
                }
                let notify = matches!(subject.attr("notify"), Some("1" | "true"));
                Ok(Self::Retract(node(subject)?, ids, notify))
            }
            "create" => {
                let configure = pubsub.child("configure", ns::PUBSUB);
                let form = configure.map(form).transpose()?.flatten();
                Ok(Self::Create(named_node(subject)?, form))
            }
            "subscribe" => Ok(Self::Subscribe(node(subject)?, jid(subject)?)),
            "unsubscribe" => Ok(Self::Unsubscribe(node(subject)?, jid(subject)?)),
            _ => fail(Condition::FeatureNotImplemented),
        }
    }
}

fn jid(subject: &Element) -> Result<Jid, StanzaError> {
    let jid = subject.attr("jid").and_then(|jid| Jid::new(jid).ok());
    jid.ok_or_else(|| error::bad_request("invalid-jid"))
}

fn publish(pubsub: &Element, subject: &Element) -> Result<Change, StanzaError> {
    let node = node(subject)?;
    let mut items = subject
        .elements()
        .filter(|item| item.is("item", ns::PUBSUB));
    let item = match (items.next(), items.next()) {
        (Some(item), None) => item,
        (None, _) => return Err(error::bad_request("item-required")),
        (Some(_), Some(_)) => return Err(error::max_items_exceeded()),
    };
    let mut payloads = item.elements();
    let payload = match (payloads.next(), payloads.next()) {
        (Some(payload), None) => payload.clone(),
        (None, _) => return Err(error::bad_request("payload-required")),
        _ => return Err(error::bad_request("invalid-payload")),
    };
    let id = item.attr("id").filter(|id| !id.is_empty());
    let id = id.map(|id| name(id).map(str::to_owned)).transpose()?;
    let options = pubsub.child("publish-options", ns::PUBSUB);
    let options = options.map(form).transpose()?.flatten();
    let known = |form: &Form| {
        let kind = form.form_type();
        kind.is_none_or(|kind| kind == ns::PUBSUB_PUBLISH_OPTIONS)
    };
    if !options.as_ref().is_none_or(known) {
        return fail(Condition::BadRequest);
    }
    Ok(Change::Publish(Publish {
        node,
        id,
        payload,
        options,
    }))
}
