//! Rosters as they leave the server and come back (XEP-0227 §4.4, §4.9).
//!
//! What is read concerns the one roster only: nobody hears of it, and what contacts have in theirs stays as it is.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::{BareJid, Element, Jid, ns};

use super::entry::Entry;
use super::settings::{MAX_TEXT, Quotas};
use super::storage::{Change, RosterItem, Subscription};
use super::{contact, item};
use crate::hooks::portable::{Export, ExportError, Import, ImportError, Portable, Reading};
use crate::storage::Storage;

/// Rosters.
pub struct Contacts {
    /// What one may take.
    pub quotas: Quotas,
}

impl Contacts {
    async fn write(
        storage: &Storage,
        account: &BareJid,
        out: &mut Export<'_>,
    ) -> Result<(), ExportError> {
        let roster = storage.roster(account).await?;
        out.open(&Element::new("query", ns::ROSTER))?;
        for listed in roster.items.iter().filter(|item| item.listed) {
            out.element(&item::element(&listed.jid, &Entry::from(listed)))?;
        }
        out.close()?;
        let requests = roster.items.iter().filter_map(|item| item.request.as_ref());
        for request in requests.filter_map(|xml| contact::read(xml)) {
            if let Ok(stanza) = request.unpack() {
                out.element(&stanza.to_element())?;
            }
        }
        Ok(())
    }

    async fn read(&self, import: &Import<'_>, element: &Element) -> Result<(), ImportError> {
        let (jid, change) = match element.is("item", ns::ROSTER) {
            true => listed(element, self.quotas)?,
            false => asked(element)?,
        };
        if jid == *import.account {
            return Err(skipped("nobody is a contact of their own"));
        }
        let (storage, account) = (import.storage, import.account);
        let put = storage.update_contact(self.quotas, account, &jid, None, |before| {
            let item = before
                .cloned()
                .unwrap_or_else(|| RosterItem::new(jid.clone()));
            Change::Put(change(item))
        });
        put.await?;
        Ok(())
    }
}

impl Portable for Contacts {
    fn tables(&self) -> &'static [&'static str] {
        &["roster"]
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
            [] if element.is("query", ns::ROSTER) => Reading::Open,
            [] if element.is("presence", ns::CLIENT) => Reading::Take,
            [query] if query.is("query", ns::ROSTER) => Reading::Take,
            _ => Reading::Foreign,
        }
    }

    fn import<'a>(&'a self, import: Import<'a>) -> BoxFuture<'a, Result<(), ImportError>> {
        async move {
            for element in import.elements {
                self.read(&import, element).await?;
            }
            Ok(())
        }
        .boxed()
    }
}

fn skipped(why: &str) -> ImportError {
    ImportError::Skipped(why.to_owned())
}

fn address(text: Option<&str>) -> Result<BareJid, ImportError> {
    let jid = text.and_then(|jid| Jid::new(jid).ok());
    jid.map(|jid| jid.bare())
        .ok_or_else(|| skipped("a contact has no address"))
}

type Edit = Box<dyn FnOnce(RosterItem) -> RosterItem + Send>;

/// A contact of the roster.
fn listed(element: &Element, quotas: Quotas) -> Result<(BareJid, Edit), ImportError> {
    let jid = address(element.attr("jid"))?;
    let subscription = element.attr("subscription").unwrap_or("none");
    let subscription = Subscription::parse(subscription)
        .ok_or_else(|| ImportError::Skipped(format!("{jid} has an unknown subscription")))?;
    let name = element.attr("name").filter(|name| !name.is_empty());
    let groups = element.elements().filter(|e| e.is("group", ns::ROSTER));
    let mut groups: Vec<String> = groups.map(Element::text).collect();
    groups.sort();
    groups.dedup();
    let texts = name.into_iter().chain(groups.iter().map(String::as_str));
    let long = texts.clone().any(|text| text.len() > MAX_TEXT);
    let empty = groups.iter().any(String::is_empty);
    if long || empty || groups.len() as u64 > quotas.roster_groups {
        return Err(ImportError::Skipped(format!(
            "{jid} has too much of a name or group"
        )));
    }
    let name = name.map(str::to_owned);
    // Whoever sees a contact does not ask for it any more.
    let ask = element.attr("ask") == Some("subscribe") && !subscription.to();
    let approved = matches!(element.attr("approved"), Some("true" | "1"));
    let edit = move |item| RosterItem {
        listed: true,
        name,
        subscription,
        ask,
        approved,
        groups,
        ..item
    };
    Ok((jid, Box::new(edit)))
}

/// A request of somebody that awaits an answer.
fn asked(element: &Element) -> Result<(BareJid, Edit), ImportError> {
    if element.attr("type") != Some("subscribe") {
        return Err(skipped("presence that is no request"));
    }
    let jid = address(element.attr("from"))?;
    let packet = proto::stanza::Stanza::parse(element.clone());
    let packet = packet.map_err(|_| ImportError::Skipped(format!("the request of {jid}")))?;
    let xml = contact::written(&packet.pack());
    let edit = move |item: RosterItem| {
        // Whoever sees the account has nothing to ask for.
        let request = (!item.subscription.from()).then_some(xml);
        RosterItem { request, ..item }
    };
    Ok((jid, Box::new(edit)))
}
