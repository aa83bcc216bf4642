//! Questions about a shard that any node may ask, and that a replica answers.
//!
//! A node without a replica of the shard sends the question to one that has it, so questions and answers are encoded.

use std::sync::Arc;

use proto::{BareJid, Jid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::limits::Override;
use super::output::{Event, Unheard};
use super::quota::Quota;
use super::resume::NotResumable;
use super::state::ShardState;
use super::view::SessionView;
use crate::codec;
use crate::id::{ArchiveId, BootId, ConnId, Epoch, NodeId, SmId};

/// So many bytes of stanzas are one answer, roughly: a queue may have more than may travel together.
const PAGE: usize = 1 << 20;

/// A question about a shard. Answering it must be quick: entries wait meanwhile.
pub trait Query: Into<AnyQuery> + Clone + Send + Sync {
    /// The answer.
    type Answer: Serialize + DeserializeOwned + Send;

    /// What this state says.
    fn answer(&self, state: &ShardState) -> Self::Answer;
}

macro_rules! queries {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* } => $answer:ty, $look:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Serialize, Deserialize)]
            pub struct $name {
                $(#[allow(missing_docs, reason = "the question says it")] pub $field: $type),*
            }

            impl Query for $name {
                type Answer = $answer;

                fn answer(&self, state: &ShardState) -> $answer {
                    let look: fn(&Self, &ShardState) -> $answer = $look;
                    look(self, state)
                }
            }

            impl From<$name> for AnyQuery {
                fn from(query: $name) -> Self {
                    Self::$name(query)
                }
            }
        )*

        /// One of the questions, as it travels. Variants are only ever added, at the end.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub enum AnyQuery {
            $(#[allow(missing_docs, reason = "see the question")] $name($name)),*
        }

        impl AnyQuery {
            /// The encoded answer.
            pub(crate) fn answer(&self, state: &ShardState) -> Vec<u8> {
                match self {
                    $(Self::$name(query) => codec::encode(&query.answer(state))),*
                }
            }
        }
    };
}

queries! {
    /// The sessions of an account.
    Sessions { account: BareJid } => Vec<SessionView>,
        |query, state| state.sessions(&query.account);

    /// The session of the account that has this identifier.
    Resumable { account: BareJid, smid: SmId } => Result<Jid, NotResumable>,
        |query, state| state.resumable(&query.account, &query.smid);

    /// The next stanzas that the owner of a session with this epoch has to write, from a number on; none if there are
    /// no more. `None` if it no longer owns the session.
    Missed { session: Jid, epoch: Epoch, from: u64 } => Option<Unheard>,
        |query, state| {
            let mut missed = state.missed(&query.session, query.epoch, query.from)?;
            let mut bytes = 0;
            let fits = missed.stanzas.iter().take_while(|(_, item)| {
                let fits = bytes < PAGE;
                bytes += item.packet.payload.len();
                fits
            });
            let count = fits.count();
            missed.stanzas.truncate(count);
            Some(missed)
        };

    /// Whether some connection owns a session with this epoch.
    IsOwned { session: Jid, epoch: Epoch } => bool,
        |query, state| state.missed(&query.session, query.epoch, u64::MAX).is_some();

    /// An account's sessions as limits see them.
    QuotaOf { account: BareJid } => Quota,
        |query, state| state.quota(&query.account);

    /// The limits that were set for an account.
    OverrideOf { account: BareJid } => Override,
        |query, state| state.override_of(&query.account);

    /// The available sessions of an account.
    Available { account: BareJid } => Vec<Jid>,
        |query, state| {
            let presences = state.presences(&query.account).into_iter();
            presences.map(|(session, _)| session).collect()
        };

    /// The rows for an account's archive that are not yet reported as written.
    ArchiveTail { account: BareJid } => Vec<Arc<Effect>>,
        |query, state| state.archive_tail(&query.account);

    /// Those of the messages that nobody holds and that wait for nobody.
    NotHeld { account: BareJid, mids: Vec<ArchiveId> } => Vec<ArchiveId>,
        |query, state| state.not_held(&query.account, query.mids.clone());

    /// Sessions of the shard that connections of a process own. They come from some accounts behind `after`; the
    /// second value is where the next question has to begin.
    Owned { process: (NodeId, BootId), after: Option<BareJid> }
        => (Vec<(Jid, Epoch, ConnId)>, Option<BareJid>),
        |query, state| state.owned_by(query.process, query.after.as_ref());

    /// The first `max` sessions of the shard behind an address.
    SessionsAfter { after: String, max: usize } => Vec<SessionView>,
        |query, state| state.sessions_after(&query.after, query.max);

    /// The node at which the session that may be resumed under this identifier has its connection, or had its last.
    LastNode { account: BareJid, smid: SmId } => Option<NodeId>,
        |query, state| state.last_node(&query.account, &query.smid);

    /// Whether connections of earlier runs of a node own sessions.
    HasEarlier { process: (NodeId, BootId) } => bool,
        |query, state| {
            let (node, boot) = query.process;
            let owners = state.owners();
            owners.into_iter().any(|owner| owner.0 == node && owner.1 != boot)
        };

    /// What the owner of a session with this epoch should have heard first. `None` if the replica knows of no such
    /// owner (yet, or any more).
    Opened { session: Jid, epoch: Epoch } => Option<Event>,
        |query, state| state.opened(&query.session, query.epoch);

    /// The state of an account's blocklist that the shard knows; 0 = none.
    BlocklistRevision { account: BareJid } => u64,
        |query, state| state.blocklist_revision(&query.account);

    /// Whether the shard knows that the account has said what its archive is to keep.
    ArchiveIsStated { account: BareJid } => bool,
        |query, state| state.archive_is_stated(&query.account);

    /// Accounts of a domain that have sessions. They come from some accounts behind `after`; the second value is where
    /// the next question has to begin.
    Online { domain: String, after: Option<BareJid> } => (Vec<BareJid>, Option<BareJid>),
        |query, state| state.online(&query.domain, query.after.as_ref());
}
