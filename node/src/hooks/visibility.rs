//! What a service says about who may see whom.

use futures_util::future::BoxFuture;
use proto::{BareJid, Element, ns};

use crate::storage::{Storage, StorageError};

/// Knows who may see whose presence. Where no service does, nobody may.
pub trait Visibility: Send + Sync + 'static {
    /// `viewer` may see the presence of `account`.
    fn sees<'a>(
        &'a self,
        storage: &'a Storage,
        viewer: &'a BareJid,
        account: &'a BareJid,
    ) -> BoxFuture<'a, Result<bool, StorageError>>;

    /// Who may see the presence of `account`.
    fn viewers<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>>;

    /// Whose presence `account` may see.
    fn visible<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>>;

    /// Whom `account` has put into one of these groups; of all of them, or of this contact alone.
    fn grouped<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
        groups: &'a [String],
        contact: Option<&'a BareJid>,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>>;

    /// The roster of `account` as it is shown to itself.
    fn roster<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
    ) -> BoxFuture<'a, Result<Element, StorageError>>;
}

/// Nobody may see anybody.
pub(super) struct Nobody;

impl Visibility for Nobody {
    fn sees<'a>(
        &'a self,
        _: &'a Storage,
        _: &'a BareJid,
        _: &'a BareJid,
    ) -> BoxFuture<'a, Result<bool, StorageError>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn viewers<'a>(
        &'a self,
        _: &'a Storage,
        _: &'a BareJid,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn visible<'a>(
        &'a self,
        _: &'a Storage,
        _: &'a BareJid,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn grouped<'a>(
        &'a self,
        _: &'a Storage,
        _: &'a BareJid,
        _: &'a [String],
        _: Option<&'a BareJid>,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn roster<'a>(
        &'a self,
        _: &'a Storage,
        _: &'a BareJid,
    ) -> BoxFuture<'a, Result<Element, StorageError>> {
        Box::pin(std::future::ready(Ok(Element::new("query", ns::ROSTER))))
    }
}
