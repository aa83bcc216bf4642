//! What a shard's entries ask of the database, carried out by the node that leads the shard.
//!
//! Everything here may be done twice: a leader may die after the database has committed and before the
//! shard learns of it, and the next one starts again. Rows are keyed by owner and archive id;
//! a roster remembers the last effect that changed a contact and what it found.
//!
//! And nothing is given up, since whatever led here was acknowledged: what the database refuses because of
//! its values goes back to its sender, everything else waits until the database does it.

mod farewell;

use std::collections::HashSet;

use bytes::Bytes;
use cluster::session::{ArchiveRow, Completed, Effect, Fetched, Pending, Relay};
use cluster::{Mid, ShardId};
use proto::BareJid;
use proto::stanza::error::{self, Condition, StanzaError};
use proto::stanza::{Kind, Packet, Stanza};

use crate::clock;
use crate::hooks::Edge;
use crate::router::subscription::Request;
use crate::router::{contact, subscribe};
use crate::services::push;
use crate::storage::StorageError;
use crate::trace::Step;

/// Messages that are read back at a time to be returned.
const RECALLED: usize = 8;

/// Carries out effects and says which are done. Those that are missing are asked for again.
pub async fn perform(edge: &Edge, shard: ShardId, pending: Vec<Pending>) -> Vec<Completed> {
    let mut done = Vec::with_capacity(pending.len());
    // Rows first: other effects of the same batch may read or delete them.
    if let Err(error) = archive(edge, &pending, &mut done).await {
        tracing::warn!(%shard, %error, "the archive cannot be written, effects wait");
        return done;
    }
    let ends = farewell::among(&pending);
    match farewell::tell(edge, &ends).await {
        Ok(told) => done.extend(told),
        Err(error) => {
            tracing::warn!(%shard, %error, "the database fails, effects wait");
            return done;
        }
    }
    for effect in &pending {
        let outcome = match &*effect.effect {
            Effect::Archive(_) | Effect::Unavailable { .. } => continue,
            Effect::Forget { account, mids } => edge
                .storage
                .forget(account, mids)
                .await
                .map(|()| nothing(effect)),
            Effect::Fetch { session, mids } => fetch(edge, effect, &session.bare(), mids).await,
            Effect::Return { account, mids } => recall(edge, effect, account, mids).await,
            Effect::Subscription(packet) => subscription(edge, shard, effect, packet).await,
            Effect::Push {
                account,
                resource,
                count,
                message,
            } => push::publish(edge, account, resource, *count, message.as_ref())
                .await
                .map(|relays| followed_by(effect, relays)),
        };
        match outcome {
            Ok(completed) => done.push(completed),
            // It was acknowledged, so that it is never given up: it is tried until it works.
            Err(error) => {
                tracing::warn!(%shard, effect = effect.id.0, %error, "the database fails, effects wait");
                break;
            }
        }
    }
    done
}

fn nothing(effect: &Pending) -> Completed {
    followed_by(effect, Vec::new())
}

fn followed_by(effect: &Pending, relays: Vec<Relay>) -> Completed {
    Completed {
        id: effect.id,
        relays,
        messages: Vec::new(),
    }
}

/// All rows in one transaction; if the database refuses one of them, each by itself.
async fn archive(
    edge: &Edge,
    pending: &[Pending],
    done: &mut Vec<Completed>,
) -> Result<(), StorageError> {
    let rows: Vec<(&Pending, &ArchiveRow)> = pending
        .iter()
        .filter_map(|effect| match &*effect.effect {
            Effect::Archive(row) => Some((effect, row)),
            _ => None,
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let all: Vec<&ArchiveRow> = rows.iter().map(|(_, row)| *row).collect();
    let fallback = edge.archive.default;
    match edge.storage.archive(&all, fallback).await {
        Ok(hidden) => {
            done.extend(
                rows.iter()
                    .map(|(effect, row)| written(edge, effect, row, &hidden)),
            );
            return Ok(());
        }
        Err(error) if !error.blames_values() => return Err(error),
        Err(_) => {}
    }
    for (effect, row) in rows {
        match edge.storage.archive(&[row], fallback).await {
            Err(error) if !error.blames_values() => return Err(error),
            Err(error) => {
                tracing::error!(mid = %row.mid, %error, "a message cannot be archived");
                let word = Relay::Unkept {
                    account: row.owner.clone(),
                    mid: row.mid,
                    packet: row.packet.clone(),
                };
                done.push(followed_by(effect, vec![word]));
            }
            Ok(hidden) => done.push(written(edge, effect, row, &hidden)),
        }
    }
    Ok(())
}

/// The shard believes that the archive shows what it was given to show, unless it is told otherwise.
fn written(
    edge: &Edge,
    effect: &Pending,
    row: &ArchiveRow,
    hidden: &HashSet<(BareJid, Mid)>,
) -> Completed {
    edge.trail.mark(row.mid, Step::Archived);
    if !hidden.contains(&(row.owner.clone(), row.mid)) {
        return nothing(effect);
    }
    let word = Relay::Hidden {
        account: row.owner.clone(),
        mids: vec![row.mid],
    };
    followed_by(effect, vec![word])
}

/// Messages that waited, in the order asked for. One that is gone meanwhile is left out.
async fn fetch(
    edge: &Edge,
    effect: &Pending,
    account: &BareJid,
    mids: &[Mid],
) -> Result<Completed, StorageError> {
    let mut found = edge.storage.fetch(account, mids).await?;
    let place = |fetched: &Fetched| mids.iter().position(|mid| *mid == fetched.mid);
    found.sort_by_key(place);
    Ok(Completed {
        id: effect.id,
        relays: Vec::new(),
        messages: found,
    })
}

/// Messages that go back to their senders, who hear of them and do not get them: nothing of what they say is kept in
/// memory. Nobody waits for these, so half of the time is left to those who do for something else.
async fn recall(
    edge: &Edge,
    effect: &Pending,
    account: &BareJid,
    mids: &[Mid],
) -> Result<Completed, StorageError> {
    let mut completed = nothing(effect);
    for some in mids.chunks(RECALLED) {
        let began = clock::instant();
        let mut found = fetch(edge, effect, account, some).await?.messages;
        for message in &mut found {
            message.packet.payload = Bytes::new();
        }
        completed.messages.append(&mut found);
        tokio::time::sleep(began.elapsed()).await;
    }
    Ok(completed)
}

/// A subscription stanza has reached a local account: the contact's half of RFC 6121 §3 (IM-E, inbound).
async fn subscription(
    edge: &Edge,
    shard: ShardId,
    effect: &Pending,
    packet: &Packet,
) -> Result<Completed, StorageError> {
    let Some((request, account, peer)) = parties(packet) else {
        return Ok(nothing(effect));
    };
    // Of an account that does not exist nobody hears anything (IM-C).
    if !edge.accounts.exists(&account).await? {
        return Ok(nothing(effect));
    }
    let repeat = format!("{shard}/{}", effect.id.0);
    let received = contact::received(edge, &account, &peer, request, packet, &repeat).await;
    let received = match received {
        // The stanza has been acknowledged: its sender is told that it came to nothing.
        Err(error) if error.blames_values() => {
            return Ok(followed_by(effect, returned(packet, &peer)));
        }
        received => received?,
    };

    let mut relays = Vec::new();
    if received.hides {
        relays.extend(subscribe::farewells(edge, &account, &peer));
    }
    if received.deliver {
        let available = request == Request::Subscribe;
        relays.push(Relay::Notice {
            account: account.clone(),
            packet: packet.clone(),
            available,
        });
    }
    relays.extend(received.push);
    if let Some(answer) = received.answer {
        let stanza = Stanza::new(Kind::Presence(answer.kind())).with_id(repeat);
        let stanza = stanza
            .with_from(account.clone().into())
            .with_to(peer.clone().into());
        relays.push(Relay::Subscription(stanza.pack()));
    }
    if received.reveals {
        // The contact's presence comes after the push that makes room for it.
        relays.push(Relay::Probe {
            from: account.into(),
            to: vec![peer],
        });
    }
    Ok(followed_by(effect, relays))
}

/// Tells whoever asks that there is no room for what they ask.
fn returned(packet: &Packet, peer: &BareJid) -> Vec<Relay> {
    let error = StanzaError::new(Condition::ResourceConstraint);
    let reply = error::reply(&packet.header, &error);
    let relay = |packet| Relay::Presence {
        packet,
        to: vec![peer.into()],
    };
    reply.into_iter().map(relay).collect()
}

/// What is asked, of whom and by whom.
fn parties(packet: &Packet) -> Option<(Request, BareJid, BareJid)> {
    let Kind::Presence(kind) = packet.header.kind else {
        return None;
    };
    let request = Request::of(kind)?;
    let account = packet.header.to.as_ref()?.bare();
    let peer = packet.header.from.as_ref()?.bare();
    Some((request, account, peer))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Quotas;
    use crate::router::testing::{bare, edge, edge_with, perform as perform_one};
    use cluster::id::EffectId;
    use proto::stanza::{MessageType, PresenceType};
    use proto::{Element, Jid, ns};

    fn row(n: u128, hidden: bool) -> ArchiveRow {
        let body = Element::new("body", ns::CLIENT).with_text("hi");
        let stanza = Stanza::new(Kind::Message(MessageType::Chat)).with_child(body);
        let with: Jid = "bob@example.org/x".parse().unwrap();
        ArchiveRow {
            owner: bare("alice@example.org"),
            mid: Mid(n),
            order: n as u64,
            with: with.clone(),
            stamp: 5,
            hidden,
            packet: stanza.with_from(with).pack(),
        }
    }

    fn pending(effects: Vec<Effect>) -> Vec<Pending> {
        let effects = (1..).map(EffectId).zip(effects);
        let pending = effects.map(|(id, effect)| Pending {
            id,
            effect: Arc::new(effect),
        });
        pending.collect()
    }

    #[tokio::test]
    async fn rows_are_written_before_they_are_read_back_whatever_their_order() {
        let edge = edge().await;
        let session: Jid = "alice@example.org/x".parse().unwrap();
        let mids = vec![Mid(2), Mid(9), Mid(1)];
        let effects = vec![
            Effect::Fetch { session, mids },
            Effect::Archive(row(1, false)),
            Effect::Archive(row(2, true)),
        ];
        let done = perform(&edge, ShardId(0), pending(effects.clone())).await;
        assert_eq!(done.len(), 3);
        let fetch = done.iter().find(|done| done.id == EffectId(1)).unwrap();
        let found: Vec<_> = fetch.messages.iter().map(|m| (m.mid, m.archived)).collect();
        assert_eq!(found, [(Mid(2), false), (Mid(1), true)]);
        assert_eq!(perform(&edge, ShardId(0), pending(effects)).await, done);
    }

    #[tokio::test]
    async fn what_is_returned_comes_in_order_and_without_what_it_says() {
        let edge = edge().await;
        let account = bare("alice@example.org");
        let mids: Vec<Mid> = (1..=20).rev().map(Mid).collect();
        let mut effects: Vec<Effect> = (1..=20).map(|n| Effect::Archive(row(n, true))).collect();
        let mids_asked = mids.clone();
        effects.push(Effect::Return {
            account,
            mids: mids_asked,
        });
        let done = perform(&edge, ShardId(0), pending(effects)).await;
        let messages = &done.last().unwrap().messages;
        assert!(messages.iter().map(|message| message.mid).eq(mids));
        assert!(
            messages
                .iter()
                .all(|message| message.packet.payload.is_empty())
        );
        assert!(
            messages
                .iter()
                .all(|message| message.packet.header.from.is_some())
        );
    }

    #[tokio::test]
    async fn t_52_who_asks_a_user_with_too_many_open_requests_is_told() {
        let quotas = Quotas {
            roster_requests: 1,
            ..Quotas::default()
        };
        let edge = edge_with(&quotas).await;
        let asks = |from: &str| {
            let stanza = Stanza::new(Kind::Presence(PresenceType::Subscribe));
            let stanza = stanza.with_from(from.parse().unwrap());
            Effect::Subscription(stanza.with_to("alice@example.org".parse().unwrap()).pack())
        };
        let first = perform_one(&edge, 1, asks("bob@example.org")).await;
        assert!(matches!(first[..], [Relay::Notice { .. }]), "{first:?}");
        let second = perform_one(&edge, 2, asks("carol@example.org")).await;
        let [Relay::Presence { packet, to }] = &second[..] else {
            panic!("{second:?}")
        };
        assert_eq!(packet.header.kind, Kind::Presence(PresenceType::Error));
        assert_eq!(to, &["carol@example.org".parse::<Jid>().unwrap()]);
    }

    #[tokio::test]
    async fn a_row_that_is_refused_goes_back_and_does_not_hold_up_the_others() {
        let edge = edge().await;
        let body = Element::new("body", ns::CLIENT).with_text(&"x".repeat(2 << 20));
        let stanza = Stanza::new(Kind::Message(MessageType::Chat)).with_child(body);
        let oversize = ArchiveRow {
            packet: stanza.pack(),
            ..row(1, false)
        };
        let word = Relay::Unkept {
            account: oversize.owner.clone(),
            mid: oversize.mid,
            packet: oversize.packet.clone(),
        };
        let effects = vec![Effect::Archive(oversize), Effect::Archive(row(2, false))];
        let done = perform(&edge, ShardId(0), pending(effects)).await;
        let relays: Vec<_> = done.iter().map(|done| done.relays.clone()).collect();
        assert_eq!(relays, [vec![word], vec![]]);
        let mids = [Mid(1), Mid(2)];
        let found = edge.storage.fetch(&bare("alice@example.org"), &mids).await;
        assert_eq!(found.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_the_database_cannot_do_though_no_value_is_at_fault_waits() {
        let edge = edge().await;
        edge.storage.break_archive().await;
        let session: Jid = "alice@example.org/x".parse().unwrap();
        let mids = vec![Mid(1)];
        for effect in [
            Effect::Archive(row(1, false)),
            Effect::Fetch { session, mids },
        ] {
            assert_eq!(perform(&edge, ShardId(0), pending(vec![effect])).await, []);
        }
    }

    #[tokio::test]
    async fn one_message_that_cannot_be_read_does_not_take_the_others_with_it() {
        let edge = edge().await;
        let rows = [row(1, false), row(2, false)];
        let effects = rows.map(Effect::Archive).to_vec();
        perform(&edge, ShardId(0), pending(effects)).await;
        edge.storage.damage_message(Mid(1)).await;
        let session: Jid = "alice@example.org/x".parse().unwrap();
        let mids = vec![Mid(1), Mid(2)];
        let fetch = Effect::Fetch { session, mids };
        let done = perform(&edge, ShardId(0), pending(vec![fetch])).await;
        let found: Vec<_> = done[0].messages.iter().map(|found| found.mid).collect();
        assert_eq!(found, [Mid(2)]);
    }

    #[tokio::test]
    async fn without_the_database_effects_wait() {
        let edge = edge().await;
        edge.storage.close().await;
        let forget = Effect::Forget {
            account: bare("alice@example.org"),
            mids: vec![Mid(1)],
        };
        let effects = vec![Effect::Archive(row(1, false)), forget.clone()];
        assert!(
            perform(&edge, ShardId(0), pending(effects))
                .await
                .is_empty()
        );
        assert!(
            perform(&edge, ShardId(0), pending(vec![forget]))
                .await
                .is_empty()
        );
    }
}
