//! Requests that the server answers by itself, as a service sees them.
//!
//! A handler takes a [`Request`] with a decoded payload and returns what goes into the result, or an
//! error. It never writes a reply: the router does, exactly once for every get and set (ST-73).

use std::marker::PhantomData;
use std::sync::Arc;

use cluster::session::Action;
use futures_util::future::BoxFuture;
use proto::stanza::Stanza;
use proto::stanza::error::StanzaError;
use proto::{BareJid, Element};

use super::command::Commands;
use super::edge::Edge;
use super::scope::{Features, Scope};
use super::sender::Sender;
use super::turn::Turn;

/// A request's verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Asks.
    Get,
    /// Changes.
    Set,
}

/// A payload that the server understands.
pub trait Payload: Sized + Send + 'static {
    /// Its namespace.
    const NS: &'static str;
    /// Its element name.
    const NAME: &'static str;
    /// Disco names the namespace as a feature.
    const ANNOUNCED: bool = true;

    /// Reads the element, whose name and namespace are right.
    fn decode(element: &Element) -> Result<Self, StanzaError>;
}

/// Declares a payload whose element says all by its presence.
#[macro_export]
macro_rules! empty_payload {
    ($(#[$doc:meta])* $name:ident, $ns:expr, $local:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl $crate::hooks::Payload for $name {
            const NS: &'static str = $ns;
            const NAME: &'static str = $local;

            fn decode(_: &proto::Element) -> Result<Self, proto::stanza::error::StanzaError> {
                Ok(Self)
            }
        }
    };
}

/// A request as its handler sees it.
pub struct Request<P> {
    /// What the node's sessions share.
    pub edge: Arc<Edge>,
    /// What all services announce.
    pub features: Arc<Features>,
    /// What clients may run.
    pub commands: Arc<Commands>,
    /// The session that asks.
    pub session: proto::Jid,
    /// The account that asks.
    pub account: BareJid,
    /// Whose data it is about: the asking account, somebody else's, or a domain.
    pub target: BareJid,
    /// Which of the three.
    pub scope: Scope,
    /// The request's own id, to tell a repeated request from a second one.
    pub id: Box<str>,
    /// The payload.
    pub payload: P,
}

/// What a handler answers with.
#[derive(Default)]
pub struct Reply {
    pub(crate) payload: Option<Element>,
    pub(crate) before: Vec<Action>,
    pub(crate) behind: Vec<Action>,
}

impl Reply {
    /// A result around `payload`.
    pub fn new(payload: Element) -> Self {
        Self {
            payload: Some(payload),
            ..Self::default()
        }
    }

    /// A result without content.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Has `action` happen before the result goes out.
    pub fn after(mut self, action: Action) -> Self {
        self.before.push(action);
        self
    }

    /// Has all of `actions` happen once the result is on its way.
    pub fn then_all(mut self, actions: impl IntoIterator<Item = Action>) -> Self {
        self.behind.extend(actions);
        self
    }

    /// Has all of `actions` happen before the result goes out.
    pub fn after_all(mut self, actions: impl IntoIterator<Item = Action>) -> Self {
        self.before.extend(actions);
        self
    }
}

/// What a handler may return.
pub trait Answer {
    /// The answer as a reply.
    fn into_reply(self) -> Reply;
}

/// A result without content.
#[derive(Clone, Copy, Debug)]
pub struct Empty;

impl Answer for Empty {
    fn into_reply(self) -> Reply {
        Reply::empty()
    }
}

impl Answer for Element {
    fn into_reply(self) -> Reply {
        Reply::new(self)
    }
}

impl Answer for Reply {
    fn into_reply(self) -> Reply {
        self
    }
}

/// Hears what is answered to the iqs that the server itself sends in an account's name. A function that takes the
/// same is one, too.
pub trait AnswerHook: Send + Sync + 'static {
    /// An iq without a question has come for `account`. What follows from it?
    fn answered<'a>(
        &'a self,
        sender: Sender<'a>,
        account: &'a BareJid,
        answer: &'a Stanza,
    ) -> Turn<'a, Vec<Action>>;
}

impl<F> AnswerHook for F
where
    F: Send + Sync + 'static,
    F: for<'a> Fn(Sender<'a>, &'a BareJid, &'a Stanza) -> Turn<'a, Vec<Action>>,
{
    fn answered<'a>(
        &'a self,
        sender: Sender<'a>,
        account: &'a BareJid,
        answer: &'a Stanza,
    ) -> Turn<'a, Vec<Action>> {
        self(sender, account, answer)
    }
}

/// Under what a handler is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) verb: Verb,
    pub(crate) scope: Scope,
    pub(crate) ns: &'static str,
    pub(crate) name: &'static str,
}

type Answered = BoxFuture<'static, Result<Reply, StanzaError>>;

/// A handler whose payload type has been forgotten.
#[derive(Clone)]
pub(crate) struct Entry(pub(crate) Arc<dyn Fn(Request<Element>) -> Answered + Send + Sync>);

impl Entry {
    pub(crate) fn new<P, A, H, F>(handler: H) -> Self
    where
        P: Payload,
        A: Answer,
        H: Fn(Request<P>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<A, StanzaError>> + Send + 'static,
    {
        let typed: Typed<P, H> = Typed {
            handler,
            payload: PhantomData,
        };
        Self(Arc::new(move |request| typed.call(request)))
    }
}

struct Typed<P, H> {
    handler: H,
    payload: PhantomData<fn(P)>,
}

impl<P: Payload, H> Typed<P, H> {
    fn call<A, F>(&self, request: Request<Element>) -> Answered
    where
        A: Answer,
        H: Fn(Request<P>) -> F,
        F: Future<Output = Result<A, StanzaError>> + Send + 'static,
    {
        let payload = match P::decode(&request.payload) {
            Ok(payload) => payload,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let answer = (self.handler)(Request {
            payload,
            edge: request.edge,
            features: request.features,
            commands: request.commands,
            session: request.session,
            account: request.account,
            target: request.target,
            scope: request.scope,
            id: request.id,
        });
        Box::pin(async move { answer.await.map(Answer::into_reply) })
    }
}
