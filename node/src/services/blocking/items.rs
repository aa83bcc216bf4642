//! Lists of addresses, as clients write and read them.

use std::collections::HashSet;

use proto::stanza::error::{Condition, StanzaError};
use proto::{Element, Jid, ns};

use super::report::Report;
use crate::hooks::{Payload, fail};

/// The items of a request.
#[derive(Debug, Default, PartialEq)]
pub struct Items {
    /// The addresses.
    pub jids: Vec<Jid>,
    /// What is said about them.
    pub reports: Vec<Report>,
}

/// Addresses to be blocked: at least one.
pub struct Block(pub Items);

/// Addresses to be blocked no longer; none = all.
pub struct Unblock(pub Items);

impl Payload for Block {
    const NS: &'static str = ns::BLOCKING;
    const NAME: &'static str = "block";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        let items = Items::decode(element)?;
        match items.jids.is_empty() {
            true => fail(Condition::BadRequest),
            false => Ok(Self(items)),
        }
    }
}

impl Payload for Unblock {
    const NS: &'static str = ns::BLOCKING;
    const NAME: &'static str = "unblock";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        Items::decode(element).map(Self)
    }
}

impl Items {
    /// One that is no address spoils all of them: nothing has happened then (IM-66).
    fn decode(element: &Element) -> Result<Self, StanzaError> {
        let (mut items, mut known) = (Self::default(), HashSet::new());
        for item in element
            .elements()
            .filter(|item| item.is("item", ns::BLOCKING))
        {
            let jid = item.attr("jid").ok_or(Condition::BadRequest)?;
            let jid = Jid::new(jid).map_err(|_| Condition::JidMalformed)?;
            items.reports.extend(Report::of(item, &jid));
            if known.insert(jid.clone()) {
                items.jids.push(jid);
            }
        }
        Ok(items)
    }
}

/// The addresses as the children of an element of this name.
pub fn element(name: &'static str, jids: &[Jid]) -> Element {
    let mut element = Element::new(name, ns::BLOCKING);
    for jid in jids {
        element.push(item(jid));
    }
    element
}

/// One of them.
pub fn item(jid: &Jid) -> Element {
    Element::new("item", ns::BLOCKING).with_attr("jid", jid.as_str())
}

/// A set of addresses, to look others up in.
pub fn within<'a>(jids: impl Iterator<Item = &'a Jid>) -> HashSet<&'a str> {
    jids.map(Jid::as_str).collect()
}
