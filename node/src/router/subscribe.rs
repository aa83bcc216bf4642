//! Subscription requests of our own clients (IM-E, outbound).
//!
//! The user's half is written to the roster here; the contact's half follows when the stanza reaches the
//! contact's account (`services::effects`), for a local contact as for any other (IM-36).

use cluster::session::{Action, Relay};
use proto::stanza::error::{Condition, StanzaError};
use proto::stanza::{Kind, PresenceType, Stanza};
use proto::{BareJid, Jid};

use super::subscription::Request;
use super::{Edge, SessionContext, Target, contact, failure, refuse, target};

pub(super) async fn resolve(
    ctx: &SessionContext,
    request: Request,
    to: Jid,
    mut stanza: Stanza,
) -> Result<Vec<Action>, StanzaError> {
    let peer = to.bare();
    let remote = match target(ctx, Some(&Jid::from(&peer))) {
        // Nobody subscribes to themselves (IM-38), or to a server.
        Target::Own | Target::Host(_) => return Ok(Vec::new()),
        Target::Remote => true,
        Target::Account(_) | Target::Session(_) => false,
    };
    let header = stanza.header.clone();
    let repeat = repeat_key(&ctx.session, request, header.id.as_deref());
    let sent = contact::sent(&ctx.edge, &ctx.account, &peer, request, &repeat);
    let sent = sent.await.map_err(|error| failure(&error))?;

    let mut actions = Vec::new();
    if sent.hides {
        actions.extend(farewells(&ctx.edge, &ctx.account, &peer).map(Action::Send));
    }
    if sent.route && remote && request == Request::Subscribe {
        // The request stands, but its sender has to know that nobody heard it (IM-33).
        actions.extend(refuse(
            &header,
            &StanzaError::new(Condition::RemoteServerNotFound),
        ));
    } else if sent.route && !remote {
        stanza.header.from = Some(ctx.account.clone().into());
        stanza.header.to = Some(peer.into());
        actions.push(Action::Send(Relay::Subscription(stanza.pack())));
    }
    actions.extend(sent.push.map(Action::Send));
    Ok(actions)
}

/// Names a request, so that the same one is known when it is resolved again. Two equal requests of one
/// session may share a name: to repeat the outcome of the last one is harmless, and so is to do so late,
/// because any other change to the contact forgets the name.
pub fn repeat_key(session: &Jid, request: Request, id: Option<&str>) -> String {
    format!("{session} {request:?} {}", id.unwrap_or_default())
}

/// From each available session of an account, that it is gone, to somebody who may see it no longer (IM-31).
pub fn farewells(
    edge: &Edge,
    account: &BareJid,
    peer: &BareJid,
) -> impl Iterator<Item = Relay> + use<> {
    let peer = Jid::from(peer);
    edge.presences
        .available(account)
        .into_iter()
        .map(move |session| {
            let stanza = Stanza::new(Kind::Presence(PresenceType::Unavailable));
            let packet = stanza.with_from(session).with_to(peer.clone()).pack();
            Relay::Presence {
                packet,
                to: vec![peer.clone()],
            }
        })
}
