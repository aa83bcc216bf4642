//! XEP-0357: Push Notifications. Clients say which services wake them; the shard decides when.
//!
//! A registration belongs to the client that made it, which is named by its resource. The shard is given a
//! hint that there is one, and asks for a push when something important comes while the client is away
//! ([`cluster::session`]); what is sent then is in [`publish`].
//!
//! # Invariants
//!
//! 1. A service learns how many messages came; who wrote and what, only if the operator wants it so.
//! 2. A service that says that a node is gone is not asked again.

mod answer;
mod publish;
mod settings;
mod storage;

use cluster::session::{Action, Relay, Traits};
use proto::stanza::error::{Condition, StanzaError};
use proto::{Element, Jid, ns};

use self::settings::{Push, Quotas};
use self::storage::Registration;
use crate::hooks::{
    Content, EffectPhase, Payload, Phase, Reply, Request, Scope, Service, Setup, Xep, fail, failure,
};

/// The service.
pub const SERVICE: Service = Service::new("push", &[Xep(357, "0.4.1")], register);

/// What the publish options, and the name of a node, may measure.
const MAX_BYTES: usize = 4096;

fn register(setup: &mut Setup<'_>) {
    let told: Push = setup.config();
    let quotas: Quotas = setup.config();
    setup.stored(&storage::STORED);
    setup.iq_set(&[Scope::Account], move |request| enable(request, quotas));
    setup.iq_set(&[Scope::Account], disable);
    setup.iq_answer(answer::answered);
    setup.message(Phase::Follow, answer::revoked);
    setup.classify(classify);
    setup.effects(EffectPhase::Each, publish::Publisher { told });
}

/// Of what is important a service learns at once (IM-105).
fn classify(content: Content, traits: &mut Traits) {
    traits.important = content.converses()
        && (content.text() || content.call || content.invitation)
        && !content.no_store;
}

async fn enable(request: Request<Enable>, quotas: Quotas) -> Result<Reply, StanzaError> {
    let Enable {
        service,
        node,
        options,
    } = request.payload;
    let registration = Registration {
        service,
        node,
        resource: request.session.resource().unwrap_or_default().to_owned(),
        options,
    };
    let storage = &request.edge.storage;
    let enabled = storage
        .enable_push(&quotas, &request.account, &registration)
        .await;
    let left = enabled.map_err(|error| failure(&error))?;
    // The client that had this registration has none any more: the shard need not remember it.
    let left = left.map(|resource| {
        Action::Send(Relay::NoPush {
            account: request.account.clone(),
            resource: resource.into(),
        })
    });
    Ok(Reply::empty()
        .after(Action::PushEnabled(true))
        .after_all(left))
}

/// Other clients may have lost theirs too: of those the shard hears when it wants to wake them.
async fn disable(request: Request<Disable>) -> Result<Reply, StanzaError> {
    let Disable { service, node } = &request.payload;
    let (storage, account) = (&request.edge.storage, &request.account);
    let disabled = storage.disable_push(account, service, node.as_deref());
    disabled.await.map_err(|error| failure(&error))?;
    let left = storage.push_registrations(account).await;
    let left = left.map_err(|error| failure(&error))?;
    let resource = request.session.resource().unwrap_or_default();
    Ok(match left.iter().any(|r| r.resource == resource) {
        true => Reply::empty(),
        false => Reply::empty().after(Action::PushEnabled(false)),
    })
}

/// A service is to wake this client.
pub struct Enable {
    service: Jid,
    node: String,
    options: Option<String>,
}

/// A service, or one node of it, is not to wake anybody any more.
pub struct Disable {
    service: Jid,
    node: Option<String>,
}

fn service(element: &Element) -> Result<Jid, StanzaError> {
    let jid = element.attr("jid").ok_or(Condition::BadRequest)?;
    Ok(Jid::new(jid).map_err(|_| Condition::JidMalformed)?)
}

impl Payload for Enable {
    const NS: &'static str = ns::PUSH;
    const NAME: &'static str = "enable";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        let form = element.child("x", ns::DATA_FORM);
        let options = form.map(|form| form.to_xml(""));
        let node = element.attr("node").unwrap_or_default().to_owned();
        if node.len() + options.as_ref().map_or(0, String::len) > MAX_BYTES {
            return fail(Condition::ResourceConstraint);
        }
        Ok(Self {
            service: service(element)?,
            node,
            options,
        })
    }
}

impl Payload for Disable {
    const NS: &'static str = ns::PUSH;
    const NAME: &'static str = "disable";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        Ok(Self {
            service: service(element)?,
            node: element.attr("node").map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::router::testing::{edge, says, session};

    async fn ask(steps: &[&str]) -> String {
        let edge = edge().await;
        let alice = session(&edge, "alice@example.org/desk");
        let mut last = Vec::new();
        for step in steps {
            last = says(&alice, &format!("<iq type='set' id='1'>{step}</iq>")).await;
        }
        last.join("\n")
    }

    const ENABLE: &str = "<enable xmlns='urn:xmpp:push:0' jid='p@example.org' node='n'/>";

    #[tokio::test]
    async fn im_102_the_shard_is_told_before_the_answer() {
        let answer = ask(&[ENABLE]).await;
        assert!(answer.starts_with("push true\nreply <iq "), "{answer}");
        let other = "<disable xmlns='urn:xmpp:push:0' jid='p@example.org' node='m'/>";
        let answer = ask(&[ENABLE, other]).await;
        assert!(answer.starts_with("reply <iq "), "{answer}");
        let all = "<disable xmlns='urn:xmpp:push:0' jid='p@example.org'/>";
        let answer = ask(&[ENABLE, all]).await;
        assert!(answer.starts_with("push false\nreply <iq "), "{answer}");
    }

    #[tokio::test]
    async fn im_102_a_service_must_be_named() {
        for (request, condition) in [
            ("<enable xmlns='urn:xmpp:push:0'/>", "bad-request"),
            ("<enable xmlns='urn:xmpp:push:0' jid='@'/>", "jid-malformed"),
            ("<disable xmlns='urn:xmpp:push:0' node='n'/>", "bad-request"),
        ] {
            let answer = ask(&[request]).await;
            assert!(answer.contains(condition), "{answer}");
        }
        let long = "n".repeat(super::MAX_BYTES + 1);
        let long = format!("<enable xmlns='urn:xmpp:push:0' jid='p@x' node='{long}'/>");
        assert!(ask(&[&long]).await.contains("resource-constraint"));
    }
}
