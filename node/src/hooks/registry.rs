//! All that services have attached, and how they attach it.

use std::collections::HashMap;
use std::sync::Arc;

use cluster::session::Traits;
use proto::Element;
use proto::stanza::error::StanzaError;

use super::content::Content;
use super::effect::EffectHook;
use super::iq::{self, Answer, AnswerHook, Payload, Request};
use super::message::{Classify, Message};
use super::phase::{EffectPhase, Phase};
use super::presence::Presence;
use super::scope::{Features, Scope};
use super::session::{Heard, SessionHook};
use super::turn::Hook;

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

/// All that services have attached.
#[derive(Default)]
pub struct Registry {
    handlers: HashMap<iq::Key, iq::Entry>,
    features: Arc<Features>,
    answers: Vec<Box<dyn AnswerHook>>,
    forged: Vec<fn(&Element) -> bool>,
    classifies: Vec<Classify>,
    messages: Vec<(Phase, Box<dyn Hook<Message>>)>,
    presences: Vec<(Phase, Box<dyn Hook<Presence>>)>,
    effects: Vec<(EffectPhase, Box<dyn EffectHook>)>,
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
        let mut features = Features::default();
        for service in services {
            (service.register)(&mut Setup {
                registry: &mut registry,
                features: &mut features,
                service: service.name,
            });
        }
        registry.features = Arc::new(features);
        // Those of one phase keep the order of their services.
        registry.messages.sort_by_key(|(phase, _)| *phase);
        registry.presences.sort_by_key(|(phase, _)| *phase);
        registry.effects.sort_by_key(|(phase, _)| *phase);
        match registry.clash {
            Some(clash) => Err(clash),
            None => Ok(registry),
        }
    }

    /// The features that disco names.
    pub fn features(&self) -> &Arc<Features> {
        &self.features
    }

    /// Who answers a payload.
    pub(crate) fn handler(
        &self,
        verb: iq::Verb,
        scope: Scope,
        element: &Element,
    ) -> Option<iq::Entry> {
        // The key borrows for ever, the request does not: a payload is found among the few of its verb.
        let wanted =
            |key: &iq::Key| key.verb == verb && key.scope == scope && element.is(key.name, key.ns);
        let mut handlers = self.handlers.iter();
        let found = handlers.find(|(key, _)| wanted(key));
        found.map(|(_, entry)| entry.clone())
    }

    /// Who hears what is answered to an account's iqs.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &dyn AnswerHook> {
        self.answers.iter().map(|hook| &**hook)
    }

    /// A service says that no client may say this.
    pub(crate) fn is_forged(&self, child: &Element) -> bool {
        self.forged.iter().any(|is_forged| is_forged(child))
    }

    /// What services say that a message may be used for.
    pub(crate) fn traits(&self, content: Content) -> Traits {
        let mut traits = Traits::default();
        for classify in &self.classifies {
            classify(content, &mut traits);
        }
        traits
    }

    /// Who has a turn with a message, in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &dyn Hook<Message>> {
        self.messages.iter().map(|(_, hook)| &**hook)
    }

    /// Who has a turn with presence, in order.
    pub(crate) fn presences(&self) -> impl Iterator<Item = &dyn Hook<Presence>> {
        self.presences.iter().map(|(_, hook)| &**hook)
    }

    /// Who carries out effects, in order.
    pub(crate) fn effects(&self) -> impl Iterator<Item = (EffectPhase, &dyn EffectHook)> {
        self.effects.iter().map(|(phase, hook)| (*phase, &**hook))
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
    features: &'a mut Features,
    service: &'static str,
}

impl Setup<'_> {
    /// Announces a feature that no payload stands for.
    pub fn feature(&mut self, scopes: &[Scope], feature: &'static str) {
        for scope in scopes {
            self.features.announce(*scope, feature);
        }
    }

    /// Has children of messages and presence taken out that only the server may say.
    pub fn forged(&mut self, is_forged: fn(&Element) -> bool) {
        self.registry.forged.push(is_forged);
    }

    /// Says what messages may be used for besides delivery.
    pub fn classify(&mut self, classify: Classify) {
        self.registry.classifies.push(classify);
    }

    /// Has a turn with each message.
    pub fn message(&mut self, phase: Phase, hook: impl Hook<Message>) {
        self.registry.messages.push((phase, Box::new(hook)));
    }

    /// Has a turn with each broadcast and each request of presence.
    pub fn presence(&mut self, phase: Phase, hook: impl Hook<Presence>) {
        self.registry.presences.push((phase, Box::new(hook)));
    }

    /// Carries out effects of shards.
    pub fn effects(&mut self, phase: EffectPhase, hook: impl EffectHook) {
        self.registry.effects.push((phase, Box::new(hook)));
    }

    /// Hears what is answered to the iqs of accounts.
    pub fn iq_answer(&mut self, hook: impl AnswerHook) {
        self.registry.answers.push(Box::new(hook));
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
        F: Future<Output = Result<A, StanzaError>> + Send + 'static,
    {
        self.attach::<P>(iq::Verb::Get, scopes, iq::Entry::new(handler));
    }

    /// Answers `set` requests that carry a `P`.
    pub fn iq_set<P, A, H, F>(&mut self, scopes: &[Scope], handler: H)
    where
        P: Payload,
        A: Answer,
        H: Fn(Request<P>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<A, StanzaError>> + Send + 'static,
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
    use crate::hooks::{Empty, Request};

    struct Probe;

    impl Payload for Probe {
        const NS: &'static str = "urn:example:probe";
        const NAME: &'static str = "probe";

        fn decode(_: &Element) -> Result<Self, StanzaError> {
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
        assert!(
            registry
                .features()
                .of(Scope::Host)
                .eq(["urn:example:probe"])
        );
        assert_eq!(registry.features().of(Scope::Account).count(), 0);
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
