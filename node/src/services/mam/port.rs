//! Archives and preferences as they leave the server and come back (XEP-0227 §4.5, §4.11; XEP-0441).
//!
//! Messages that only wait for their user, and that the archive does not show, are written as offline messages. They are
//! not read back: what waits for whom is known to the shard, and the shard of a new account knows of nothing.

use cluster::session::ArchiveRow;
use cluster::{ArchiveId, Order};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::payload::delay;
use proto::payload::forward;
use proto::stanza::{Kind, Stanza};
use proto::{BareJid, Element, ns};

use super::preferences;
use super::storage::Entry;
use crate::clock;
use crate::hooks::portable::{Export, ExportError, Import, ImportError, Portable, Reading};
use crate::storage::Storage;

/// Names what the archive shows.
const ARCHIVE: &str = "urn:xmpp:pie:0#mam";
/// Names what waits.
const PIE: &str = "urn:xmpp:pie:0";
/// Messages that are read at a time.
const PAGE: u32 = 100;

/// How far the clocks may be apart of who names a message and who notes when it came, in milliseconds.
const DAY: u64 = 86_400_000;

/// Archives.
pub struct Archives;

impl Archives {
    async fn write(
        storage: &Storage,
        account: &BareJid,
        out: &mut Export<'_>,
    ) -> Result<(), ExportError> {
        if let Some(stated) = storage.archive_preferences(account).await? {
            out.element(&preferences::element(&stated))?;
        }
        for hidden in [true, false] {
            let mut behind = None;
            loop {
                let page = storage.archive_of(account, hidden, behind, PAGE).await?;
                if behind.is_none() && !page.is_empty() {
                    out.open(&match hidden {
                        true => Element::new("offline-messages", PIE),
                        false => Element::new("archive", ARCHIVE),
                    })?;
                }
                let Some(last) = page.last() else { break };
                behind = Some(last.order);
                for entry in &page {
                    match entry.stanza.read() {
                        Ok(stanza) => out.element(&written(account, &stanza, entry, hidden))?,
                        // One that is damaged must not keep the others here.
                        Err(error) => {
                            tracing::error!(mid = %entry.mid, %error, "an archived message cannot be read")
                        }
                    }
                }
            }
            if behind.is_some() {
                out.close()?;
            }
        }
        Ok(())
    }
}

fn written(account: &BareJid, stanza: &Stanza, entry: &Entry, hidden: bool) -> Element {
    let stamp = Element::new("delay", ns::DELAY).with_attr("stamp", delay::stamp(entry.stamp));
    if hidden {
        let stamp = stamp.with_attr("from", account.domain());
        return stanza.to_element().with_child(stamp);
    }
    Element::new("result", ns::MAM)
        .with_attr("id", entry.mid.to_string())
        .with_child(forward::forwarded(stanza.to_element(), Some(stamp)))
}

impl Portable for Archives {
    fn tables(&self) -> &'static [&'static str] {
        &["archive_name", "archive_preference", "archive_exception"]
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
            [] if element.is("archive", ARCHIVE) => Reading::Open,
            [] if element.is("prefs", ns::MAM) => Reading::Take,
            [archive] if archive.is("archive", ARCHIVE) => Reading::Take,
            _ => Reading::Foreign,
        }
    }

    fn import<'a>(&'a self, import: Import<'a>) -> BoxFuture<'a, Result<(), ImportError>> {
        async move {
            let (storage, account) = (import.storage, import.account);
            if import.path.is_empty() {
                for element in import.elements {
                    let stated = preferences::stated(element);
                    let stated = stated.map_err(|_| skipped("archive preferences"))?;
                    storage.set_archive_preferences(account, &stated).await?;
                }
                return Ok(());
            }
            let mut rows = Vec::with_capacity(import.elements.len());
            for (number, element) in (import.number + 1..).zip(import.elements) {
                let row = row(account, number, element);
                rows.push(row.ok_or_else(|| skipped("an archived message"))?);
            }
            Ok(storage.archive_anew(&rows).await?)
        }
        .boxed()
    }
}

fn skipped(what: &str) -> ImportError {
    ImportError::Skipped(format!("{what} cannot be read"))
}

/// A message that was archived elsewhere, or here.
///
/// Its number is its place. Places that shards give are times, so that what comes later lies behind all of these.
fn row(account: &BareJid, number: u64, result: &Element) -> Option<ArchiveRow> {
    let forwarded = result.child("forwarded", ns::FORWARD)?;
    let stamp = forwarded.child("delay", ns::DELAY)?.attr("stamp")?;
    let stamp = delay::parse_stamp(stamp)?;
    let stanza = Stanza::parse(forwarded.child("message", ns::CLIENT)?.clone()).ok()?;
    let Kind::Message(_) = stanza.header.kind else {
        return None;
    };
    let (from, to) = (stanza.header.from.clone(), stanza.header.to.clone());
    // A message of the account's own may be to itself, and one to it may name nobody.
    let with = from.filter(|from| !from.belongs_to(account)).or(to);
    // What is too old is found by its id, so none may claim to be from later than its message is.
    let is_true = |id: &ArchiveId| id.0 <= ArchiveId::new(stamp.saturating_add(DAY), 0).0;
    let id = result.attr("id").and_then(|id| id.parse().ok());
    let id = id.filter(is_true);
    Some(ArchiveRow {
        owner: account.clone(),
        mid: id.unwrap_or_else(|| ArchiveId::new(stamp, clock::random())),
        order: Order(number),
        with: with.unwrap_or_else(|| account.clone().into()),
        stamp,
        hidden: false,
        packet: stanza.pack(),
    })
}
