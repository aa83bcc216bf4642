//! What a service says about who has blocked whom.
//!
//! The shards turn away what is blocked. Here is asked only for what never reaches a shard: requests that the server
//! answers in the name of somebody else, and stanzas that are refused for another reason anyway.

use futures_util::future::BoxFuture;
use proto::{BareJid, Jid};

use crate::storage::{Storage, StorageError};

/// Which side of two has blocked the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// The account of the sender.
    Own,
    /// The account that is addressed.
    Other,
}

/// Knows who has blocked whom. Where no service does, nobody has.
pub trait Blocking: Send + Sync + 'static {
    /// What stands between the two, the sender's own side first.
    fn between<'a>(
        &'a self,
        storage: &'a Storage,
        sender: &'a Jid,
        to: &'a Jid,
    ) -> BoxFuture<'a, Result<Option<Barrier>, StorageError>>;

    /// Which of the accounts have blocked `peer`.
    fn blockers<'a>(
        &'a self,
        storage: &'a Storage,
        accounts: &'a [BareJid],
        peer: &'a Jid,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>>;
}

/// Nobody has blocked anybody.
pub(super) struct Open;

impl Blocking for Open {
    fn between<'a>(
        &'a self,
        _: &'a Storage,
        _: &'a Jid,
        _: &'a Jid,
    ) -> BoxFuture<'a, Result<Option<Barrier>, StorageError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn blockers<'a>(
        &'a self,
        _: &'a Storage,
        _: &'a [BareJid],
        _: &'a Jid,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}
