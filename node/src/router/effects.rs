//! What a shard's entries ask of this node, given to the services that carry it out.
//!
//! Everything here may be done twice: a leader may die after the database has committed and before the
//! shard learns of it, and the next one starts again. Rows are keyed by owner and archive id;
//! a roster remembers the last effect that changed a contact and what it found.
//!
//! And nothing is given up, since whatever led here was acknowledged: what the database refuses because of
//! its values goes back to its sender, everything else waits until the database does it.

use cluster::ShardId;
use cluster::session::{Completed, Pending};

use crate::hooks::{Edge, EffectHook, EffectPhase, Registry, Work};

/// Carries out effects and says which are done. Those that are missing are asked for again.
pub async fn perform(
    services: &Registry,
    edge: &Edge,
    shard: ShardId,
    pending: Vec<Pending>,
) -> Vec<Completed> {
    let mut done = Vec::with_capacity(pending.len());
    let taken = |hook: &dyn EffectHook| -> Vec<&Pending> {
        let own = pending.iter().filter(|effect| hook.takes(&effect.effect));
        own.collect()
    };
    let together = services
        .effects()
        .filter(|(phase, _)| *phase != EffectPhase::Each);
    let together = together.map(|(_, hook)| (hook, taken(hook)));
    let takes = |effect: &Pending| {
        let mut each = services
            .effects()
            .filter(|(phase, _)| *phase == EffectPhase::Each);
        each.find(|(_, hook)| hook.takes(&effect.effect))
    };
    let each = pending
        .iter()
        .filter_map(|effect| Some((takes(effect)?.1, vec![effect])));
    for (hook, effects) in together.chain(each) {
        if effects.is_empty() {
            continue;
        }
        let effects = &effects[..];
        let work = Work {
            edge,
            shard,
            effects,
        };
        // What led here was acknowledged, so that it is never given up: it is tried until it works.
        if let Err(error) = hook.perform(work, &mut done).await {
            let first = effects[0].id.0;
            tracing::warn!(%shard, effect = first, %error, "the database fails, effects wait");
            break;
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::router::testing::{Node, bare, edge, edge_with, perform as perform_one};
    use cluster::ArchiveId;
    use cluster::id::EffectId;
    use cluster::session::{Among, ArchiveRow, Effect, Relay};
    use proto::stanza::{Kind, Stanza};
    use proto::stanza::{MessageType, PresenceType};
    use proto::{Element, Jid, ns};

    async fn carry_out(node: &Node, pending: Vec<Pending>) -> Vec<Completed> {
        perform(&node.services, node, ShardId(0), pending).await
    }

    fn row(n: u128, hidden: bool) -> ArchiveRow {
        let body = Element::new("body", ns::CLIENT).with_text("hi");
        let stanza = Stanza::new(Kind::Message(MessageType::Chat)).with_child(body);
        let with: Jid = "bob@example.org/x".parse().unwrap();
        ArchiveRow {
            owner: bare("alice@example.org"),
            mid: ArchiveId(n),
            order: cluster::Order(n as u64),
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
    async fn each_effect_is_carried_out_by_one_service() {
        let account = bare("alice@example.org");
        let session: Jid = "alice@example.org/x".parse().unwrap();
        let packet = Stanza::new(Kind::Presence(PresenceType::Unavailable)).pack();
        let mids = Vec::new();
        let all = [
            Effect::Archive(row(1, false)),
            Effect::Forget {
                account: account.clone(),
                mids: mids.clone(),
            },
            Effect::Fetch {
                session,
                mids: mids.clone(),
            },
            Effect::Return {
                account: account.clone(),
                mids,
            },
            Effect::Subscription(packet.clone()),
            Effect::Push {
                account,
                resource: "x".into(),
                count: 1,
                message: None,
            },
            Effect::Unavailable {
                packet,
                directed: Vec::new(),
                after: None,
                among: Among::All,
            },
            Effect::Blocklist(bare("alice@example.org")),
            Effect::LastEvents(cluster::session::LastEvents {
                session: "alice@example.org/x".parse().unwrap(),
                nodes: Vec::new(),
                owner: None,
                after: None,
            }),
        ];
        let services = edge().await.services;
        for effect in all {
            // A new kind of effect belongs into the list above.
            match &effect {
                Effect::Archive(_) | Effect::Forget { .. } | Effect::Fetch { .. } => {}
                Effect::Return { .. } | Effect::Subscription(_) => {}
                Effect::Push { .. } | Effect::Unavailable { .. } | Effect::Blocklist(_) => {}
                Effect::LastEvents(_) => {}
            }
            let takers = services.effects().filter(|(_, hook)| hook.takes(&effect));
            assert_eq!(takers.count(), 1, "{effect:?}");
        }
    }

    #[tokio::test]
    async fn rows_are_written_before_they_are_read_back_whatever_their_order() {
        let edge = edge().await;
        let session: Jid = "alice@example.org/x".parse().unwrap();
        let mids = vec![ArchiveId(2), ArchiveId(9), ArchiveId(1)];
        let effects = vec![
            Effect::Fetch { session, mids },
            Effect::Archive(row(1, false)),
            Effect::Archive(row(2, true)),
        ];
        let done = carry_out(&edge, pending(effects.clone())).await;
        assert_eq!(done.len(), 3);
        let fetch = done.iter().find(|done| done.id == EffectId(1)).unwrap();
        let found: Vec<_> = fetch.messages.iter().map(|m| (m.mid, m.archived)).collect();
        assert_eq!(found, [(ArchiveId(2), false), (ArchiveId(1), true)]);
        assert_eq!(carry_out(&edge, pending(effects)).await, done);
    }

    #[tokio::test]
    async fn what_is_returned_comes_in_order_and_without_what_it_says() {
        let edge = edge().await;
        let account = bare("alice@example.org");
        let mids: Vec<ArchiveId> = (1..=20).rev().map(ArchiveId).collect();
        let mut effects: Vec<Effect> = (1..=20).map(|n| Effect::Archive(row(n, true))).collect();
        let mids_asked = mids.clone();
        effects.push(Effect::Return {
            account,
            mids: mids_asked,
        });
        let done = carry_out(&edge, pending(effects)).await;
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
        let edge = edge_with(&["quotas.roster_requests=1"]).await;
        let asks = |from: &str| {
            let stanza = Stanza::new(Kind::Presence(PresenceType::Subscribe));
            let stanza = stanza.with_from(from.parse().unwrap());
            Effect::Subscription(stanza.with_to("alice@example.org".parse().unwrap()).pack())
        };
        let first = perform_one(&edge, 1, asks("bob@example.org")).await;
        assert!(
            matches!(first[..], [Relay::Announcement { .. }]),
            "{first:?}"
        );
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
        let done = carry_out(&edge, pending(effects)).await;
        let relays: Vec<_> = done.iter().map(|done| done.relays.clone()).collect();
        assert_eq!(relays, [vec![word], vec![]]);
        let mids = [ArchiveId(1), ArchiveId(2)];
        let alice = bare("alice@example.org");
        assert_eq!(edge.storage.count_archived(&alice, &mids).await, 1);
    }

    #[tokio::test]
    async fn what_the_database_cannot_do_though_no_value_is_at_fault_waits() {
        let edge = edge().await;
        edge.storage.break_archive().await;
        let session: Jid = "alice@example.org/x".parse().unwrap();
        let mids = vec![ArchiveId(1)];
        for effect in [
            Effect::Archive(row(1, false)),
            Effect::Fetch { session, mids },
        ] {
            assert_eq!(carry_out(&edge, pending(vec![effect])).await, []);
        }
    }

    #[tokio::test]
    async fn one_message_that_cannot_be_read_does_not_take_the_others_with_it() {
        let edge = edge().await;
        let rows = [row(1, false), row(2, false)];
        let effects = rows.map(Effect::Archive).to_vec();
        carry_out(&edge, pending(effects)).await;
        edge.storage.damage_message(ArchiveId(1)).await;
        let session: Jid = "alice@example.org/x".parse().unwrap();
        let mids = vec![ArchiveId(1), ArchiveId(2)];
        let fetch = Effect::Fetch { session, mids };
        let done = carry_out(&edge, pending(vec![fetch])).await;
        let found: Vec<_> = done[0].messages.iter().map(|found| found.mid).collect();
        assert_eq!(found, [ArchiveId(2)]);
    }

    #[tokio::test]
    async fn without_the_database_effects_wait() {
        let edge = edge().await;
        edge.storage.close().await;
        let forget = Effect::Forget {
            account: bare("alice@example.org"),
            mids: vec![ArchiveId(1)],
        };
        let effects = vec![Effect::Archive(row(1, false)), forget.clone()];
        assert!(carry_out(&edge, pending(effects)).await.is_empty());
        assert!(carry_out(&edge, pending(vec![forget])).await.is_empty());
    }
}
