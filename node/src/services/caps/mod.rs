//! XEP-0115: Entity Capabilities, as far as they say which nodes a client wants to hear of (XEP-0163 §4.3).
//!
//! A presence names a hash of what its client can do. What is behind a hash is kept in the database, so that every node
//! knows it; a client with one that is not known is asked, once for each connection. What it answers is believed of the
//! hash only if it has that hash, and else of its session alone (DI-3).

mod storage;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cluster::session::{Action, MOST_INTEREST_BYTES, MOST_INTERESTS};
use proto::payload::caps::{self, Caps};
use proto::stanza::error::StanzaError;
use proto::stanza::{IqType, Kind, PresenceType, Stanza};
use proto::{BareJid, Element, ns};

use crate::hooks::{
    AnswerHook, Edge, Hook, Phase, Presence, Sender, Service, Setup, Turn, Xep, at_once, later,
};

/// The service.
pub const SERVICE: Service = Service::new("caps", &[Xep(115, "1.6.0")], register);

/// Begins the ids of our questions.
const ID: &str = "caps:";
/// Ends the feature that says that a client wants to hear of a node.
const NOTIFY: &str = "+notify";
/// What a hash may measure, with its function. The longest is that of SHA-512.
const MAX_KEY: usize = 128;
/// Hashes that a node has in memory.
const MAX_KNOWN: usize = 1_000;

fn register(setup: &mut Setup<'_>) {
    setup.stored(&storage::STORED);
    let known = Known::default();
    setup.presence(Phase::Follow, Interests(known.clone()));
    setup.iq_answer(Answers(known));
}

/// The nodes that a client wants to hear of.
type Wanted = Arc<[Box<str>]>;

/// What is behind hashes. All sessions of a node share it, which is what it is for; the lock is held for no longer than
/// it takes to look.
#[derive(Clone, Default)]
struct Known(Arc<Mutex<HashMap<String, Wanted>>>);

impl Known {
    fn find(&self, key: &str) -> Option<Wanted> {
        // The map is whole even if a holder of the lock has panicked.
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).cloned()
    }

    fn put(&self, key: &str, wanted: Wanted) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key.to_owned(), wanted);
    }

    async fn look(&self, edge: &Edge, key: &str) -> Option<Wanted> {
        if let Some(wanted) = self.find(key) {
            return Some(wanted);
        }
        match edge.storage.capabilities(key).await {
            Ok(nodes) => {
                let wanted: Wanted = nodes?.into();
                self.put(key, wanted.clone());
                Some(wanted)
            }
            // The client can say it again.
            Err(error) => {
                tracing::warn!(%error, "capabilities are not read");
                None
            }
        }
    }
}

/// Finds out what the client of a presence wants to hear of.
struct Interests(Known);

impl Hook<Presence> for Interests {
    fn turn<'a>(
        &'a self,
        sender: Sender<'a>,
        presence: &'a mut Presence,
    ) -> Turn<'a, Result<(), StanzaError>> {
        if presence.stanza.header.kind != Kind::Presence(PresenceType::Available) {
            return at_once(Ok(()));
        }
        let c = presence.stanza.payload.iter().find_map(Caps::parse);
        let (Some(caps), Some(key)) = (c.clone(), c.as_ref().and_then(key)) else {
            return at_once(Ok(()));
        };
        // A new session knows nothing, whatever was said on this connection before.
        if !sender.memory.replace(SERVICE.name, &key) && !presence.initial {
            return at_once(Ok(()));
        }
        later(async move {
            let wanted = match caps.hash.is_empty() {
                true => None,
                false => self.0.look(sender.edge, &key).await,
            };
            presence.follow.push(match wanted {
                Some(wanted) => Action::Interest(wanted.to_vec()),
                None => Action::Reply(question(sender, &caps, &key).pack()),
            });
            Ok(())
        })
    }
}

/// Under what it is known; nothing for what cannot be a hash.
fn key(caps: &Caps) -> Option<String> {
    let key = format!("{}:{}", caps.hash, caps.ver);
    (key.len() <= MAX_KEY).then_some(key)
}

/// Asks a client what it can do.
fn question(sender: Sender<'_>, caps: &Caps, key: &str) -> Stanza {
    let node = format!("{}#{}", caps.node, caps.ver);
    let query = Element::new("query", ns::DISCO_INFO).with_attr("node", node);
    Stanza::new(Kind::Iq(IqType::Get))
        .with_id(format!("{ID}{key}"))
        .with_from(sender.account.clone().into())
        .with_to(sender.session.clone())
        .with_child(query)
}

/// Hears what clients answer.
struct Answers(Known);

impl AnswerHook for Answers {
    fn answered<'a>(
        &'a self,
        sender: Sender<'a>,
        account: &'a BareJid,
        answer: &'a Stanza,
    ) -> Turn<'a, Vec<Action>> {
        let key = answer
            .header
            .id
            .as_deref()
            .and_then(|id| id.strip_prefix(ID));
        let info = answer.child("query", ns::DISCO_INFO);
        let (Some(key), Some(info)) = (key.filter(|key| key.len() <= MAX_KEY), info) else {
            return at_once(Vec::new());
        };
        let is_result = answer.header.kind == Kind::Iq(IqType::Result);
        if !is_result || account != sender.account {
            return at_once(Vec::new());
        }
        let wanted = wanted(info);
        if !is_true(key, info) {
            return at_once(vec![Action::Interest(wanted)]);
        }
        later(async move {
            self.0.put(key, wanted.clone().into());
            let now = (sender.edge.now)();
            let kept = sender
                .edge
                .storage
                .set_capabilities(key, now, &wanted)
                .await;
            if let Err(error) = kept {
                tracing::warn!(%error, "capabilities are not kept");
            }
            vec![Action::Interest(wanted)]
        })
    }
}

/// What a client can do has the hash that it named.
fn is_true(key: &str, info: &Element) -> bool {
    let named = key.split_once(':');
    named.is_some_and(|(function, ver)| caps::hash(function, info).as_deref() == Some(ver))
}

/// The nodes that a client wants to hear of, as far as a shard remembers them.
fn wanted(info: &Element) -> Vec<Box<str>> {
    let features = info
        .elements()
        .filter(|child| child.is("feature", ns::DISCO_INFO));
    let nodes = features.filter_map(|feature| feature.attr("var")?.strip_suffix(NOTIFY));
    let mut bytes = 0;
    let nodes = nodes.filter(|node| !node.is_empty()).take_while(|node| {
        bytes += node.len();
        bytes <= MOST_INTEREST_BYTES
    });
    nodes.take(MOST_INTERESTS).map(Box::from).collect()
}

#[cfg(test)]
mod tests;
