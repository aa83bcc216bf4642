//! What a node has for everybody who works on stanzas: routers, services and what they follow up.

use std::sync::Arc;

use cluster::ArchiveId;
use cluster::session::{ArchiveRow, Effect};
use futures_util::future::BoxFuture;
use proto::stanza::error::StanzaError;
use proto::{BareJid, Jid};

use super::barrier::Blocking;
use super::nodes::Nodes;
use super::refusal::failure;
use super::visibility::Visibility;
use crate::auth::Accounts;
use crate::storage::Storage;
use crate::trace::Trail;

/// What the sessions and services of a node share.
pub struct Edge {
    /// The domains that are served here, prepared.
    pub domains: Vec<String>,
    /// The database.
    pub storage: Storage,
    /// Which accounts exist.
    pub accounts: Accounts,
    /// What the shards hold.
    pub presences: Arc<dyn Presences>,
    /// Who may see whom.
    pub visibility: Arc<dyn Visibility>,
    /// Who has blocked whom.
    pub blocking: Arc<dyn Blocking>,
    /// The nodes of accounts.
    pub nodes: Arc<dyn Nodes>,
    /// What became of messages.
    pub trail: Trail,
    /// The wall clock, in milliseconds since 1970.
    pub now: fn() -> u64,
    /// A source of random numbers that cannot be guessed.
    pub random: fn() -> u128,
    /// When the node started, by the same clock.
    pub started: u64,
}

/// Looks into the replicated state, which may lag a little.
pub trait Presences: Send + Sync {
    /// The account's available sessions.
    fn available<'a>(&'a self, account: &'a BareJid) -> BoxFuture<'a, Vec<Jid>>;
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

impl ArchiveTail {
    /// The rows themselves.
    pub fn archived(&self) -> impl Iterator<Item = &ArchiveRow> {
        self.rows.iter().filter_map(|effect| match &**effect {
            Effect::Archive(row) => Some(row),
            _ => None,
        })
    }
}

impl Edge {
    /// The domain is served here.
    pub fn serves(&self, domain: &str) -> bool {
        self.domains.iter().any(|ours| ours == domain)
    }

    /// A new archive id.
    pub fn archive_id(&self) -> ArchiveId {
        ArchiveId::new((self.now)(), (self.random)())
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
