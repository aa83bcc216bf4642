//! RFC 6121 §2: the roster as clients read and edit it. Subscriptions change in [`subscribe`] and
//! [`arrival`].
//!
//! A push goes to every interested session before the result goes to the one that asked (IM-23). Both
//! bear the roster's version; a client that shows the current one is sent nothing (IM-25).

mod arrival;
mod audience;
mod contact;
mod departure;
mod entry;
mod farewell;
mod item;
mod port;
pub(super) mod settings;
pub(super) mod storage;
mod subscribe;
mod subscription;
mod visibility;

use std::collections::HashSet;

use cluster::session::{Action, Relay};
use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Element, Jid, ns};
use sha1::{Digest as _, Sha1};

use self::contact::Removed;
use self::entry::Entry;
use self::item::{element, pushed, removal};
use self::settings::{MAX_TEXT, Quotas};
use self::storage::RosterVersion;
use crate::hooks::{
    Edge, EffectPhase, Payload, Phase, Reply, Request, Scope, Service, Setup, fail, failure,
};

/// The service.
pub const SERVICE: Service = Service::new("roster", &[], register);

/// Changes that are sent one by one; beyond that the whole roster is less work for both sides.
const MAX_CHANGES: usize = 50;

fn register(setup: &mut Setup<'_>) {
    let quotas: Quotas = setup.config();
    setup.stored(&storage::STORED);
    setup.portable(port::Contacts { quotas });
    setup.visibility(visibility::Subscriptions);
    setup.contacts(departure::Rosters { quotas });
    setup.iq_get(&[Scope::Account], read);
    setup.iq_set(&[Scope::Account], move |request| edit(request, quotas));
    setup.iq_set(&[Scope::Contact], forbidden);
    setup.presence(Phase::Follow, audience::Audience { quotas });
    setup.effects(EffectPhase::Ends, farewell::Ends);
    setup.effects(EffectPhase::Each, arrival::Arrivals { quotas });
}

/// From here on the session gets pushes, so interest is declared before the roster is given (IM-17).
async fn read(request: Request<Get>) -> Result<Reply, StanzaError> {
    let (edge, account) = (&request.edge, &request.account);
    if let Some(known) = &request.payload.0 {
        let changes = edge
            .storage
            .roster_changes(account, known)
            .await
            .map_err(|error| failure(&error))?;
        if let Some(changes) = changes.filter(|changes| changes.len() <= MAX_CHANGES) {
            let pushes = changes.into_iter().map(|change| {
                let item = change
                    .item
                    .as_ref()
                    .map(|item| element(&change.jid, &Entry::from(item)));
                pushed(
                    edge,
                    &change.version,
                    item.unwrap_or_else(|| removal(&change.jid)),
                )
            });
            let reply = Reply::empty().after(Action::Interested);
            return Ok(reply.then_all(pushes.map(Action::Reply)));
        }
    }
    let roster = edge
        .storage
        .roster(account)
        .await
        .map_err(|error| failure(&error))?;
    Ok(Reply::new(item::roster(&roster)).after(Action::Interested))
}

async fn edit(request: Request<Set>, quotas: Quotas) -> Result<Reply, StanzaError> {
    let Set { jid, change } = request.payload;
    if jid == request.account {
        return fail(Condition::NotAllowed);
    }
    let (edge, account) = (&request.edge, &request.account);
    match change {
        Change::Put { name, groups } => {
            if groups.len() as u64 > quotas.roster_groups {
                return fail(Condition::NotAcceptable);
            }
            let repeat = put_key(&request.session, &request.id, name.as_deref(), &groups);
            let put = contact::put(edge, quotas, account, &jid, (name, groups), &repeat);
            let push = put.await?;
            Ok(Reply::empty().after_all(push.map(Action::Send)))
        }
        Change::Remove => {
            let repeat = format!("{} remove {}", request.session, request.id);
            let removed = contact::remove(edge, quotas, account, &jid, &repeat).await?;
            let Some(removed) = removed else {
                return fail(Condition::ItemNotFound);
            };
            let relays = removal_relays(edge, account, &jid, removed).await;
            Ok(Reply::empty().after_all(relays.map(Action::Send)))
        }
    }
}

/// Names a request to put a contact into the roster, so that the same one is known when it is resolved again: its node
/// may have died between the database and the shard. What it says is a part of the name, because one with an id that was
/// used before may say something else.
fn put_key(session: &Jid, id: &str, name: Option<&str>, groups: &[String]) -> String {
    let said = [name.unwrap_or_default()].into_iter();
    let said: Vec<&str> = said.chain(groups.iter().map(String::as_str)).collect();
    let said = Sha1::digest(said.join("\n"));
    let said = said.iter().map(|byte| format!("{byte:02x}"));
    format!("{session} put {id} {}", said.collect::<String>())
}

async fn forbidden(_: Request<Set>) -> Result<Reply, StanzaError> {
    fail(Condition::Forbidden)
}

/// What a contact is told who is removed from the roster, and then the push (IM-22).
async fn removal_relays(
    edge: &Edge,
    account: &BareJid,
    peer: &BareJid,
    removed: Removed,
) -> impl Iterator<Item = Relay> + use<> {
    let state = removed.state;
    let local = edge.serves(peer.domain()) && peer.local().is_some();
    let mut relays = Vec::new();
    if local && state.from() {
        relays.extend(subscribe::farewells(edge, account, peer).await);
    }
    if local {
        relays.extend(subscribe::cancelled(edge, account, peer, state));
    }
    relays.into_iter().chain(removed.push)
}

/// Asks for the roster, perhaps naming the version that is known. One that is not of ours is no version.
pub struct Get(Option<RosterVersion>);

impl Payload for Get {
    const NS: &'static str = ns::ROSTER;
    const NAME: &'static str = "query";
    const ANNOUNCED: bool = false;

    /// A get has no items (IM-17).
    fn decode(element: &Element) -> Result<Self, StanzaError> {
        if element.elements().next().is_some() {
            return fail(Condition::BadRequest);
        }
        Ok(Self(
            element.attr("ver").and_then(|version| version.parse().ok()),
        ))
    }
}

/// Changes one contact. What only the server decides is ignored (IM-20).
#[derive(Debug, PartialEq)]
pub struct Set {
    jid: BareJid,
    change: Change,
}

#[derive(Debug, PartialEq)]
enum Change {
    Put {
        name: Option<String>,
        groups: Vec<String>,
    },
    Remove,
}

impl Payload for Set {
    const NS: &'static str = ns::ROSTER;
    const NAME: &'static str = "query";
    const ANNOUNCED: bool = false;

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        let mut items = element.elements();
        let (Some(item), None) = (items.next(), items.next()) else {
            return fail(Condition::BadRequest);
        };
        if !item.is("item", ns::ROSTER) {
            return fail(Condition::BadRequest);
        }
        let jid = item.attr("jid").ok_or(Condition::BadRequest)?;
        let jid = Jid::new(jid).map_err(|_| Condition::JidMalformed)?.bare();
        if item.attr("subscription") == Some("remove") {
            return Ok(Self {
                jid,
                change: Change::Remove,
            });
        }
        let name = item
            .attr("name")
            .filter(|name| !name.is_empty())
            .map(str::to_owned);
        if name.as_ref().is_some_and(|name| name.len() > MAX_TEXT) {
            return fail(Condition::NotAcceptable);
        }
        Ok(Self {
            jid,
            change: Change::Put {
                name,
                groups: groups(item)?,
            },
        })
    }
}

fn groups(item: &Element) -> Result<Vec<String>, StanzaError> {
    let named = item
        .elements()
        .filter(|child| child.is("group", ns::ROSTER));
    let groups: Vec<String> = named.map(Element::text).collect();
    let mut seen = HashSet::new();
    if !groups.iter().all(|group| seen.insert(group)) {
        return fail(Condition::BadRequest);
    }
    let unfit = |group: &String| group.is_empty() || group.len() > MAX_TEXT;
    if groups.iter().any(unfit) {
        return fail(Condition::NotAcceptable);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::SessionContext;
    use crate::router::testing::{acts, edge, edge_with, says, session, settle};

    #[track_caller]
    fn check(items: &str, expect: Result<Set, Condition>) {
        let query =
            Element::parse(format!("<query xmlns='jabber:iq:roster'>{items}</query>")).unwrap();
        assert_eq!(
            Set::decode(&query).map_err(|error| error.condition),
            expect,
            "{items}"
        );
    }

    fn put(name: Option<&str>, groups: &[&str]) -> Result<Set, Condition> {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let change = Change::Put {
            name: name.map(str::to_owned),
            groups,
        };
        Ok(Set {
            jid: "bob@example.org".parse().unwrap(),
            change,
        })
    }

    #[test]
    fn im_18_a_set_names_one_contact_by_its_bare_jid() {
        check("<item jid='Bob@example.org/desk'/>", put(None, &[]));
        check(
            "<item jid='bob@example.org' name='Bob'><group>A</group></item>",
            put(Some("Bob"), &["A"]),
        );
        check("", Err(Condition::BadRequest));
        check(
            "<item jid='a@b'/><item jid='c@d'/>",
            Err(Condition::BadRequest),
        );
        check("<item/>", Err(Condition::BadRequest));
        check("<item jid='@'/>", Err(Condition::JidMalformed));
    }

    #[test]
    fn im_19_groups_are_distinct_named_and_few() {
        let within = |groups: &str| format!("<item jid='bob@example.org'>{groups}</item>");
        check(
            &within("<group>A</group><group>A</group>"),
            Err(Condition::BadRequest),
        );
        check(&within("<group/>"), Err(Condition::NotAcceptable));
        let long = "x".repeat(MAX_TEXT + 1);
        check(
            &within(&format!("<group>{long}</group>")),
            Err(Condition::NotAcceptable),
        );
        check(
            &format!("<item jid='a@b' name='{long}'/>"),
            Err(Condition::NotAcceptable),
        );
    }

    #[tokio::test]
    async fn im_19_a_contact_is_in_as_many_groups_as_the_quota_says_and_no_more() {
        let edge = edge_with(&["quotas.roster_groups=3"]).await;
        let ctx = session(&edge, "alice@example.org/desk");
        for (count, fits) in [(2, true), (3, true), (4, false)] {
            let groups: String = (0..count).map(|n| format!("<group>{n}</group>")).collect();
            let item = format!("<item jid='bob@example.org'>{groups}</item>");
            let lines = ask(&ctx, "set", &item, "").await.concat();
            assert_eq!(!lines.contains("<not-acceptable"), fits, "{lines}");
        }
    }

    #[tokio::test]
    async fn t_52_a_contact_too_many_is_refused_with_the_reason() {
        let edge = edge_with(&["quotas.roster_contacts=1"]).await;
        let ctx = session(&edge, "alice@example.org/desk");
        ask(&ctx, "set", "<item jid='bob@example.org'/>", "").await;
        let lines = ask(&ctx, "set", "<item jid='carol@example.org'/>", "").await;
        assert!(lines.concat().contains("<resource-constraint"), "{lines:?}");
        assert!(lines.concat().contains("at most 1 contacts"), "{lines:?}");
    }

    #[test]
    fn im_20_what_the_server_decides_is_ignored() {
        check(
            "<item jid='bob@example.org' ask='subscribe' approved='true' subscription='both'/>",
            put(None, &[]),
        );
    }

    async fn ask(ctx: &SessionContext, kind: &str, children: &str, ver: &str) -> Vec<String> {
        let query = format!("<query xmlns='jabber:iq:roster'{ver}>{children}</query>");
        says(ctx, &format!("<iq type='{kind}' id='i'>{query}</iq>")).await
    }

    fn version(line: &str) -> String {
        let at = line.find("ver='").expect("a version") + 5;
        let rest = &line[at..];
        rest[..rest.find('\'').unwrap()].to_owned()
    }

    #[tokio::test]
    async fn im_23_a_change_is_pushed_and_then_confirmed() {
        let ctx = session(&edge().await, "alice@example.org/desk");
        let lines = ask(&ctx, "set", "<item jid='bob@example.org' name='Bob'/>", "").await;
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with("push to alice@example.org: ") && lines[0].contains("name='Bob'")
        );
        assert_eq!(
            lines[1],
            "reply <iq to='alice@example.org/desk' id='i' type='result'/>"
        );
        let lines = ask(&ctx, "get", "", "").await;
        assert_eq!(lines[0], "interested");
        assert!(lines[1].contains("<item jid='bob@example.org' subscription='none' name='Bob'/>"));
    }

    #[tokio::test]
    async fn im_23_a_change_whose_node_died_before_the_push_is_pushed_when_it_is_resolved_again() {
        let ctx = session(&edge().await, "alice@example.org/desk");
        let put = |name: &str| format!("<item jid='bob@example.org' name='{name}'/>");
        let first = ask(&ctx, "set", &put("Bob"), "").await;
        assert!(first[0].starts_with("push "), "{first:?}");
        assert_eq!(ask(&ctx, "set", &put("Bob"), "").await, first);
        // The same id and another name are another change.
        let second = ask(&ctx, "set", &put("Robert"), "").await;
        assert!(second[0].contains("name='Robert'"), "{second:?}");
        assert!(version(&first[0]) < version(&second[0]));
        let all = ask(&ctx, "get", "", "").await;
        assert!(all[1].contains("name='Robert'"), "{all:?}");
    }

    #[tokio::test]
    async fn im_25_a_known_version_is_answered_with_what_has_changed_since() {
        let ctx = session(&edge().await, "alice@example.org/desk");
        ask(&ctx, "set", "<item jid='bob@example.org'/>", "").await;
        let full = ask(&ctx, "get", "", " ver=''").await;
        let known = version(&full[1]);
        let same = ask(&ctx, "get", "", &format!(" ver='{known}'")).await;
        assert_eq!(same.len(), 2);
        assert!(!same[1].contains("<query"), "{same:?}");

        ask(&ctx, "set", "<item jid='carol@example.org'/>", "").await;
        ask(
            &ctx,
            "set",
            "<item jid='bob@example.org' subscription='remove'/>",
            "",
        )
        .await;
        let since = ask(&ctx, "get", "", &format!(" ver='{known}'")).await;
        assert_eq!(since.len(), 4);
        assert!(!since[1].contains("<query"));
        assert!(since[2].contains("jid='carol@example.org' subscription='none'"));
        assert!(since[3].contains("jid='bob@example.org' subscription='remove'"));
        assert!(version(&since[2]) < version(&since[3]));
        let foreign = ask(&ctx, "get", "", " ver='0123456789abcdef-1'").await;
        assert!(foreign[1].contains("carol@example.org"));
    }

    #[tokio::test]
    async fn im_19_what_is_not_there_cannot_be_removed_and_oneself_not_be_added() {
        let ctx = session(&edge().await, "alice@example.org/desk");
        let remove = "<item jid='bob@example.org' subscription='remove'/>";
        let lines = ask(&ctx, "set", remove, "").await;
        assert!(lines[0].contains("<item-not-found"), "{lines:?}");
        let lines = ask(&ctx, "set", "<item jid='alice@example.org/x'/>", "").await;
        assert!(lines[0].contains("<not-allowed"), "{lines:?}");
    }

    #[tokio::test]
    async fn im_22_a_removed_contact_loses_what_it_had() {
        let edge = edge().await;
        let alice = session(&edge, "alice@example.org/desk");
        let bob = session(&edge, "bob@example.org/desk");
        settle(
            &edge,
            acts(&alice, "<presence type='subscribe' to='bob@example.org'/>").await,
        )
        .await;
        settle(
            &edge,
            acts(&bob, "<presence type='subscribed' to='alice@example.org'/>").await,
        )
        .await;
        let remove = "<item jid='alice@example.org' subscription='remove'/>";
        let lines = ask(&bob, "set", remove, "").await;
        assert!(
            lines[0].starts_with("presence to [alice@example.org]: "),
            "{lines:?}"
        );
        assert!(lines[1].starts_with("subscription ") && lines[1].contains("type='unsubscribed'"));
        assert!(lines[2].starts_with("push ") && lines[2].contains("subscription='remove'"));
        assert_eq!(lines.len(), 4);
        // Resolved again, before its shard has committed: the same.
        assert_eq!(ask(&bob, "set", remove, "").await, lines);
    }
}
