//! The card of an account as it leaves the server and comes back (XEP-0227 §4.7).

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::{BareJid, Element, ns};

use crate::hooks::portable::{Export, ExportError, Import, ImportError, Portable, Reading};
use crate::storage::{Storage, StorageError};

/// Cards.
pub struct Cards {
    /// The most bytes of one.
    pub most: u64,
}

impl Portable for Cards {
    fn tables(&self) -> &'static [&'static str] {
        &["vcard"]
    }

    fn export<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
        out: &'a mut Export<'_>,
    ) -> BoxFuture<'a, Result<(), ExportError>> {
        async move {
            let Some(xml) = storage.vcard(account).await? else {
                return Ok(());
            };
            let card = Element::parse(xml).map_err(|_| StorageError::Damaged("a vCard"))?;
            Ok(out.element(&card)?)
        }
        .boxed()
    }

    fn reads(&self, path: &[Element], element: &Element) -> Reading {
        match path.is_empty() && element.is("vCard", ns::VCARD) {
            true => Reading::Take,
            false => Reading::Foreign,
        }
    }

    fn import<'a>(&'a self, import: Import<'a>) -> BoxFuture<'a, Result<(), ImportError>> {
        async move {
            for card in import.elements {
                let xml = card.to_xml("");
                if xml.len() as u64 > self.most {
                    let why = format!("a vCard takes at most {} bytes", self.most);
                    return Err(ImportError::Skipped(why));
                }
                import.storage.set_vcard(import.account, &xml).await?;
            }
            Ok(())
        }
        .boxed()
    }
}
