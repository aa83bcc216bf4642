//! Ends of sessions, told to those who see their presence: many at a time, since a node that is lost may take
//! tens of thousands of sessions with it.

use std::collections::{BTreeMap, BTreeSet};

use cluster::session::{Completed, Effect, Pending, Relay};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::stanza::Packet;
use proto::{BareJid, Jid, ns};

use super::contact;
use crate::hooks::{Edge, EffectHook, Work, completed, followed_by};
use crate::storage::StorageError;

/// Ends whose subscribers are asked for in one go.
const AT_A_TIME: usize = 64;
/// Subscribers that are told in one go, or those of [`AT_A_TIME`] accounts more.
const MAX_NAMES: usize = if cfg!(test) { 500 } else { 32_768 };
/// Characters of a status that are kept.
const MAX_STATUS: usize = 1024;

/// Tells contacts.
pub struct Ends;

impl EffectHook for Ends {
    fn takes(&self, effect: &Effect) -> bool {
        matches!(effect, Effect::Unavailable { .. })
    }

    fn perform<'a>(
        &'a self,
        work: Work<'a>,
        done: &'a mut Vec<Completed>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        async move {
            done.extend(tell(work.edge, &among(work.effects)).await?);
            Ok(())
        }
        .boxed()
    }
}

/// An effect that says that a session is gone.
struct End<'a> {
    effect: &'a Pending,
    packet: &'a Packet,
    account: BareJid,
    /// Those up to here, in the order of their addresses, know it.
    after: Option<&'a BareJid>,
}

/// The ends among some effects.
fn among<'a>(pending: &[&'a Pending]) -> Vec<End<'a>> {
    let ends = pending.iter().filter_map(|effect| {
        let Effect::Unavailable { packet, after, .. } = &*effect.effect else {
            return None;
        };
        Some(End {
            effect,
            packet,
            account: packet.header.from.as_ref()?.bare(),
            after: after.as_ref(),
        })
    });
    ends.collect()
}

/// Notes when the sessions ended, and has those told who see their accounts' presence. Those that would be
/// too many to tell at a time are left for the next.
async fn tell(edge: &Edge, ends: &[End<'_>]) -> Result<Vec<Completed>, StorageError> {
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    // The last one of an account counts.
    let last: BTreeMap<&BareJid, Option<String>> = ends
        .iter()
        .map(|end| (&end.account, status(end.packet)))
        .collect();
    let last: Vec<_> = last.into_iter().collect();
    let noted = edge.storage.set_last_activity((edge.now)(), &last);
    match noted.await {
        Err(error) if error.blames_values() => {
            tracing::error!(%error, "when sessions ended is not noted");
        }
        noted => noted?,
    }
    cluster::fail::point("effects-halfway");
    let mut told = Vec::with_capacity(ends.len());
    let mut names = 0;
    for ends in ends.chunks(AT_A_TIME) {
        if names > MAX_NAMES {
            break;
        }
        let accounts: BTreeSet<&BareJid> = ends.iter().map(|end| &end.account).collect();
        let accounts: Vec<&BareJid> = accounts.into_iter().collect();
        let subscribers = contact::subscribers_of(edge, &accounts).await?;
        for end in ends {
            let to = subscribers.get(&end.account).into_iter().flatten();
            let to = to.filter(|to| end.after.is_none_or(|after| *to > after));
            let mut to: Vec<Jid> = to.cloned().map(Jid::from).collect();
            to.sort_unstable();
            names += to.len();
            told.push(match to.is_empty() {
                true => completed(end.effect),
                false => {
                    let packet = end.packet.clone();
                    followed_by(end.effect, vec![Relay::Presence { packet, to }])
                }
            });
        }
    }
    Ok(told)
}

fn status(packet: &Packet) -> Option<String> {
    let stanza = packet.unpack().ok()?;
    let status = stanza.child("status", ns::CLIENT)?.text();
    Some(status.chars().take(MAX_STATUS).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cluster::ShardId;
    use cluster::id::EffectId;
    use cluster::session::Among;
    use proto::Element;
    use proto::stanza::{Kind, PresenceType, Stanza};

    use super::super::settings::Quotas;
    use super::super::storage::{Change, RosterItem, Subscription};
    use super::*;
    use crate::router::effects::perform;
    use crate::router::testing::{bare, edge};
    use crate::storage::testing::statements;

    fn gone(id: u64, session: &str, status: &str) -> Pending {
        let stanza = Stanza::new(Kind::Presence(PresenceType::Unavailable));
        let status = Element::new("status", ns::CLIENT).with_text(status);
        let packet = stanza.with_from(session.parse().unwrap());
        let packet = packet.with_child(status).pack();
        Pending {
            id: EffectId(id),
            effect: Arc::new(Effect::Unavailable {
                packet,
                directed: Vec::new(),
                after: None,
                among: Among::All,
            }),
        }
    }

    async fn subscribe(edge: &Edge, to: &BareJid, contact: &BareJid) {
        let update = edge
            .storage
            .update_contact(Quotas::default(), to, contact, None, |_| {
                let mut item = RosterItem::new(contact.clone());
                item.listed = true;
                item.subscription = Subscription::From;
                Change::Put(item)
            });
        update.await.unwrap();
    }

    #[tokio::test]
    async fn im_41_the_ends_of_sessions_are_noted_and_told_to_subscribers() {
        let edge = edge().await;
        let (alice, bob) = (bare("alice@example.org"), bare("bob@example.org"));
        subscribe(&edge, &alice, &bob).await;
        let pending = vec![
            gone(1, "alice@example.org/x", "bye"),
            gone(2, "bob@example.org/x", ""),
            gone(3, "alice@example.org/y", "good night"),
        ];
        let done = perform(&edge.services, &edge, ShardId(0), pending.clone()).await;
        let told = |pending: &Pending| {
            let Effect::Unavailable { packet, .. } = &*pending.effect else {
                panic!("{pending:?}");
            };
            let (packet, to) = (packet.clone(), vec![bob.clone().into()]);
            vec![Relay::Presence { packet, to }]
        };
        let relays: Vec<_> = done.into_iter().map(|done| done.relays).collect();
        assert_eq!(relays, [told(&pending[0]), vec![], told(&pending[2])]);
        let last = edge.storage.last_activity(&alice).await.unwrap().unwrap();
        assert_eq!(last.status.as_deref(), Some("good night"));
    }

    #[tokio::test]
    async fn those_who_know_it_already_are_not_told_again() {
        let edge = edge().await;
        let alice = bare("alice@example.org");
        for contact in ["dora", "bob", "carol"] {
            subscribe(&edge, &alice, &bare(&format!("{contact}@example.org"))).await;
        }
        let Effect::Unavailable { packet, .. } = &*gone(1, "alice@example.org/x", "").effect else {
            panic!("another effect");
        };
        let (packet, after) = (packet.clone(), bare("bob@example.org"));
        let rest = Pending {
            id: EffectId(2),
            effect: Arc::new(Effect::Unavailable {
                packet,
                directed: Vec::new(),
                after: Some(after),
                among: Among::All,
            }),
        };
        let done = perform(&edge.services, &edge, ShardId(0), vec![rest]).await;
        let [Relay::Presence { to, .. }] = &done[0].relays[..] else {
            panic!("{done:?}");
        };
        let to: Vec<String> = to.iter().map(ToString::to_string).collect();
        assert_eq!(to, ["carol@example.org", "dora@example.org"]);
    }

    #[tokio::test]
    async fn a_thousand_ends_take_a_few_dozen_statements_and_not_all_names_at_a_time() {
        let edge = edge().await;
        let account = |n: u64| format!("user{n}@example.org");
        for n in 0..1000 {
            subscribe(&edge, &bare(&account(n)), &bare("bob@example.org")).await;
        }
        let ends = (0..1000).map(|n| gone(n + 1, &format!("{}/x", account(n)), ""));
        let mut ends: Vec<_> = ends.collect();
        let before = statements();
        for expect in [512, 488] {
            let done = perform(&edge.services, &edge, ShardId(0), ends.clone()).await;
            assert!(done.iter().all(|done| done.relays.len() == 1));
            assert_eq!(done.len(), expect);
            ends.drain(..expect);
        }
        let took = statements() - before;
        assert!(took < 50, "{took} statements");
    }
}
