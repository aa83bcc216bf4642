//! XEP-0313: Message Archive Management, for the archive of one's own account.
//!
//! Rows are written as effects of the shard ([`effects`]), a little after the messages were
//! delivered. Who asks must not miss those: what the shard still has to write for the account is written
//! here first, as the effect will find it when its turn comes. Results go out before the iq result that
//! ends the page, as one entry of the log (IM-90).

mod effects;
mod page;
mod port;
mod preferences;
mod query;
mod quota;
mod retention;
mod search;
mod settings;
mod statements;
mod storage;
mod words;

pub use retention::run as retention;
pub use settings::archives_by_default;
pub use statements::run as tell_statements;

use cluster::session::{Action, ArchiveRow, Traits};
use futures_util::future::BoxFuture;
use proto::payload::delay;
use proto::payload::form::{Form, FormType};
use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Element, ns};

use self::query::Query;
use self::quota::ArchiveQuota;
use self::settings::{Archive, KeepByDefault};
use self::storage::Page;
use crate::empty_payload;
use crate::hooks::{
    AboutHook, Content, Edge, EffectPhase, Phase, Reply, Request, Scope, Service, Setup, Xep, fail,
    failure,
};
use crate::storage::StorageError;

/// The service.
pub const SERVICE: Service = Service::new(
    "mam",
    &[Xep(313, "1.1.3"), Xep(431, "0.2.0"), Xep(441, "0.2.0")],
    register,
);

const OWN: [Scope; 1] = [Scope::Account];

fn register(setup: &mut Setup<'_>) {
    let archive: Archive = setup.config();
    let fallback = archive.default;
    setup.stored(&storage::STORED);
    setup.portable(port::Archives);
    setup.iq_set(&OWN, move |request| find(request, fallback));
    setup.iq_get(&OWN, fields);
    setup.iq_get(&OWN, move |request| metadata(request, fallback));
    setup.iq_get(&OWN, move |request| preferences::read(request, fallback));
    setup.iq_set(&OWN, preferences::replace);
    const GROUPCHAT: &str = "urn:xmpp:mam:2#groupchat-field";
    for feature in [ns::MAM_EXTENDED, ns::SID, ns::FULLTEXT, GROUPCHAT] {
        setup.feature(&OWN, feature);
    }
    setup.forged(|child| child.is("result", ns::MAM));
    setup.classify(classify);
    setup.message(Phase::Limit, ArchiveQuota::new(archive));
    setup.about(Ends { fallback });
    setup.effects(EffectPhase::Rows, effects::Rows { fallback });
    setup.effects(EffectPhase::Each, effects::Waiting);
}

/// What is of lasting interest is kept (IM-85), unless its sender says otherwise (IM-52).
fn classify(content: Content, traits: &mut Traits) {
    let lasting = content.converses()
        && content.memorable()
        && !content.no_store
        && !content.no_permanent_store;
    traits.archive_sent = lasting;
    traits.archive_received = lasting;
}

async fn find(request: Request<Query>, fallback: KeepByDefault) -> Result<Reply, StanzaError> {
    let tail = write_tail(&request.edge, &request.account, fallback).await;
    let current = tail.map_err(|error| failure(&error))?;
    let (query, account) = (&request.payload, &request.account);
    let (found, count) = match &query.words {
        Some(words) => search::look(&request.edge.storage, account, query, words).await?,
        None => look(&request).await.map_err(|error| failure(&error))?,
    };
    let Some(found) = found else {
        return fail(Condition::ItemNotFound);
    };
    let backwards = query.place.is_backwards();
    let found = page::bounded(found, backwards);

    let envelope = page::Envelope::new(account, &request.session, query.id.as_deref());
    let results = found.entries.iter().map(|entry| {
        // Who has got this one wants no second copy of it (IM-63).
        Action::Result {
            mid: entry.mid,
            order: entry.order,
            packet: envelope.around(entry),
        }
    });
    let mut results: Vec<Action> = results.collect();
    if query.flip {
        results.reverse();
    }
    Ok(Reply::new(page::fin(&found, backwards, count, current)).after_all(results))
}

/// Writes what the account's sessions may know of and what is not yet in the archive. Returns whether the
/// archive is complete then: the shard could be asked.
async fn write_tail(
    edge: &Edge,
    account: &BareJid,
    fallback: KeepByDefault,
) -> Result<bool, StorageError> {
    let tail = edge.presences.archive_tail(account).await;
    let rows: Vec<&ArchiveRow> = tail.archived().collect();
    if !rows.is_empty() {
        edge.storage.archive_shown(&rows, fallback).await?;
    }
    Ok(tail.current)
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
        .with_typed("include-groupchat", "boolean", none)
        .with_typed(query::FULLTEXT, "text-single", none);
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
async fn metadata(
    request: Request<Metadata>,
    fallback: KeepByDefault,
) -> Result<Element, StanzaError> {
    let ends = ends(&request.edge, &request.account, fallback).await;
    ends.map_err(|error| failure(&error))
}

/// Tells a client that binds a resource where the archive ends at that moment (BI-5).
struct Ends {
    fallback: KeepByDefault,
}

impl AboutHook for Ends {
    fn tell<'a>(&'a self, edge: &'a Edge, account: &'a BareJid) -> BoxFuture<'a, Option<Element>> {
        Box::pin(async move {
            // A client that is not told asks the archive itself.
            match edge.storage.is_away() {
                true => None,
                false => ends(edge, account, self.fallback).await.ok(),
            }
        })
    }
}

async fn ends(
    edge: &Edge,
    account: &BareJid,
    fallback: KeepByDefault,
) -> Result<Element, StorageError> {
    write_tail(edge, account, fallback).await?;
    let mut metadata = Element::new("metadata", ns::MAM);
    if let Some([first, last]) = edge.storage.archive_ends(account).await? {
        for (name, (mid, stamp)) in [("start", first), ("end", last)] {
            let end = Element::new(name, ns::MAM).with_attr("id", mid.to_string());
            metadata.push(end.with_attr("timestamp", delay::stamp(stamp)));
        }
    }
    Ok(metadata)
}

empty_payload! {
    /// Asks what queries may be about.
    Fields, ns::MAM, "query"
}

empty_payload! {
    /// Asks for the ends of the archive.
    Metadata, ns::MAM, "metadata"
}

#[cfg(test)]
mod tests {
    use cluster::ArchiveId;
    use cluster::session::ArchiveRow;
    use proto::stanza::{Kind, MessageType, Stanza};

    use super::*;
    use crate::router::SessionContext;
    use crate::router::testing::{Node, bare, edge, says, session};

    /// Messages from bob, numbers 1 to `count`.
    async fn archive(count: u128) -> (Node, SessionContext) {
        let edge = edge().await;
        for n in 1..=count {
            let with: proto::Jid = "bob@example.org/x".parse().unwrap();
            let body = Element::new("body", ns::CLIENT).with_text(&n.to_string());
            let stanza = Stanza::new(Kind::Message(MessageType::Chat)).with_child(body);
            let row = ArchiveRow {
                owner: bare("alice@example.org"),
                mid: ArchiveId(n),
                order: cluster::Order(n as u64),
                with: with.clone(),
                stamp: n as u64 * 1000,
                hidden: false,
                packet: stanza.with_from(with).pack(),
            };
            edge.storage
                .archive(&[&row], KeepByDefault::Always)
                .await
                .unwrap();
        }
        let ctx = session(&edge, "alice@example.org/desk");
        (edge, ctx)
    }

    async fn query(ctx: &SessionContext, children: &str) -> Vec<String> {
        let query = format!("<query xmlns='urn:xmpp:mam:2' queryid='q'>{children}</query>");
        says(ctx, &format!("<iq type='set' id='i'>{query}</iq>")).await
    }

    fn set(children: &str) -> String {
        format!("<set xmlns='http://jabber.org/protocol/rsm'>{children}</set>")
    }

    /// The bodies of the results, in order.
    fn bodies(lines: &[String]) -> Vec<&str> {
        let body = |line: &'_ String| -> Option<(usize, usize)> {
            Some((line.find("<body>")? + 6, line.find("</body>")?))
        };
        let found = lines
            .iter()
            .filter_map(|line| body(line).map(|(from, to)| &line[from..to]));
        found.collect()
    }

    #[tokio::test]
    async fn im_90_results_come_before_the_end_and_pages_follow_each_other() {
        let (_edge, mut ctx) = archive(5).await;
        ctx.available = true;
        let lines = query(&ctx, &set("<max>3</max>")).await;
        assert_eq!(bodies(&lines), ["1", "2", "3"]);
        let end = lines.last().unwrap();
        assert!(end.contains("<fin ") && !end.contains("complete"), "{end}");
        let rest = query(
            &ctx,
            &set(&format!("<max>3</max><after>{}</after>", ArchiveId(3))),
        )
        .await;
        assert_eq!(bodies(&rest), ["4", "5"]);
        assert!(rest.last().unwrap().contains("complete='true'"));
    }

    #[tokio::test]
    async fn im_92_the_last_page_is_chronological_unless_it_is_flipped() {
        let (_edge, mut ctx) = archive(5).await;
        ctx.available = true;
        let last = set("<max>2</max><before/>");
        assert_eq!(bodies(&query(&ctx, &last).await), ["4", "5"]);
        let flipped = query(&ctx, &format!("{last}<flip-page/>")).await;
        assert_eq!(bodies(&flipped), ["5", "4"]);
        assert!(
            flipped
                .last()
                .unwrap()
                .contains(&format!("<first>{}</first>", ArchiveId(4)))
        );
    }

    #[tokio::test]
    async fn im_63_each_result_names_the_message_that_it_gives() {
        let (_edge, mut ctx) = archive(3).await;
        for available in [false, true] {
            ctx.available = available;
            let lines = query(&ctx, &set("<max>2</max><before/>")).await;
            let named: Vec<_> = lines.iter().map(|line| line.split(' ').take(3)).collect();
            let named: Vec<Vec<_>> = named.into_iter().map(Iterator::collect).collect();
            let (two, three) = (ArchiveId(2).to_string(), ArchiveId(3).to_string());
            assert_eq!(named[0], ["result", &two, "2"]);
            assert_eq!(named[1], ["result", &three, "3"]);
            assert_eq!(named.len(), 3, "{lines:?}");
        }
    }

    #[tokio::test]
    async fn im_89_an_unknown_id_finds_nothing() {
        let (_edge, ctx) = archive(1).await;
        let lines = query(&ctx, &set(&format!("<after>{}</after>", ArchiveId(9)))).await;
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("<item-not-found"), "{lines:?}");
    }

    #[tokio::test]
    async fn im_91_what_may_be_missing_is_not_stable() {
        let edge = edge().await;
        for (account, stable) in [("alice", true), ("carol", false)] {
            let ctx = session(&edge, &format!("{account}@example.org/desk"));
            let end = query(&ctx, "").await.pop().unwrap();
            assert_eq!(!end.contains("stable='false'"), stable, "{end}");
        }
    }

    #[tokio::test]
    async fn im_93_and_im_95_counts_and_ends() {
        let (_edge, ctx) = archive(4).await;
        let counted = query(&ctx, &set("<max>0</max>")).await;
        assert!(
            counted.iter().any(|line| line.contains("<count>4</count>")),
            "{counted:?}"
        );
        let ends = says(
            &ctx,
            "<iq type='get' id='i'><metadata xmlns='urn:xmpp:mam:2'/></iq>",
        )
        .await;
        assert!(
            ends[0].contains(&format!(
                "<start id='{}' timestamp='1970-01-01T00:00:01.000Z'/>",
                ArchiveId(1)
            )),
            "{ends:?}"
        );
        assert!(
            ends[0].contains(&format!("<end id='{}'", ArchiveId(4))),
            "{ends:?}"
        );
    }

    #[tokio::test]
    async fn im_94_a_search_finds_words() {
        let (_edge, ctx) = archive(12).await;
        let search = |text: &str| {
            let value = format!("<value>{text}</value>");
            let field = format!("<field var='{}'>{value}</field>", query::FULLTEXT);
            format!("<x xmlns='jabber:x:data' type='submit'>{field}</x>")
        };
        let found = query(&ctx, &search("1")).await;
        assert_eq!(bodies(&found), ["1", "10", "11", "12"]);
        assert!(found.last().unwrap().contains("complete='true'"));
        let last = search("1") + &set("<max>2</max><before/>");
        assert_eq!(bodies(&query(&ctx, &last).await), ["11", "12"]);
        let counted = query(&ctx, &(search("1") + &set("<max>0</max>"))).await;
        assert_eq!(counted.len(), 1, "{counted:?}");
        assert!(counted[0].contains("<count>4</count>") && !counted[0].contains("<first>"));
        assert_eq!(bodies(&query(&ctx, &search("%")).await), [""; 0]);
        let refused = query(&ctx, &search(&"x".repeat(100_000))).await;
        assert!(refused[0].contains("<policy-violation"), "{refused:?}");
        let asked = "<iq type='get' id='i'><query xmlns='urn:xmpp:mam:2'/></iq>";
        let fields = says(&ctx, asked).await.concat();
        assert!(fields.contains("{urn:xmpp:fulltext:0}fulltext"), "{fields}");
    }
}
