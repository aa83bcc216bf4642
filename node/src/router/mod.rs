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
//!    in the database meanwhile must not change what follows from it (see [`contact`]).

#![allow(
    clippy::result_large_err,
    reason = "a refusal is rare, and becomes one reply at once"
)]

pub mod classify;
pub mod contact;
mod iq;
mod message;
mod presence;
pub mod subscribe;
pub mod subscription;
#[cfg(test)]
pub(crate) mod testing;

use crate::trace::Trail;
use std::sync::Arc;

use cluster::Mid;
use cluster::session::{Action, Effect, Relay};
use futures_util::future::BoxFuture;
use proto::stanza::error::{self, Condition, ErrorType, StanzaError};
use proto::stanza::{Header, Kind, Stanza};
use proto::{BareJid, Jid};

use crate::auth::Accounts;
use crate::config::{Archive, Push};
use crate::hooks::Registry;
use crate::services::Quota;
use crate::storage::{Storage, StorageError};

/// What the sessions of a node share when they resolve stanzas.
pub struct Edge {
    /// The domains that are served here, prepared.
    pub domains: Vec<String>,
    /// The database.
    pub storage: Storage,
    /// Which accounts exist.
    pub accounts: Accounts,
    /// Who answers which iq.
    pub services: Registry,
    /// What the shards hold.
    pub presences: Arc<dyn Presences>,
    /// What is kept of messages.
    pub archive: Archive,
    /// What services learn that wake users' devices.
    pub push: Push,
    /// How full archives are.
    pub quota: Quota,
    /// What became of messages.
    pub trail: Trail,
    /// The wall clock, in milliseconds since 1970.
    pub now: fn() -> u64,
    /// A source of random numbers that cannot be guessed.
    pub random: fn() -> u128,
    /// When the node started, by the same clock.
    pub started: u64,
}

/// Looks into the replicated state on this node, which may lag a little.
pub trait Presences: Send + Sync {
    /// The account's available sessions.
    fn available(&self, account: &BareJid) -> Vec<Jid>;
    /// What belongs to the account's archive and may not be there yet.
    fn archive_tail<'a>(&'a self, account: &'a BareJid) -> BoxFuture<'a, ArchiveTail>;
}

/// See [`Presences::archive_tail`] and [`cluster::session::ShardState::archive_tail`].
#[derive(Default)]
pub struct ArchiveTail {
    /// Rows that are still to be written.
    pub rows: Vec<Arc<Effect>>,
    /// The shard could be asked; else this is what this node knew of it, and messages may be missing.
    pub current: bool,
}

impl Edge {
    /// The domain is served here.
    pub fn serves(&self, domain: &str) -> bool {
        self.domains.iter().any(|ours| ours == domain)
    }

    /// A new archive id.
    pub fn mid(&self) -> Mid {
        Mid::new((self.now)(), (self.random)())
    }

    /// An id for a stanza of our own (ST-74).
    pub fn stanza_id(&self) -> Box<str> {
        format!("{:032x}", (self.random)()).into()
    }

    /// The account exists. One's own does, or there would be no session.
    pub async fn exists(&self, account: &BareJid) -> Result<bool, StanzaError> {
        if !self.serves(account.domain()) || account.local().is_none() {
            return Ok(false);
        }
        self.accounts
            .exists(account)
            .await
            .map_err(|error| failure(&error))
    }
}

/// The session whose stanza is resolved.
#[derive(Clone)]
pub struct SessionContext {
    /// What it shares with the others of the node.
    pub edge: Arc<Edge>,
    /// Its full JID.
    pub session: Jid,
    /// Its account.
    pub account: BareJid,
    /// Its last presence without an address was an available one.
    pub available: bool,
}

/// Where a stanza goes.
#[derive(Clone, Debug, PartialEq)]
enum Target {
    /// The sender's own bare JID, named or implied.
    Own,
    /// A domain of ours, with or without a resource.
    Host(BareJid),
    /// Another account of a domain of ours.
    Account(BareJid),
    /// A session of an account of ours, perhaps of the sender's own.
    Session(Jid),
    /// A domain that is not ours.
    Remote,
}

fn target(ctx: &SessionContext, to: Option<&Jid>) -> Target {
    let Some(to) = to else {
        return Target::Own;
    };
    if !ctx.edge.serves(to.domain()) {
        return Target::Remote;
    }
    let bare = to.bare();
    match (to.local(), to.is_bare()) {
        (None, _) => Target::Host(bare),
        (Some(_), true) if bare == ctx.account => Target::Own,
        (Some(_), true) => Target::Account(bare),
        (Some(_), false) => Target::Session(to.clone()),
    }
}

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
            | Relay::Push { packet, .. }
            | Relay::Notice { packet, .. },
        )
        | Action::Directed(packet) => packet.is_oversize(),
        Action::Presence(update) => update.packet.is_oversize(),
        Action::Send(_)
        | Action::Reply(_)
        | Action::Carbons(_)
        | Action::Interested
        | Action::Push(_)
        | Action::Result { .. } => false,
    }
}

/// The error reply, if the stanza may have one (ST-77).
pub fn refuse(header: &Header, error: &StanzaError) -> Vec<Action> {
    error::reply(header, error)
        .map(Action::Reply)
        .into_iter()
        .collect()
}

/// A condition with its usual type.
pub(crate) fn fail<T>(condition: Condition) -> Result<T, StanzaError> {
    Err(StanzaError::new(condition))
}

/// What the client is told when the database has not done its part: nothing has happened, and unless
/// there is too much of something, the same may succeed later.
pub(crate) fn failure(error: &StorageError) -> StanzaError {
    match error {
        StorageError::Full(full) => {
            StanzaError::new(Condition::ResourceConstraint).with_text(full.to_string())
        }
        StorageError::Oversize(_) => StanzaError::new(Condition::ResourceConstraint),
        _ => {
            tracing::warn!(%error, "a stanza cannot be resolved");
            StanzaError::new(Condition::InternalServerError).with_type(ErrorType::Wait)
        }
    }
}
