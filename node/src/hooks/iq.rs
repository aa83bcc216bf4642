//! Requests that the server answers by itself: from the stanza to the handler and back to the reply.
//!
//! A handler takes a [`Request`] with a decoded payload and returns what goes into the result, or an
//! error. It never writes a reply: every get and set is answered here, exactly once (ST-73).

use std::marker::PhantomData;
use std::sync::Arc;

use cluster::session::Action;
use futures_util::future::BoxFuture;
use proto::limit::WRITTEN_BYTES;
use proto::stanza::error::{Condition, StanzaError};
use proto::stanza::{Header, IqType, Kind, Stanza};
use proto::{BareJid, Element};

use super::Scope;
use crate::router::{Edge, SessionContext, refuse};

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
    payload: Option<Element>,
    before: Vec<Action>,
    behind: Vec<Action>,
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
pub(crate) struct Entry(Arc<dyn Fn(Request<Element>) -> Answered + Send + Sync>);

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
            session: request.session,
            account: request.account,
            target: request.target,
            scope: request.scope,
            id: request.id,
        });
        Box::pin(async move { answer.await.map(Answer::into_reply) })
    }
}

/// Answers an iq to the server, to the sender's own account or to that of somebody else.
///
/// `target` is the bare JID or the domain; that it exists has been checked. Results and errors are
/// answers to our own requests, such as roster pushes, and end here (IM-23).
pub async fn dispatch(
    ctx: &SessionContext,
    scope: Scope,
    target: BareJid,
    stanza: Stanza,
) -> Vec<Action> {
    let Stanza { header, payload } = stanza;
    let verb = match header.kind {
        Kind::Iq(IqType::Get) => Verb::Get,
        Kind::Iq(IqType::Set) => Verb::Set,
        _ => return Vec::new(),
    };
    match answer(ctx, scope, target, verb, &header, payload).await {
        Ok(reply) => finish(&header, reply).unwrap_or_else(|error| refuse(&header, &error)),
        Err(error) => refuse(&header, &error),
    }
}

async fn answer(
    ctx: &SessionContext,
    scope: Scope,
    target: BareJid,
    verb: Verb,
    header: &Header,
    mut payload: Vec<Element>,
) -> Result<Reply, StanzaError> {
    let (Some(element), true) = (payload.pop(), payload.is_empty()) else {
        return Err(StanzaError::new(Condition::BadRequest));
    };
    let Some(entry) = find(ctx, verb, scope, &element) else {
        return Err(StanzaError::new(Condition::ServiceUnavailable));
    };
    (entry.0)(Request {
        edge: ctx.edge.clone(),
        session: ctx.session.clone(),
        account: ctx.account.clone(),
        target,
        scope,
        id: header.id.clone().unwrap_or_default(),
        payload: element,
    })
    .await
}

fn find(ctx: &SessionContext, verb: Verb, scope: Scope, element: &Element) -> Option<Entry> {
    // The key borrows for ever, the request does not: a payload is found among the few of its verb.
    let handlers = &ctx.edge.services.handlers;
    let wanted = |key: &Key| key.verb == verb && key.scope == scope && element.is(key.name, key.ns);
    handlers
        .iter()
        .find(|(key, _)| wanted(key))
        .map(|(_, entry)| entry.clone())
}

/// The reply, between what comes before it and what comes behind; or, if it is larger than a stanza may be, a
/// refusal and nothing else.
fn finish(request: &Header, reply: Reply) -> Result<Vec<Action>, StanzaError> {
    let mut result = Stanza::result(request);
    result.payload.extend(reply.payload);
    let result = result.pack();
    if result.size() > WRITTEN_BYTES {
        return Err(StanzaError::new(Condition::ResourceConstraint));
    }
    let mut actions = reply.before;
    actions.push(Action::Reply(result));
    actions.extend(reply.behind);
    Ok(actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_no_larger_than_a_stanza() {
        let request = Header {
            id: Some("1".into()),
            ..Header::new(Kind::Iq(IqType::Get))
        };
        let answered = |text: usize| {
            let payload = Element::new("x", "y").with_text(&"z".repeat(text));
            finish(&request, Reply::new(payload).after(Action::Interested))
        };
        let overhead = match &answered(0).unwrap()[..] {
            // An empty element is written in short.
            [Action::Interested, Action::Reply(packet)] => packet.size() + "</x>".len() - 1,
            other => panic!("{other:?}"),
        };
        for fits in [WRITTEN_BYTES - 1, WRITTEN_BYTES] {
            assert!(answered(fits - overhead).is_ok());
        }
        let refused = answered(WRITTEN_BYTES + 1 - overhead).unwrap_err();
        assert_eq!(refused, StanzaError::new(Condition::ResourceConstraint));
    }
}
