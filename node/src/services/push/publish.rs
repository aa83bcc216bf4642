//! What a service is sent when it is to wake a client (IM-103).

use cluster::session::{Completed, Effect, Relay};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::payload::form::{Form, FormType};
use proto::stanza::{IqType, Kind, Packet, Stanza};
use proto::{BareJid, Element, ns};

use super::settings::Push;
use super::storage::Registration;
use crate::hooks::{Edge, EffectHook, Work, followed_by, permission};
use crate::storage::StorageError;

/// The form that sums up what came.
const SUMMARY: &str = "urn:xmpp:push:summary";
/// Characters of a body that a service is told of, at most.
const MAX_BODY: usize = 256;

/// Begins the ids of our requests to services.
const ID: &str = "push-";

/// Wakes clients.
pub struct Publisher {
    /// What services learn.
    pub told: Push,
}

impl EffectHook for Publisher {
    fn takes(&self, effect: &Effect) -> bool {
        matches!(effect, Effect::Push { .. })
    }

    fn perform<'a>(
        &'a self,
        work: Work<'a>,
        done: &'a mut Vec<Completed>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        async move {
            for effect in work.effects {
                if let Effect::Push {
                    account,
                    resource,
                    count,
                    message,
                } = &*effect.effect
                {
                    let relays = publish(
                        work.edge,
                        self.told,
                        account,
                        resource,
                        *count,
                        message.as_ref(),
                    )
                    .await?;
                    done.push(followed_by(effect, relays));
                }
            }
            Ok(())
        }
        .boxed()
    }
}

/// One request for each service that wakes the client, or word that there is none.
async fn publish(
    edge: &Edge,
    told: Push,
    account: &BareJid,
    resource: &str,
    count: u32,
    message: Option<&Packet>,
) -> Result<Vec<Relay>, StorageError> {
    let mut registrations = edge.storage.push_registrations(account).await?;
    registrations.retain(|registration| registration.resource == resource);
    if registrations.is_empty() {
        return Ok(vec![Relay::NoPush {
            account: account.clone(),
            resource: resource.into(),
        }]);
    }
    let summary = summary(told, count, message);
    // Other servers cannot be reached yet; their registrations are kept until they can.
    let near = registrations
        .iter()
        .filter(|r| edge.serves(r.service.domain()));
    let mut requests = Vec::new();
    for registration in near {
        let (packet, service) = (
            request(account, registration, &summary),
            &registration.service,
        );
        // A user who gives a stranger's address as a service's may ask that stranger no more than otherwise.
        requests.push(permission::request(edge, account, &service.bare(), packet).await?);
    }
    Ok(requests)
}

fn summary(told: Push, count: u32, message: Option<&Packet>) -> Form {
    let mut form = Form::new(FormType::Submit, SUMMARY).with("message-count", [count.to_string()]);
    let Some(message) = message else {
        return form;
    };
    let from = message.header.from.as_ref().filter(|_| told.with_sender);
    if let Some(from) = from {
        form = form.with("last-message-sender", [from.as_str()]);
    }
    let stanza = message.unpack().ok().filter(|_| told.with_body);
    let body = stanza.and_then(|stanza| stanza.child("body", ns::CLIENT).map(Element::text));
    match body {
        Some(body) => {
            let start: String = body.chars().take(MAX_BODY).collect();
            form.with("last-message-body", [start])
        }
        None => form,
    }
}

fn request(account: &BareJid, registration: &Registration, summary: &Form) -> Packet {
    let notification = Element::new("notification", ns::PUSH).with_child(summary.to_element());
    let mut publish = Element::new("publish", ns::PUBSUB);
    if !registration.node.is_empty() {
        publish.set_attr("node", &registration.node);
    }
    let item = Element::new("item", ns::PUBSUB).with_child(notification);
    let mut pubsub = Element::new("pubsub", ns::PUBSUB).with_child(publish.with_child(item));
    let options = registration.options.as_deref();
    if let Some(options) = options.and_then(|xml| Element::parse(xml.as_bytes()).ok()) {
        pubsub.push(Element::new("publish-options", ns::PUBSUB).with_child(options));
    }
    Stanza::new(Kind::Iq(IqType::Set))
        .with_from(account.clone().into())
        .with_to(registration.service.clone())
        .with_id(id(registration))
        .with_child(pubsub)
        .pack()
}

/// The id of requests about a registration: a service's error names it again.
pub(super) fn id(registration: &Registration) -> String {
    // FNV-1a: the same on every node and in every version. It guards nothing, as only the service itself
    // is believed.
    let hash = registration
        .node
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{ID}{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::testing::{bare, edge, says, session, xml};
    use crate::services::roster::settings::Quotas;
    use crate::services::roster::storage::{Change, RosterItem, Subscription};
    use proto::stanza::MessageType;

    async fn pushed(told: Push, options: &str) -> Vec<String> {
        let edge = edge().await;
        let alice = session(&edge, "alice@example.org/desk");
        for service in ["push@example.org/app", "push@elsewhere.example"] {
            let enable = format!(
                "<iq type='set' id='1'><enable xmlns='urn:xmpp:push:0' jid='{service}' node='n'>{options}</enable></iq>"
            );
            says(&alice, &enable).await;
        }
        let body = Element::new("body", ns::CLIENT).with_text("secret");
        let message = Stanza::new(Kind::Message(MessageType::Chat)).with_child(body);
        let message = message
            .with_from("bob@example.org/x".parse().unwrap())
            .pack();
        let account = bare("alice@example.org");
        let relays = publish(&edge, told, &account, "desk", 3, Some(&message)).await;
        let packet = |relay| match relay {
            Relay::Iq { packet, .. } => xml(&packet),
            other => panic!("{other:?}"),
        };
        relays.unwrap().into_iter().map(packet).collect()
    }

    #[tokio::test]
    async fn im_103_a_service_learns_the_number_and_no_more() {
        let form = "<x xmlns='jabber:x:data' type='submit'><field var='secret'><value>s</value></field></x>";
        let pushed = pushed(Push::default(), form).await;
        let [request] = &pushed[..] else {
            panic!("{pushed:?}")
        };
        let head = "<iq to='push@example.org/app' from='alice@example.org' id='push-";
        assert!(request.starts_with(head), "{request}");
        for part in [
            "<publish node='n'><item><notification xmlns='urn:xmpp:push:0'>",
            "<value>urn:xmpp:push:summary</value>",
            "<field var='message-count'><value>3</value></field>",
            "<publish-options><x xmlns='jabber:x:data' type='submit'><field var='secret'>",
        ] {
            assert!(request.contains(part), "{part}: {request}");
        }
        for private in ["bob@", ">secret<"] {
            assert!(!request.contains(private), "{request}");
        }
    }

    #[tokio::test]
    async fn im_103_sender_and_body_are_told_if_the_operator_wants_it() {
        let all = Push {
            with_sender: true,
            with_body: true,
        };
        let request = pushed(all, "").await.concat();
        for told in ["<value>bob@example.org/x</value>", "<value>secret</value>"] {
            assert!(request.contains(told), "{request}");
        }
        assert!(!request.contains("publish-options"), "{request}");
    }

    /// Whether the request to this service may pass into the session that has its address.
    async fn passes(service: &str, befriended: bool) -> bool {
        let edge = edge().await;
        let alice = session(&edge, "alice@example.org/desk");
        let enable =
            format!("<iq type='set' id='1'><enable xmlns='urn:xmpp:push:0' jid='{service}'/></iq>");
        says(&alice, &enable).await;
        if befriended {
            let (bob, alice) = (bare("bob@example.org"), bare("alice@example.org"));
            let seen = RosterItem {
                listed: true,
                subscription: Subscription::From,
                ..RosterItem::new(alice.clone())
            };
            let granted =
                edge.storage
                    .update_contact(Quotas::default(), &bob, &alice, None, |_| Change::Put(seen));
            granted.await.unwrap();
        }
        let relays = publish(
            &edge,
            Push::default(),
            &bare("alice@example.org"),
            "desk",
            1,
            None,
        )
        .await;
        match &relays.unwrap()[..] {
            [Relay::Iq { permitted, .. }] => *permitted,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn im_d_a_push_reaches_no_session_that_its_account_may_not_ask() {
        assert!(!passes("bob@example.org/on", false).await);
        assert!(passes("bob@example.org/on", true).await);
        assert!(passes("alice@example.org/other", false).await);
    }

    #[tokio::test]
    async fn who_has_no_registration_is_reported() {
        let relays = publish(
            &*edge().await,
            Push::default(),
            &bare("alice@example.org"),
            "desk",
            1,
            None,
        )
        .await;
        let word = Relay::NoPush {
            account: bare("alice@example.org"),
            resource: "desk".into(),
        };
        assert_eq!(relays.unwrap(), [word]);
    }
}
