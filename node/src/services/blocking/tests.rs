//! What clients are answered, and what the shard is told.

use crate::router::SessionContext;
use crate::router::testing::{acts, edge, edge_with, says, session, settle};

const EMPTY: &str = "<blocklist xmlns='urn:xmpp:blocking'/>";

async fn ask(ctx: &SessionContext, kind: &str, name: &str, jids: &[&str]) -> Vec<String> {
    let items: String = jids
        .iter()
        .map(|jid| format!("<item jid='{jid}'/>"))
        .collect();
    let payload = format!("<{name} xmlns='urn:xmpp:blocking'>{items}</{name}>");
    says(ctx, &format!("<iq type='{kind}' id='i'>{payload}</iq>")).await
}

async fn list(ctx: &SessionContext) -> String {
    let [follows, list] = &ask(ctx, "get", "blocklist", &[]).await[..] else {
        panic!("no list")
    };
    assert_eq!(follows, "follows the blocklist");
    list.clone()
}

#[tokio::test]
async fn im_65_im_66_what_is_blocked_is_listed_and_pushed_without_its_reports() {
    let ctx = session(&edge().await, "alice@example.org/desk");
    assert!(list(&ctx).await.contains(EMPTY));
    let report = "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'><text>hm</text></report>";
    let iq = format!(
        "<iq type='set' id='i'><block xmlns='urn:xmpp:blocking'><item jid='Eve@example.net'>{report}</item>\
         <item jid='example.com'/></block></iq>"
    );
    let lines = says(&ctx, &iq).await;
    let items = "<item jid='eve@example.net'/><item jid='example.com'/>";
    let push = format!("<block xmlns='urn:xmpp:blocking'>{items}</block>");
    assert_eq!(
        lines[0],
        "reply <iq to='alice@example.org/desk' id='i' type='result'/>"
    );
    let blocks = "blocks [eve@example.net example.com] unblocks [] viewers [] probing []: ";
    assert!(
        lines[1].starts_with(blocks) && lines[1].contains(&push),
        "{lines:?}"
    );
    let shown = list(&ctx).await;
    assert!(
        shown.contains("<item jid='eve@example.net'/><item jid='example.com'/>"),
        "{shown}"
    );
    let lines = ask(&ctx, "set", "unblock", &[]).await;
    assert!(
        lines[1].contains("unblocks [eve@example.net example.com]"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("<unblock xmlns='urn:xmpp:blocking'/>"),
        "{lines:?}"
    );
    assert!(list(&ctx).await.contains(EMPTY));
}

#[tokio::test]
async fn im_66_what_names_nobody_or_no_address_changes_nothing() {
    let ctx = session(&edge().await, "alice@example.org/desk");
    for (name, jids, condition) in [
        ("block", &[][..], "bad-request"),
        ("block", &["eve@example.net", "@"], "jid-malformed"),
        ("unblock", &["eve@example.net", "@"], "jid-malformed"),
    ] {
        let lines = ask(&ctx, "set", name, jids).await;
        assert!(
            lines[0].contains(condition) && lines.len() == 1,
            "{name}: {lines:?}"
        );
    }
    assert!(list(&ctx).await.contains(EMPTY));
}

#[tokio::test]
async fn im_65_nobody_else_asks_for_a_list_or_changes_it() {
    let ctx = session(&edge().await, "alice@example.org/desk");
    for (kind, name) in [("get", "blocklist"), ("set", "block"), ("set", "unblock")] {
        for to in ["bob@example.org", "example.org"] {
            let iq = format!(
                "<iq type='{kind}' id='i' to='{to}'><{name} xmlns='urn:xmpp:blocking'><item jid='a@b'/></{name}></iq>"
            );
            let lines = says(&ctx, &iq).await;
            assert!(lines[0].contains("<service-unavailable"), "{lines:?}");
        }
    }
}

#[tokio::test]
async fn t_54_who_blocks_too_many_is_told_how_many_they_may_be() {
    let edge = edge_with(&["quotas.blocked_jids=2"]).await;
    let ctx = session(&edge, "alice@example.org/desk");
    assert_eq!(ask(&ctx, "set", "block", &["1@x", "2@x"]).await.len(), 2);
    let lines = ask(&ctx, "set", "block", &["3@x"]).await;
    assert!(lines[0].contains("<resource-constraint"), "{lines:?}");
    assert!(lines[0].contains("at most 2 addresses"), "{lines:?}");
}

#[tokio::test]
async fn im_67_the_shard_is_told_who_may_see_the_account() {
    let edge = edge().await;
    let alice = session(&edge, "alice@example.org/desk");
    let bob = session(&edge, "bob@example.org/phone");
    // Ids of different lengths keep the effects apart.
    for (one, other, id) in [(&alice, &bob, "1"), (&bob, &alice, "20")] {
        let presence = |kind, to: &SessionContext| {
            format!("<presence type='{kind}' to='{}' id='{id}'/>", to.account)
        };
        settle(&edge, acts(one, &presence("subscribe", other)).await).await;
        settle(&edge, acts(other, &presence("subscribed", one)).await).await;
    }
    for jid in ["bob@example.org", "example.org"] {
        let lines = ask(&alice, "set", "block", &[jid]).await;
        assert!(
            lines[1].contains("viewers [bob@example.org] probing []"),
            "{lines:?}"
        );
        let lines = ask(&alice, "set", "unblock", &[jid]).await;
        assert!(
            lines[1].contains("viewers [bob@example.org] probing [bob@example.org]"),
            "{lines:?}"
        );
    }
    let lines = ask(&alice, "set", "block", &["bob@example.org/phone"]).await;
    assert!(
        lines[1].contains("viewers [bob@example.org/phone]"),
        "{lines:?}"
    );
    let lines = ask(
        &alice,
        "set",
        "block",
        &["carol@example.org", "example.net"],
    )
    .await;
    assert!(lines[1].contains("viewers []"), "{lines:?}");
}

#[tokio::test]
async fn im_70_a_request_to_a_blocked_contact_changes_no_roster() {
    let alice = session(&edge().await, "alice@example.org/desk");
    ask(&alice, "set", "block", &["bob@example.org"]).await;
    for (kind, told) in [
        ("subscribe", true),
        ("subscribed", false),
        ("unsubscribe", false),
        ("unsubscribed", false),
    ] {
        let lines = says(
            &alice,
            &format!("<presence type='{kind}' to='bob@example.org' id='p'/>"),
        )
        .await;
        assert_eq!(lines.len(), usize::from(told), "{kind}: {lines:?}");
        assert!(!told || lines[0].contains("<not-acceptable"), "{lines:?}");
    }
    let roster = says(
        &alice,
        "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>",
    )
    .await
    .concat();
    assert!(!roster.contains("bob"), "{roster}");
}

#[tokio::test]
async fn im_69_im_70_the_server_answers_for_nobody_who_is_blocked() {
    let edge = edge().await;
    let alice = session(&edge, "alice@example.org/desk");
    let bob = session(&edge, "bob@example.org/phone");
    let card =
        |to: &str| format!("<iq type='get' id='i' to='{to}'><vCard xmlns='vcard-temp'/></iq>");
    let own = "<iq type='set' id='i'><vCard xmlns='vcard-temp'><FN>A</FN></vCard></iq>";
    says(&alice, own).await;
    let before = says(&bob, &card("alice@example.org")).await.concat();
    assert!(!before.contains("<service-unavailable"), "{before}");
    ask(
        &alice,
        "set",
        "block",
        &["bob@example.org", "eve@example.net", "nobody@example.org"],
    )
    .await;
    let asked = says(&bob, &card("alice@example.org")).await.concat();
    assert!(asked.contains("<service-unavailable"), "{asked}");
    for stanza in [
        card("bob@example.org"),
        card("eve@example.net"),
        "<message to='eve@example.net/x' id='i'><body>b</body></message>".to_owned(),
        "<message to='nobody@example.org' id='i'><body>b</body></message>".to_owned(),
    ] {
        let refused = says(&alice, &stanza).await.concat();
        assert!(
            refused.contains("<blocked xmlns='urn:xmpp:blocking:errors'/>"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn im_71_a_login_has_the_shard_compare_its_list() {
    let ctx = session(&edge().await, "alice@example.org/desk");
    let revision = async || {
        let actions = acts(&ctx, "<presence/>").await;
        let at = actions.iter().find_map(|action| match action {
            cluster::session::Action::BlocklistAt(revision) => Some(*revision),
            _ => None,
        });
        at.expect("it compares")
    };
    assert_eq!(revision().await, 0);
    ask(&ctx, "set", "block", &["eve@example.net"]).await;
    assert_ne!(revision().await, 0);
}
