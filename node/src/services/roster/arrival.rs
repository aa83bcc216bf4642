//! Subscription requests that reach an account of ours.

use cluster::session::{Completed, Effect, Pending, Relay};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::stanza::error::{self, Condition, StanzaError};
use proto::stanza::{Kind, Packet, Stanza};
use proto::{BareJid, ns};

use super::settings::Quotas;
use super::subscription::Request;
use super::{contact, subscribe};
use crate::auth::invite;
use crate::hooks::{Edge, EffectHook, Work, completed, followed_by};
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
    if request == Request::Subscribe && shows_invitation(edge, packet, &account, &peer).await? {
        let introduced = contact::introduced(edge, quotas, &account, &peer, &repeat).await;
        return match introduced {
            Err(error) if error.blames_values() => Ok(followed_by(effect, returned(packet, &peer))),
            introduced => Ok(followed_by(
                effect,
                welcome(&account, &peer, introduced?, &repeat),
            )),
        };
    }
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
        relays.push(said(&account, &peer, answer, &repeat));
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

/// Whether the request shows a token that the account has given somebody, to become a contact. It is used up then (RE-6).
async fn shows_invitation(
    edge: &Edge,
    packet: &Packet,
    account: &BareJid,
    peer: &BareJid,
) -> Result<bool, StorageError> {
    // Our own writer made it, so that what cannot be read is damaged, and shows nothing.
    let Ok(stanza) = packet.unpack() else {
        return Ok(false);
    };
    let shown = stanza.child("preauth", ns::PREAUTH);
    let Some(token) = shown.and_then(|shown| shown.attr("token")) else {
        return Ok(false);
    };
    invite::redeemed(&edge.storage, token, account, peer, (edge.now)()).await
}

/// The user's clients see the new contact, who is granted what was asked and asked in return.
fn welcome(
    account: &BareJid,
    peer: &BareJid,
    introduced: contact::Introduced,
    repeat: &str,
) -> Vec<Relay> {
    let granted = said(account, peer, Request::Subscribed, repeat);
    let asked = said(account, peer, Request::Subscribe, repeat);
    let mut relays: Vec<_> = introduced.push.into_iter().chain([granted]).collect();
    if introduced.asks {
        relays.push(asked);
    }
    relays
}

/// What the server says to a contact in the user's name.
fn said(account: &BareJid, peer: &BareJid, request: Request, id: &str) -> Relay {
    let stanza = Stanza::new(Kind::Presence(request.kind())).with_id(id.to_owned());
    let stanza = stanza.with_from(account.into()).with_to(peer.into());
    Relay::Subscription(stanza.pack())
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
