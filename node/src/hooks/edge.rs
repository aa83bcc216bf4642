//! What a node has for everybody who works on stanzas: routers, services and what they follow up.

use std::sync::Arc;

use cluster::ArchiveId;
use cluster::session::{Action, ArchiveRow, Effect, Relay};
use futures_util::future::BoxFuture;
use proto::payload::disco::Item;
use proto::stanza::error::StanzaError;
use proto::{BareJid, Element, Jid};

use super::barrier::Blocking;
use super::contacts::Farewell;
use super::nodes::{NodeInfo, Replacement, Told};
use super::refusal::failure;
use super::visibility::Visibility;
use crate::auth::Accounts;
use crate::storage::{Storage, StorageError};
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
    /// The contacts of accounts.
    pub contacts: Arc<dyn Contacts>,
    /// What became of messages.
    pub trail: Trail,
    /// The wall clock, in milliseconds since 1970.
    pub now: fn() -> u64,
    /// A source of random numbers that cannot be guessed.
    pub random: fn() -> u128,
    /// When the node started, by the same clock.
    pub started: u64,
    /// Who administers the server.
    pub administrators: Vec<BareJid>,
}

/// Knows the nodes of accounts. Where no service does, there are none.
pub trait Nodes: Send + Sync + 'static {
    /// The nodes of the account that the viewer may read.
    fn list<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
    ) -> Told<'a, Vec<Item>>;

    /// What one of them is, if it is one that the viewer may read.
    fn info<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
        node: &'a str,
    ) -> Told<'a, Option<NodeInfo>>;

    /// What is in it, if it is one that the viewer may read.
    fn contents<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
        node: &'a str,
    ) -> Told<'a, Option<Vec<Item>>>;

    /// One item of a node, the newest or the one with this id, if the viewer may read it.
    fn item<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
        node: &'a str,
        id: Option<&'a str>,
    ) -> Told<'a, Option<(String, Element)>>;

    /// The items of a node of one's own, with their ids, the oldest first.
    fn items<'a>(
        &'a self,
        edge: &'a Edge,
        account: &'a BareJid,
        node: &'a str,
    ) -> Told<'a, Vec<(String, Element)>>;

    /// Changes the items of a node of one's own; returns what follows.
    fn replace<'a>(
        &'a self,
        edge: &'a Edge,
        account: &'a BareJid,
        node: &'a str,
        replacement: Replacement,
    ) -> Told<'a, Vec<Action>>;
}

/// There are no nodes.
pub(super) struct NoNodes;

fn at_once<'a, T: Send + 'a>(answer: T) -> Told<'a, T> {
    Box::pin(std::future::ready(Ok(answer)))
}

impl Nodes for NoNodes {
    fn list<'a>(&'a self, _: &'a Edge, _: &'a BareJid, _: &'a BareJid) -> Told<'a, Vec<Item>> {
        at_once(Vec::new())
    }

    fn info<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a BareJid,
        _: &'a str,
    ) -> Told<'a, Option<NodeInfo>> {
        at_once(None)
    }

    fn contents<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a BareJid,
        _: &'a str,
    ) -> Told<'a, Option<Vec<Item>>> {
        at_once(None)
    }

    fn item<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a BareJid,
        _: &'a str,
        _: Option<&'a str>,
    ) -> Told<'a, Option<(String, Element)>> {
        at_once(None)
    }

    fn items<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a str,
    ) -> Told<'a, Vec<(String, Element)>> {
        at_once(Vec::new())
    }

    fn replace<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a str,
        _: Replacement,
    ) -> Told<'a, Vec<Action>> {
        at_once(Vec::new())
    }
}

/// Keeps rosters. Where no service does, nobody has contacts.
pub trait Contacts: Send + Sync + 'static {
    /// Makes two accounts contacts that see each other. Returns what their clients are pushed.
    fn befriend<'a>(
        &'a self,
        edge: &'a Edge,
        one: &'a BareJid,
        other: &'a BareJid,
    ) -> BoxFuture<'a, Result<Vec<Relay>, StorageError>>;

    /// The next contacts of an account that is gone who have not heard of it.
    fn untold<'a>(
        &'a self,
        edge: &'a Edge,
        leaver: &'a BareJid,
    ) -> BoxFuture<'a, Result<Option<Farewell>, StorageError>>;

    /// These have.
    fn told<'a>(
        &'a self,
        edge: &'a Edge,
        leaver: &'a BareJid,
        contacts: &'a [BareJid],
    ) -> BoxFuture<'a, Result<(), StorageError>>;
}

/// Nobody has contacts.
pub(super) struct NoContacts;

impl Contacts for NoContacts {
    fn befriend<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a BareJid,
    ) -> BoxFuture<'a, Result<Vec<Relay>, StorageError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn untold<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
    ) -> BoxFuture<'a, Result<Option<Farewell>, StorageError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn told<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a [BareJid],
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Looks into the replicated state, which may lag a little.
pub trait Presences: Send + Sync {
    /// All sessions of the account, whether they are available or not, and connected or not.
    fn sessions<'a>(&'a self, account: &'a BareJid) -> BoxFuture<'a, Vec<Jid>>;
    /// The accounts of a domain that have sessions: how many, and the first `most` of them by address. It takes time in
    /// proportion to how many there are.
    fn online<'a>(&'a self, domain: &'a str, most: usize) -> Told<'a, Online>;
    /// The account's available sessions.
    fn available<'a>(&'a self, account: &'a BareJid) -> BoxFuture<'a, Vec<Jid>>;
    /// What belongs to the account's archive and may not be there yet.
    fn archive_tail<'a>(&'a self, account: &'a BareJid) -> BoxFuture<'a, ArchiveTail>;
}

/// See [`Presences::online`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Online {
    /// How many accounts have sessions.
    pub count: usize,
    /// Some of them.
    pub first: Vec<BareJid>,
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
