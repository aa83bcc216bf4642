//! All that services have attached, and how they attach it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster::session::Traits;
use proto::payload::form::Form;
use proto::stanza::error::StanzaError;
use proto::{BareJid, Element};

use super::about::AboutHook;
use super::barrier::{Blocking, Open};
use super::command::{Command, Commands};
use super::content::Content;
use super::edge::{Contacts, Edge, NoContacts, NoNodes, Nodes};
use super::effect::EffectHook;
use super::iq::{self, Answer, AnswerHook, Payload, Request};
use super::message::{Classify, Message};
use super::phase::{EffectPhase, Phase};
use super::portable::Portable;
use super::presence::Presence;
use super::scope::{Features, Scope};
use super::session::{Heard, SessionHook};
use super::turn::Hook;
use super::visibility::{Nobody, Visibility};
use crate::config::{Config, Registration, SharedKey, Table, Tables};
use crate::storage::{Schema, Stored};

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

/// What services want of the configuration and the database, which is known before either is read.
#[derive(Clone, Default)]
pub struct Needs {
    /// Their tables of the configuration.
    pub tables: Tables,
    /// All tables of the database.
    pub schema: Schema,
}

/// All that services have attached.
pub struct Registry {
    handlers: HashMap<iq::Key, iq::Entry>,
    /// How many requests there were, by namespace.
    requests: BTreeMap<&'static str, AtomicU64>,
    features: Arc<Features>,
    commands: Arc<Commands>,
    answers: Vec<Box<dyn AnswerHook>>,
    forged: Vec<fn(&Element) -> bool>,
    classifies: Vec<Classify>,
    messages: Vec<(Phase, Box<dyn Hook<Message>>)>,
    presences: Vec<(Phase, Box<dyn Hook<Presence>>)>,
    effects: Vec<(EffectPhase, Box<dyn EffectHook>)>,
    sessions: Vec<Box<dyn SessionHook>>,
    about: Vec<Box<dyn AboutHook>>,
    visibility: Arc<dyn Visibility>,
    blocking: Arc<dyn Blocking>,
    nodes: Arc<dyn Nodes>,
    contacts: Arc<dyn Contacts>,
    portables: Vec<Box<dyn Portable>>,
}

/// Two services claim the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("service {service} handles {claim}, which another service handles already")]
pub struct Clash {
    /// The later service.
    pub service: &'static str,
    /// What it claims.
    pub claim: Claim,
}

/// What only one service can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Claim {
    /// A payload.
    #[error("{namespace} {name}")]
    Payload {
        /// Its namespace.
        namespace: &'static str,
        /// Its element name.
        name: &'static str,
    },
    /// A key of the configuration.
    #[error("the key {section}.{key}")]
    Key {
        /// Its table.
        section: &'static str,
        /// Its name there.
        key: &'static str,
    },
    /// The node of a command.
    #[error("the command {node}")]
    Command {
        /// The node.
        node: &'static str,
    },
}

impl Registry {
    fn empty() -> Self {
        Self {
            handlers: HashMap::new(),
            requests: BTreeMap::new(),
            features: Arc::default(),
            commands: Arc::default(),
            answers: Vec::new(),
            forged: Vec::new(),
            classifies: Vec::new(),
            messages: Vec::new(),
            presences: Vec::new(),
            effects: Vec::new(),
            sessions: Vec::new(),
            about: Vec::new(),
            visibility: Arc::new(Nobody),
            blocking: Arc::new(Open),
            nodes: Arc::new(NoNodes),
            contacts: Arc::new(NoContacts),
            portables: Vec::new(),
        }
    }

    /// What services want of the configuration and the database. They are asked by attaching them to nothing, with the
    /// defaults of their tables.
    pub fn needs(services: &[Service]) -> Needs {
        let (_, needs, _) = Self::attach(services, &Config::default());
        needs
    }

    /// Lets every service attach itself.
    pub fn new(services: &[Service], config: &Config) -> Result<Self, Clash> {
        let (registry, _, clash) = Self::attach(services, config);
        clash.map_or(Ok(registry), Err)
    }

    fn attach(services: &[Service], config: &Config) -> (Self, Needs, Option<Clash>) {
        let mut registry = Self::empty();
        let (mut features, mut commands) = (Features::default(), Commands::default());
        let (mut needs, mut clash) = (Needs::default(), None);
        for service in services {
            (service.register)(&mut Setup {
                registry: &mut registry,
                features: &mut features,
                commands: &mut commands,
                needs: &mut needs,
                clash: &mut clash,
                config,
                service: service.name,
            });
        }
        registry.features = Arc::new(features);
        registry.commands = Arc::new(commands);
        // Those of one phase keep the order of their services.
        registry.messages.sort_by_key(|(phase, _)| *phase);
        registry.presences.sort_by_key(|(phase, _)| *phase);
        registry.effects.sort_by_key(|(phase, _)| *phase);
        (registry, needs, clash)
    }

    /// Who may see whom.
    pub fn visibility(&self) -> &Arc<dyn Visibility> {
        &self.visibility
    }

    /// Who has blocked whom.
    pub fn blocking(&self) -> &Arc<dyn Blocking> {
        &self.blocking
    }

    /// The nodes of accounts.
    pub fn nodes(&self) -> &Arc<dyn Nodes> {
        &self.nodes
    }

    /// The contacts of accounts.
    pub fn contacts(&self) -> &Arc<dyn Contacts> {
        &self.contacts
    }

    /// Who writes what of an account, and reads it back.
    pub fn portables(&self) -> impl Iterator<Item = &dyn Portable> {
        self.portables.iter().map(|portable| &**portable)
    }

    /// The features that disco names.
    pub fn features(&self) -> &Arc<Features> {
        &self.features
    }

    /// What clients may run.
    pub fn commands(&self) -> &Arc<Commands> {
        &self.commands
    }

    /// Who answers a request with this payload. It is counted.
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
        let (key, entry) = handlers.find(|(key, _)| wanted(key))?;
        if let Some(count) = self.requests.get(key.ns) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Some(entry.clone())
    }

    /// How many requests came to this node since it started, by the namespace of what they carry.
    pub fn requests(&self) -> Vec<(&'static str, u64)> {
        let counts = self.requests.iter();
        counts
            .map(|(ns, count)| (*ns, count.load(Ordering::Relaxed)))
            .collect()
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

    /// What services say of an account to a client that has just bound a resource.
    pub async fn about(&self, edge: &Edge, account: &BareJid) -> Vec<Element> {
        let mut about = Vec::new();
        for hook in &self.about {
            about.extend(hook.tell(edge, account).await);
        }
        about
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
    commands: &'a mut Commands,
    needs: &'a mut Needs,
    clash: &'a mut Option<Clash>,
    config: &'a Config,
    service: &'static str,
}

impl Setup<'_> {
    /// The service's own table of the configuration. From now on the file may have it; what it says holds until the
    /// node is started again.
    pub fn config<T: Table>(&mut self) -> T {
        if let Err(SharedKey { section, key }) = self.needs.tables.add::<T>() {
            self.claimed(Claim::Key { section, key });
        }
        self.config.table()
    }

    /// Which strangers may make accounts, and where the page is that explains invitations, if there is one.
    pub fn registration(&self) -> (Registration, Option<String>) {
        (self.config.auth.registration, self.config.invite_page())
    }

    /// Keeps something in the database.
    pub fn stored(&mut self, stored: &Stored) {
        self.needs.schema.add(stored);
    }

    /// Writes what is kept of accounts where they leave the server, and reads it back.
    pub fn portable(&mut self, portable: impl Portable) {
        self.registry.portables.push(Box::new(portable));
    }

    /// Says who may see whom, which one service does.
    pub fn visibility(&mut self, visibility: impl Visibility) {
        self.registry.visibility = Arc::new(visibility);
    }

    /// Says who has blocked whom, which one service does.
    pub fn blocking(&mut self, blocking: impl Blocking) {
        self.registry.blocking = Arc::new(blocking);
    }

    /// Knows the nodes of accounts, which one service does.
    pub fn nodes(&mut self, nodes: impl Nodes) {
        self.registry.nodes = Arc::new(nodes);
    }

    /// Keeps the contacts of accounts, which one service does.
    pub fn contacts(&mut self, contacts: impl Contacts) {
        self.registry.contacts = Arc::new(contacts);
    }

    /// Says what else somebody is (XEP-0030 §3.1).
    pub fn identity(&mut self, scope: Scope, category: &'static str, kind: &'static str) {
        self.features.identify(scope, category, kind);
    }

    /// Tells more about somebody, in a form (XEP-0128).
    pub fn form(&mut self, scope: Scope, form: Form) {
        self.features.describe(scope, form);
    }

    /// Offers a command at the server.
    pub fn command(&mut self, command: Command) {
        let node = command.node;
        if !self.commands.add(command) {
            self.claimed(Claim::Command { node });
        }
    }

    fn claimed(&mut self, claim: Claim) {
        *self.clash = Some(Clash {
            service: self.service,
            claim,
        });
    }

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

    /// Has a turn, on its sender's node, with each message that is about to go to an account of ours.
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

    /// Says something of an account to a client that binds a resource along with its login.
    pub fn about(&mut self, hook: impl AboutHook) {
        self.registry.about.push(Box::new(hook));
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
        self.registry.requests.entry(P::NS).or_default();
        for scope in scopes {
            let key = iq::Key {
                verb,
                scope: *scope,
                ns: P::NS,
                name: P::NAME,
            };
            if self.registry.handlers.insert(key, entry.clone()).is_some() {
                self.claimed(Claim::Payload {
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
mod tests;
