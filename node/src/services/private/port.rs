//! Private storage as it leaves the server and comes back (XEP-0227 §4.6). Bookmarks are in a node, and go with it.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::{BareJid, Element, ns};

use super::element::{MAX_BYTES, key};
use super::settings::Quotas;
use crate::hooks::portable::{Export, ExportError, Import, ImportError, Portable, Reading};
use crate::storage::{Storage, StorageError};

/// Private elements.
pub struct Elements {
    /// What they may take.
    pub quotas: Quotas,
}

impl Elements {
    async fn write(
        storage: &Storage,
        account: &BareJid,
        out: &mut Export<'_>,
    ) -> Result<(), ExportError> {
        // One after the other: all of them together may be large.
        let names = storage.private_names(account).await?;
        if names.is_empty() {
            return Ok(());
        }
        out.open(&Element::new("query", ns::PRIVATE))?;
        for name in names {
            // It may have gone meanwhile.
            if let Some(xml) = storage.private(account, &name).await? {
                let element = Element::parse(xml);
                out.element(&element.map_err(|_| StorageError::Damaged("a private element"))?)?;
            }
        }
        Ok(out.close()?)
    }
}

impl Portable for Elements {
    fn tables(&self) -> &'static [&'static str] {
        &["private_xml"]
    }

    fn export<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
        out: &'a mut Export<'_>,
    ) -> BoxFuture<'a, Result<(), ExportError>> {
        Self::write(storage, account, out).boxed()
    }

    fn reads(&self, path: &[Element], element: &Element) -> Reading {
        match path {
            [] if element.is("query", ns::PRIVATE) => Reading::Open,
            [query] if query.is("query", ns::PRIVATE) => Reading::Take,
            _ => Reading::Foreign,
        }
    }

    fn import<'a>(&'a self, import: Import<'a>) -> BoxFuture<'a, Result<(), ImportError>> {
        async move {
            for element in import.elements {
                let (key, xml) = (key(element), element.to_xml(""));
                if xml.len() > MAX_BYTES || element.ns().is_empty() {
                    return Err(ImportError::Skipped(format!("{key} cannot be stored")));
                }
                let quotas = &self.quotas;
                let stored = import
                    .storage
                    .set_private(quotas, import.account, &key, &xml);
                stored.await?;
            }
            Ok(())
        }
        .boxed()
    }
}
