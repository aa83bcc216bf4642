//! A service that nobody has written yet attaches itself through the door, and needs nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cluster::session::Traits;
use proto::Element;
use proto::stanza::error::{Condition, StanzaError};

use super::testing::{says, session, with_service};
use crate::empty_payload;
use crate::hooks::{
    Content, Hook, Message, Phase, Presence, Request, Scope, Sender, Service, Setup, Turn, at_once,
    fail,
};

const NS: &str = "urn:example:postage";
const SERVICE: Service = Service::new("postage", &[], register);

/// Messages cost a stamp, of which there are two; headlines are free.
#[derive(Default)]
struct Stamps(AtomicU32);

fn register(setup: &mut Setup<'_>) {
    let stamps = Arc::new(Stamps::default());
    setup.message(Phase::Limit, Counter(stamps.clone()));
    setup.iq_get(&[Scope::Account], move |request| {
        count(stamps.clone(), request)
    });
    setup.forged(|child| child.is("postmark", NS));
    setup.classify(classify);
    setup.presence(Phase::Follow, greet);
}

empty_payload! {
    /// How many stamps are used?
    Count, NS, "count"
}

async fn count(stamps: Arc<Stamps>, _: Request<Count>) -> Result<Element, StanzaError> {
    let used = stamps.0.load(Ordering::Relaxed).to_string();
    Ok(Element::new("count", NS).with_text(&used))
}

struct Counter(Arc<Stamps>);

impl Hook<Message> for Counter {
    fn turn<'a>(
        &'a self,
        _: Sender<'a>,
        message: &'a mut Message,
    ) -> Turn<'a, Result<(), StanzaError>> {
        if message.traits.important && self.0.0.fetch_add(1, Ordering::Relaxed) >= 2 {
            return at_once(fail(Condition::PolicyViolation));
        }
        at_once(Ok(()))
    }
}

fn classify(content: Content, traits: &mut Traits) {
    traits.important |= content.chat_state;
}

fn greet<'a>(_: Sender<'a>, presence: &'a mut Presence) -> Turn<'a, Result<(), StanzaError>> {
    presence.stanza.payload.push(Element::new("greeting", NS));
    at_once(Ok(()))
}

#[tokio::test]
async fn a_new_service_has_its_say_about_messages_presence_and_requests() {
    let node = with_service(SERVICE).await;
    let alice = session(&node, "alice@example.org/desk");
    let message = format!(
        "<message to='bob@example.org' type='chat' id='1'><postmark xmlns='{NS}'/>\
         <active xmlns='http://jabber.org/protocol/chatstates'/></message>"
    );
    for fits in [true, true, false] {
        let said = says(&alice, &message).await.concat();
        assert_eq!(said.starts_with("message "), fits, "{said}");
        assert!(!said.contains("postmark"), "{said}");
    }
    let count = format!("<iq type='get' id='2'><count xmlns='{NS}'/></iq>");
    let said = says(&alice, &count).await.concat();
    assert!(said.contains(">3</count>"), "{said}");
    let said = says(&alice, "<presence/>").await.concat();
    assert!(said.contains("<greeting "), "{said}");
    assert!(
        node.services
            .features()
            .of(Scope::Account)
            .any(|feature| feature == NS)
    );
}
