//! Who may see whom: whoever has a subscription, says the roster of the one who is seen.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::{BareJid, Element};

use super::item;
use crate::hooks::Visibility;
use crate::storage::{Storage, StorageError};

/// Asks rosters.
pub struct Subscriptions;

impl Visibility for Subscriptions {
    fn sees<'a>(
        &'a self,
        storage: &'a Storage,
        viewer: &'a BareJid,
        account: &'a BareJid,
    ) -> BoxFuture<'a, Result<bool, StorageError>> {
        async move {
            let item = storage.contact(account, viewer).await?;
            Ok(item.is_some_and(|item| item.subscription.from()))
        }
        .boxed()
    }

    fn viewers<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>> {
        storage.subscribers(account).boxed()
    }

    /// Both rosters agree on it.
    fn visible<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>> {
        async move {
            let audience = storage.audience(account).await?;
            Ok(audience.visible)
        }
        .boxed()
    }

    fn grouped<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
        groups: &'a [String],
        contact: Option<&'a BareJid>,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>> {
        storage.grouped(account, groups, contact).boxed()
    }

    fn roster<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
    ) -> BoxFuture<'a, Result<Element, StorageError>> {
        async move {
            let roster = storage.roster(account).await?;
            Ok(item::roster(&roster))
        }
        .boxed()
    }
}
