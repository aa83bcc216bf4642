//! Who may see whom: whoever has a subscription, says the roster of the one who is seen.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::BareJid;

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
}
