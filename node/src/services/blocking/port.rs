//! Blocklists as they leave the server and come back: as the account itself is told them (XEP-0191).

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::{BareJid, Element, Jid, ns};

use super::items;
use super::settings::Quotas;
use crate::clock;
use crate::hooks::portable::{Export, ExportError, Import, ImportError, Portable, Reading};
use crate::storage::Storage;

/// Blocklists.
pub struct Blocklists {
    /// What one may take.
    pub quotas: Quotas,
}

impl Portable for Blocklists {
    fn tables(&self) -> &'static [&'static str] {
        &["blocklist", "blocked"]
    }

    fn export<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
        out: &'a mut Export<'_>,
    ) -> BoxFuture<'a, Result<(), ExportError>> {
        async move {
            let list = storage.blocklist(account).await?;
            if list.jids.is_empty() {
                return Ok(());
            }
            Ok(out.element(&items::element("blocklist", &list.jids))?)
        }
        .boxed()
    }

    fn reads(&self, path: &[Element], element: &Element) -> Reading {
        match path {
            [] if element.is("blocklist", ns::BLOCKING) => Reading::Open,
            [list] if list.is("blocklist", ns::BLOCKING) => Reading::Take,
            _ => Reading::Foreign,
        }
    }

    fn import<'a>(&'a self, import: Import<'a>) -> BoxFuture<'a, Result<(), ImportError>> {
        async move {
            let jids = import.elements.iter();
            let jids: Option<Vec<Jid>> =
                jids.map(|item| Jid::new(item.attr("jid")?).ok()).collect();
            let wrong = || ImportError::Skipped("a blocked address is none".to_owned());
            let jids = jids.ok_or_else(wrong)?;
            // A state that no list had, nor will have.
            let revision = (clock::random() as u64 >> 1).max(1);
            let (storage, quotas) = (import.storage, &self.quotas);
            storage
                .block(quotas, import.account, revision, &jids)
                .await?;
            Ok(())
        }
        .boxed()
    }
}
