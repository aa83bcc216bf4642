//! Subscription requests that reach an account of ours.

use cluster::session::{Completed, Effect, Pending, Relay};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::BareJid;
use proto::stanza::error::{self, Condition, StanzaError};
use proto::stanza::{Kind, Packet, Stanza};

use super::settings::Quotas;
use super::subscription::Request;
use super::{contact, subscribe};
use crate::hooks::{EffectHook, Work, completed, followed_by};
use crate::storage::StorageError;

/// Brings requests into rosters.
pub struct Arrivals {
    /// What a roster may take.
    pub quotas: Quotas,
}

impl EffectHook for Arrivals {
    fn takes(&self, effect: &Effect) -> bool {
        matches!(effect, Effect::Subscription(_))
    }

    fn perform<'a>(
        &'a self,
        work: Work<'a>,
        done: &'a mut Vec<Completed>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        async move {
            for effect in work.effects {
                if let Effect::Subscription(packet) = &*effect.effect {
                    done.push(subscription(work, self.quotas, effect, packet).await?);
                }
            }
            Ok(())
        }
        .boxed()
    }
}

/// A subscription stanza has reached a local account: the contact's half of RFC 6121 §3 (IM-E, inbound).
async fn subscription(
    work: Work<'_>,
    quotas: Quotas,
    effect: &Pending,
    packet: &Packet,
) -> Result<Completed, StorageError> {
    let Work { edge, shard, .. } = work;
    let Some((request, account, peer)) = parties(packet) else {
        return Ok(completed(effect));
    };
    // Of an account that does not exist nobody hears anything (IM-C).
    if !edge.accounts.exists(&account).await? {
        return Ok(completed(effect));
    }
    let repeat = format!("{shard}/{}", effect.id.0);
    let received = contact::received(edge, quotas, &account, &peer, request, packet, &repeat).await;
    let received = match received {
        // The stanza has been acknowledged: its sender is told that it came to nothing.
        Err(error) if error.blames_values() => {
            return Ok(followed_by(effect, returned(packet, &peer)));
        }
        received => received?,
    };

    let mut relays = Vec::new();
    if received.hides {
        relays.extend(subscribe::farewells(edge, &account, &peer).await);
    }
    if received.deliver {
        let available = request == Request::Subscribe;
        relays.push(Relay::Announcement {
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
            from: account.clone().into(),
            to: vec![peer.clone()],
        });
        // And what the contact has published, behind both (PE-9).
        relays.push(Relay::Revealed { account, peer });
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
