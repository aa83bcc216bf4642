//! Presence (IM-C, IM-39 to IM-42, IM-45, IM-46): broadcasts get their audience from the roster, the rest is sent on.

use cluster::session::{Action, PresenceUpdate, Relay};
use proto::stanza::error::{Condition, StanzaError};
use proto::stanza::{PresenceType, Stanza};
use proto::{BareJid, Jid, ns};

use super::classify;
use super::context::SessionContext;
use crate::hooks::{Presence, Target, fail, permission};

pub(super) async fn resolve(
    ctx: &SessionContext,
    kind: PresenceType,
    mut stanza: Stanza,
) -> Result<Vec<Action>, StanzaError> {
    classify::strip(&ctx.services, &mut stanza, |domain| ctx.edge.serves(domain));
    match (kind, stanza.header.to.clone()) {
        (PresenceType::Available | PresenceType::Unavailable, None) => {
            broadcast(ctx, kind, stanza).await
        }
        (PresenceType::Available | PresenceType::Unavailable, Some(to)) => {
            Ok(directed(ctx, &to, stanza))
        }
        (
            PresenceType::Subscribe
            | PresenceType::Subscribed
            | PresenceType::Unsubscribe
            | PresenceType::Unsubscribed,
            to,
        ) => match to {
            Some(_) => Ok(turns(ctx, stanza, false).await?.follow),
            None => fail(Condition::BadRequest),
        },
        (PresenceType::Error, Some(to)) => Ok(error(ctx, to, stanza)),
        (PresenceType::Probe, Some(to)) => probe(ctx, &to).await,
        // Of nobody, to nobody.
        _ => Ok(Vec::new()),
    }
}

/// To all who may see it (IM-39 to IM-42).
async fn broadcast(
    ctx: &SessionContext,
    kind: PresenceType,
    stanza: Stanza,
) -> Result<Vec<Action>, StanzaError> {
    let priority = priority(&stanza)?;
    let initial = kind == PresenceType::Available && !ctx.available;
    let presence = turns(ctx, stanza, initial).await?;
    let mut actions = presence.follow;
    actions.push(Action::Presence(PresenceUpdate {
        packet: presence.stanza.pack(),
        priority,
        subscribers: presence.subscribers,
        probes: presence.probes,
        requests: presence.requests,
    }));
    Ok(actions)
}

/// Services add what they know of it.
async fn turns(
    ctx: &SessionContext,
    stanza: Stanza,
    initial: bool,
) -> Result<Presence, StanzaError> {
    let mut presence = Presence::new(stanza, initial);
    for hook in ctx.services.presences() {
        hook.turn(ctx.sender(), &mut presence).await?;
        if presence.dropped {
            break;
        }
    }
    Ok(presence)
}

/// −128 to 127, 0 where none is given; anything else is refused (IM-40).
fn priority(stanza: &Stanza) -> Result<i8, StanzaError> {
    let Some(element) = stanza.child("priority", ns::CLIENT) else {
        return Ok(0);
    };
    element
        .text()
        .trim()
        .parse()
        .or_else(|_| fail(Condition::BadRequest))
}

/// To one address, which is remembered until it is told otherwise (IM-46). No other server can be told
/// yet, and ours does not care.
fn directed(ctx: &SessionContext, to: &Jid, stanza: Stanza) -> Vec<Action> {
    match ctx.sender().target(Some(to)) {
        Target::Remote | Target::Host(_) => Vec::new(),
        Target::Own | Target::Account(_) | Target::Session(_) => {
            vec![Action::Directed(stanza.pack())]
        }
    }
}

/// An error about presence goes to the session that it answers, and to nobody else (IM-C).
fn error(ctx: &SessionContext, to: Jid, stanza: Stanza) -> Vec<Action> {
    match ctx.sender().target(Some(&to)) {
        Target::Session(session) => {
            vec![Action::Send(Relay::Presence {
                packet: stanza.pack(),
                to: vec![session],
            })]
        }
        Target::Own | Target::Account(_) | Target::Host(_) | Target::Remote => Vec::new(),
    }
}

/// Clients need not probe; one that does is shown what it may see anyway (IM-45).
async fn probe(ctx: &SessionContext, to: &Jid) -> Result<Vec<Action>, StanzaError> {
    let account: BareJid = match ctx.sender().target(Some(to)) {
        Target::Own => ctx.account.clone(),
        Target::Account(account) => account,
        Target::Session(session) => session.bare(),
        Target::Host(_) | Target::Remote => return Ok(Vec::new()),
    };
    if account != ctx.account && !permission::sees(&ctx.edge, &ctx.account, &account).await? {
        return Ok(Vec::new());
    }
    Ok(vec![Action::Send(Relay::Probe {
        from: ctx.session.clone(),
        to: vec![account],
    })])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Element;
    use proto::stanza::Kind;

    #[track_caller]
    fn check(text: Option<&str>, expect: Option<i8>) {
        let mut stanza = Stanza::new(Kind::Presence(PresenceType::Available));
        let element = text.map(|text| Element::new("priority", ns::CLIENT).with_text(text));
        stanza.payload.extend(element);
        assert_eq!(priority(&stanza).ok(), expect);
    }

    #[test]
    fn im_40_a_priority_is_a_signed_byte() {
        check(None, Some(0));
        check(Some("-128"), Some(-128));
        check(Some(" 127\n"), Some(127));
        check(Some("128"), None);
        check(Some("high"), None);
        check(Some(""), None);
    }
}
