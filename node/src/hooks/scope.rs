//! Whom a request addresses, and what is announced there.

use std::collections::{BTreeSet, HashMap};

use proto::payload::caps;
use proto::payload::disco::{self, Identity};
use proto::payload::form::Form;
use proto::{Element, ns};

/// Names this server as a piece of software where it names what it can do (XEP-0115).
pub const CAPS_NODE: &str = "urn:x-holdfast:server";
/// How what it can do is hashed.
const HASH: &str = "sha-1";

/// Whom an iq addresses that the server answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The server: a domain of ours.
    Host,
    /// The sender's own account: its bare JID, or no address at all.
    Account,
    /// The account of somebody else.
    Contact,
}

/// What disco names, in the order of the names.
#[derive(Debug, Default)]
pub struct Features {
    names: HashMap<Scope, BTreeSet<&'static str>>,
    identities: HashMap<Scope, BTreeSet<(&'static str, &'static str)>>,
    forms: HashMap<Scope, Vec<Form>>,
}

impl Features {
    /// The features of a scope, sorted.
    pub fn of(&self, scope: Scope) -> impl Iterator<Item = &'static str> + '_ {
        self.names.get(&scope).into_iter().flatten().copied()
    }

    /// One feature more.
    pub(super) fn announce(&mut self, scope: Scope, feature: &'static str) {
        self.names.entry(scope).or_default().insert(feature);
    }

    /// One identity more.
    pub(super) fn identify(&mut self, scope: Scope, category: &'static str, kind: &'static str) {
        self.identities
            .entry(scope)
            .or_default()
            .insert((category, kind));
    }

    /// One form more.
    pub(super) fn describe(&mut self, scope: Scope, form: Form) {
        self.forms.entry(scope).or_default().push(form);
    }

    /// The answer to a question for information about a scope: whoever has it asked of an account may see that.
    pub fn info(&self, scope: Scope, node: Option<&str>) -> Element {
        let scope = match scope {
            Scope::Host => Scope::Host,
            Scope::Account | Scope::Contact => Scope::Account,
        };
        let mut identities = vec![match scope {
            Scope::Host => Identity::new("server", "im", "Holdfast"),
            Scope::Account | Scope::Contact => Identity::new("account", "registered", ""),
        }];
        let others = self.identities.get(&scope).into_iter().flatten();
        identities.extend(others.map(|(category, kind)| Identity::new(category, kind, "")));
        let forms = self.forms.get(&scope).map_or(&[][..], Vec::as_slice);
        disco::info(node, &identities, self.of(scope), forms)
    }

    /// What the server says of itself in the features of a stream (DI-3). It is a hash of what it answers when it is
    /// asked, and nothing if that had two forms of one type.
    pub fn caps(&self) -> Option<Element> {
        let ver = self.ver()?;
        let caps = Element::new("c", ns::CAPS).with_attr("hash", HASH);
        Some(caps.with_attr("node", CAPS_NODE).with_attr("ver", ver))
    }

    /// The node asks for what those features named (DI-2).
    pub fn is_caps(&self, node: &str) -> bool {
        let ver = node
            .strip_prefix(CAPS_NODE)
            .and_then(|rest| rest.strip_prefix('#'));
        ver.is_some_and(|ver| self.ver().as_deref() == Some(ver))
    }

    fn ver(&self) -> Option<String> {
        caps::hash(HASH, &self.info(Scope::Host, None))
    }
}

#[cfg(test)]
mod tests {
    use proto::payload::form::FormType;

    use super::*;

    fn of(features: &[&'static str]) -> Features {
        let mut all = Features::default();
        for feature in features {
            all.announce(Scope::Host, feature);
        }
        all
    }

    #[test]
    fn di_3_the_hash_is_that_of_what_is_answered() {
        let features = of(&[ns::PING, ns::DISCO_ITEMS, ns::DISCO_INFO]);
        let caps = features.caps().unwrap();
        let expect = "dFiTx46HT2ulsIw18F8x98qQUBA=";
        assert_eq!(caps.attr("ver"), Some(expect));
        assert_eq!(caps.attr("hash"), Some("sha-1"));
        assert!(features.is_caps(&format!("{CAPS_NODE}#{expect}")));
        for other in [expect, CAPS_NODE, "urn:x-holdfast:server#", "#"] {
            assert!(!features.is_caps(other), "{other}");
        }
    }

    #[test]
    fn di_3_a_form_counts_too() {
        let mut features = of(&[ns::PING]);
        let before = features.caps();
        features.describe(Scope::Host, Form::new(FormType::Result, "urn:x"));
        assert_ne!(features.caps(), before);
        features.describe(Scope::Host, Form::new(FormType::Result, "urn:x"));
        assert_eq!(features.caps(), None);
    }
}
