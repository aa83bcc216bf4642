//! XEP-0313: Message Archive Management, for the archive of one's own account.
//!
//! Rows are written as effects of the shard (`services::effects`); here they are only read. Results go
//! out before the iq result that ends the page, as one entry of the log (IM-90).

mod page;
mod query;

use cluster::session::Action;
use proto::payload::delay;
use proto::payload::form::{Form, FormType};
use proto::stanza::error::{Condition, StanzaError};
use proto::{Element, ns};

use self::query::Query;
use crate::empty_payload;
use crate::hooks::{Reply, Request, Scope, Service, Setup, Xep};
use crate::router::{fail, failure};
use crate::storage::{Page, Place, StorageError};

/// The service.
pub const SERVICE: Service = Service::new("mam", &[Xep(313, "1.1.3"), Xep(441, "0.2.0")], register);

const OWN: [Scope; 1] = [Scope::Account];

fn register(setup: &mut Setup<'_>) {
    setup.iq_set(&OWN, find);
    setup.iq_get(&OWN, fields);
    setup.iq_get(&OWN, metadata);
    setup.iq_get(&OWN, preferences);
    setup.iq_set(&OWN, set_preferences);
    for feature in [ns::MAM_EXTENDED, ns::SID, "urn:xmpp:mam:2#groupchat-field"] {
        setup.feature(&OWN, feature);
    }
}

async fn find(request: Request<Query>) -> Result<Reply, StanzaError> {
    let (query, account) = (&request.payload, &request.account);
    let (found, count) = look(&request).await.map_err(|error| failure(&error))?;
    let Some(found) = found else {
        return fail(Condition::ItemNotFound);
    };
    let found = page::bounded(found, matches!(query.place, Place::Before(_) | Place::Last));

    let mut results = Vec::with_capacity(found.entries.len());
    for entry in &found.entries {
        match page::result(account, &request.session, query.id.as_deref(), entry) {
            Ok(packet) => results.push(Action::Reply(packet)),
            // One unreadable row must not hide all others.
            Err(error) => {
                tracing::error!(mid = %entry.mid, %error, "an archived message cannot be read")
            }
        }
    }
    if query.flip {
        results.reverse();
    }
    let reply = Reply::new(page::fin(&found, count)).after_all(results);
    // Who catches up with everything before becoming available wants no second copy of it (IM-63).
    let catches_up =
        !request.available && query.filter.with.is_none() && query.filter.ids.is_none();
    Ok(if catches_up {
        reply.after(Action::ArchiveAware)
    } else {
        reply
    })
}

/// The page, or nothing if the query names what is not there; the count if that is all that is wanted.
async fn look(request: &Request<Query>) -> Result<(Option<Page>, Option<u64>), StorageError> {
    let (query, account, storage) = (&request.payload, &request.account, &request.edge.storage);
    let page = storage
        .archive_page(account, &query.filter, query.place, query.max)
        .await?;
    let count = match (query.max, &page) {
        (0, Some(_)) => Some(storage.archive_count(account, &query.filter).await?),
        _ => None,
    };
    Ok((page, count))
}

/// What a query may be about (IM-87).
async fn fields(_: Request<Fields>) -> Result<Element, StanzaError> {
    let none: [&str; 0] = [];
    let form = Form::new(FormType::Form, ns::MAM)
        .with_typed("with", "jid-single", none)
        .with_typed("start", "text-single", none)
        .with_typed("end", "text-single", none)
        .with_typed("before-id", "text-single", none)
        .with_typed("after-id", "text-single", none)
        .with_typed("include-groupchat", "boolean", none);
    const VALIDATE: &str = "http://jabber.org/protocol/xdata-validate";
    let open = Element::new("validate", VALIDATE)
        .with_attr("datatype", "xs:string")
        .with_child(Element::new("open", VALIDATE));
    let ids = Element::new("field", ns::DATA_FORM)
        .with_attr("type", "list-multi")
        .with_attr("var", "ids");
    let form = form.to_element().with_child(ids.with_child(open));
    Ok(Element::new("query", ns::MAM).with_child(form))
}

/// The ends of the archive (IM-95).
async fn metadata(request: Request<Metadata>) -> Result<Element, StanzaError> {
    let ends = request.edge.storage.archive_ends(&request.account).await;
    let mut metadata = Element::new("metadata", ns::MAM);
    if let Some([first, last]) = ends.map_err(|error| failure(&error))? {
        for (name, (mid, stamp)) in [("start", first), ("end", last)] {
            let end = Element::new(name, ns::MAM).with_attr("id", mid.to_string());
            metadata.push(end.with_attr("timestamp", delay::stamp(stamp)));
        }
    }
    Ok(metadata)
}

/// Everything is kept: there are no other preferences yet (IM-86).
async fn preferences(_: Request<Preferences>) -> Result<Element, StanzaError> {
    let prefs = Element::new("prefs", ns::MAM).with_attr("default", "always");
    Ok(prefs
        .with_child(Element::new("always", ns::MAM))
        .with_child(Element::new("never", ns::MAM)))
}

async fn set_preferences(_: Request<Preferences>) -> Result<Reply, StanzaError> {
    fail(Condition::FeatureNotImplemented)
}

empty_payload! {
    /// Asks what queries may be about.
    Fields, ns::MAM, "query"
}

empty_payload! {
    /// Asks for the ends of the archive.
    Metadata, ns::MAM, "metadata"
}

empty_payload! {
    /// Asks for preferences, or sets them.
    Preferences, ns::MAM, "prefs"
}
