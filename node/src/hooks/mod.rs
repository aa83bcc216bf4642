//! What a service attaches to.
//!
//! A [`Service`] is one file in `services`, named in one list there. When the node starts, each service's
//! `register` is called with a [`Setup`] and says which iq payloads it answers, and for whom, and which
//! features it adds to disco. [`iq`] does the rest once, for all: finding the handler, decoding, the
//! refusal of what nobody handles, the reply. [`session`] tells services what happens to sessions.
//!
//! # Invariants
//!
//! 1. A payload has at most one handler for each verb and scope: [`Registry::new`] refuses a second.
//! 2. A feature is announced exactly where something stands behind it.

#![allow(
    clippy::result_large_err,
    reason = "a refusal is rare, and becomes one reply at once"
)]

pub mod iq;
pub mod session;

use std::collections::{BTreeSet, HashMap};

pub use iq::{Answer, Empty, Payload, Reply, Request};
pub use session::{Heard, SessionHook};

/// An extension that a service implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xep(pub u16, pub &'static str);

/// One service: a name, the extensions it implements, and how it attaches itself.
#[derive(Clone, Copy)]
pub struct Service {
    /// Its name, for logs.
    pub name: &'static str,
    /// What it implements.
    pub xeps: &'static [Xep],
    register: fn(&mut Setup<'_>),
}

impl Service {
    /// A service that attaches itself by `register`.
    pub const fn new(
        name: &'static str,
        xeps: &'static [Xep],
        register: fn(&mut Setup<'_>),
    ) -> Self {
        Self {
            name,
            xeps,
            register,
        }
    }
}

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

/// All that services have attached.
#[derive(Default)]
pub struct Registry {
    pub(crate) handlers: HashMap<iq::Key, iq::Entry>,
    features: HashMap<Scope, BTreeSet<&'static str>>,
    sessions: Vec<Box<dyn SessionHook>>,
    clash: Option<Clash>,
}

/// Two services answer the same payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("service {service} handles {namespace} {name}, which another service handles already")]
pub struct Clash {
    /// The later service.
    pub service: &'static str,
    /// The payload's namespace.
    pub namespace: &'static str,
    /// The payload's element name.
    pub name: &'static str,
}

impl Registry {
    /// Lets every service attach itself.
    pub fn new(services: &[Service]) -> Result<Self, Clash> {
        let mut registry = Self::default();
        for service in services {
            (service.register)(&mut Setup {
                registry: &mut registry,
                service: service.name,
            });
        }
        match registry.clash {
            Some(clash) => Err(clash),
            None => Ok(registry),
        }
    }

    /// The features that disco names for a scope, sorted.
    pub fn features(&self, scope: Scope) -> impl Iterator<Item = &'static str> + '_ {
        self.features.get(&scope).into_iter().flatten().copied()
    }

    /// Tells every service that wants to know what happened to a session.
    pub fn heard(&self, heard: &Heard<'_>) {
        for hook in &self.sessions {
            hook.notice(heard);
        }
    }
}

/// Given to each service when the node starts.
pub struct Setup<'a> {
    registry: &'a mut Registry,
    service: &'static str,
}

impl Setup<'_> {
    /// Announces a feature that no payload stands for.
    pub fn feature(&mut self, scopes: &[Scope], feature: &'static str) {
        for scope in scopes {
            self.registry
                .features
                .entry(*scope)
                .or_default()
                .insert(feature);
        }
    }

    /// Hears of what happens to sessions.
    pub fn session(&mut self, hook: impl SessionHook) {
        self.registry.sessions.push(Box::new(hook));
    }

    /// Answers `get` requests that carry a `P`.
    pub fn iq_get<P, A, H, F>(&mut self, scopes: &[Scope], handler: H)
    where
        P: Payload,
        A: Answer,
        H: Fn(Request<P>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<A, proto::stanza::error::StanzaError>> + Send + 'static,
    {
        self.attach::<P>(iq::Verb::Get, scopes, iq::Entry::new(handler));
    }

    /// Answers `set` requests that carry a `P`.
    pub fn iq_set<P, A, H, F>(&mut self, scopes: &[Scope], handler: H)
    where
        P: Payload,
        A: Answer,
        H: Fn(Request<P>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<A, proto::stanza::error::StanzaError>> + Send + 'static,
    {
        self.attach::<P>(iq::Verb::Set, scopes, iq::Entry::new(handler));
    }

    fn attach<P: Payload>(&mut self, verb: iq::Verb, scopes: &[Scope], entry: iq::Entry) {
        for scope in scopes {
            let key = iq::Key {
                verb,
                scope: *scope,
                ns: P::NS,
                name: P::NAME,
            };
            if self.registry.handlers.insert(key, entry.clone()).is_some() {
                self.registry.clash = Some(Clash {
                    service: self.service,
                    namespace: P::NS,
                    name: P::NAME,
                });
            }
        }
        if P::ANNOUNCED {
            self.feature(scopes, P::NS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::stanza::error::StanzaError;

    struct Probe;

    impl Payload for Probe {
        const NS: &'static str = "urn:example:probe";
        const NAME: &'static str = "probe";

        fn decode(_: &proto::Element) -> Result<Self, StanzaError> {
            Ok(Self)
        }
    }

    async fn answer(_: Request<Probe>) -> Result<Empty, StanzaError> {
        Ok(Empty)
    }

    fn register(setup: &mut Setup<'_>) {
        setup.iq_get(&[Scope::Host], answer);
    }

    #[test]
    fn a_payload_is_announced_where_it_is_answered() {
        let registry = Registry::new(&[Service::new("one", &[], register)]).unwrap();
        assert!(registry.features(Scope::Host).eq(["urn:example:probe"]));
        assert_eq!(registry.features(Scope::Account).count(), 0);
    }

    #[test]
    fn a_second_handler_for_a_payload_stops_the_start() {
        let twice = [
            Service::new("one", &[], register),
            Service::new("two", &[], register),
        ];
        assert_eq!(
            Registry::new(&twice).err().map(|clash| clash.service),
            Some("two")
        );
    }
}
