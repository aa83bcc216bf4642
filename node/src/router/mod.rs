//! What follows from a client's stanza.
//!
//! [`resolve`] is called by a session's actor for each stanza of its client, in order, and returns the
//! actions that the account's shard will commit. It decides who is addressed and what is to be done with
//! rosters; who really gets a copy is decided by the shard when it applies the action, because only there
//! the sessions of the recipient stand still.
//!
//! # Invariants
//!
//! 1. `from` is ours: whatever the client wrote, the session's JID is stamped (ST-67).
//! 2. A stanza has an outcome: what cannot be done is answered with an error, where the stanza's type
//!    allows one, and never ends the session.
//! 3. A stanza may be resolved again, after its node died before the shard committed it. What it changed
//!    in the database meanwhile must not change what follows from it (the roster sees to that).

#![allow(
    clippy::result_large_err,
    reason = "a refusal is rare, and becomes one reply at once"
)]

pub mod classify;
mod context;
mod dispatch;
pub mod effects;
mod iq;
mod message;
#[cfg(test)]
mod newcomer;
mod presence;
#[cfg(test)]
pub(crate) mod testing;

pub use context::SessionContext;

use cluster::session::{Action, Relay};
use proto::stanza::error::{Condition, StanzaError};
use proto::stanza::{Kind, Stanza};

use crate::hooks::refuse;

/// What follows from a stanza of a bound session's client; possibly nothing.
pub async fn resolve(ctx: &SessionContext, mut stanza: Stanza) -> Vec<Action> {
    stanza.header.from = Some(ctx.session.clone());
    let header = stanza.header.clone();
    let outcome = match header.kind {
        Kind::Message(kind) => message::resolve(ctx, kind, stanza).await,
        Kind::Presence(kind) => presence::resolve(ctx, kind, stanza).await,
        Kind::Iq(_) => iq::resolve(ctx, stanza).await,
    };
    match outcome {
        // Nothing after the acknowledgement may find that it is too much.
        Ok(actions) if actions.iter().any(is_oversize) => {
            refuse(&header, &StanzaError::new(Condition::PolicyViolation))
        }
        Ok(actions) => actions,
        Err(error) => refuse(&header, &error),
    }
}

/// What the client wants to have sent on is larger, as it is written, than what is kept.
fn is_oversize(action: &Action) -> bool {
    match action {
        Action::Send(Relay::Message(message)) => message.packet.is_oversize(),
        Action::Send(
            Relay::Iq { packet, .. }
            | Relay::Presence { packet, .. }
            | Relay::Subscription(packet)
            | Relay::RosterPush { packet, .. }
            | Relay::Announcement { packet, .. },
        )
        | Action::Directed(packet) => packet.is_oversize(),
        Action::Send(Relay::Event { event, .. }) => event.packet.is_oversize(),
        Action::Blocklist(update) => update.push.is_oversize(),
        Action::Presence(update) => update.packet.is_oversize(),
        Action::Send(_)
        | Action::Reply(_)
        | Action::Carbons(_)
        | Action::Interested
        | Action::FollowsBlocklist
        | Action::BlocklistAt(_)
        | Action::ArchiveStated
        | Action::Interest(_)
        | Action::PushEnabled(_)
        | Action::Result { .. } => false,
    }
}
