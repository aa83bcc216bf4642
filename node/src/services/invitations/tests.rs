//! What users are given to give away, and what it is good for.

use proto::payload::form::{Form, FormType};
use proto::{BareJid, Element, ns};

use super::{CREATE, INVITATION, INVITE};
use crate::auth::invite;
use crate::router::testing::{NOW, Node, acts, bare, edge_with, says, session, settle};

const ALICE: &str = "alice@example.org/desk";
const BOB: &str = "bob@example.org/phone";
const DAY: u64 = 86_400_000;

/// A node where alice is the administrator.
async fn node(sets: &[&str]) -> Node {
    let admin = ["domain=example.org", "admin.jids=alice@example.org"];
    edge_with(&[&admin, sets].concat()).await
}

async fn stage(node: &Node, jid: &str, command: &str, more: &str, form: &str) -> String {
    let iq = format!(
        "<iq type='set' id='1' to='example.org'><command xmlns='{}' node='{command}' {more}>{form}</command></iq>",
        ns::COMMANDS
    );
    says(&session(node, jid), &iq).await.concat()
}

fn command(said: &str) -> Element {
    let reply = said.strip_prefix("reply ").expect("an answer");
    let iq = Element::parse_in(ns::CLIENT, reply).unwrap().remove(0);
    let command = iq.child("command", ns::COMMANDS).cloned();
    command.unwrap_or_else(|| panic!("{iq:?}"))
}

fn form(command: &Element) -> Form {
    let form = command.child("x", ns::DATA_FORM).and_then(Form::parse);
    form.unwrap_or_else(|| panic!("{command:?}"))
}

/// The address of an invitation, and its token.
fn issued(said: &str) -> (String, String) {
    let command = command(said);
    assert_eq!(command.attr("status"), Some("completed"), "{said}");
    let form = form(&command);
    assert_eq!(form.form_type(), Some(INVITATION));
    let uri = form.value("uri").unwrap().to_owned();
    let token = uri.split("preauth=").nth(1).unwrap();
    let token = token.split(';').next().unwrap().to_owned();
    (uri, token)
}

async fn invited(node: &Node, jid: &str) -> (String, String) {
    issued(&stage(node, jid, INVITE, "", "").await)
}

/// Begins the other command, and fills its form in as often as that is said.
async fn created(node: &Node, jid: &str, fields: &[(&str, &str)], times: usize) -> Vec<String> {
    let begun = command(&stage(node, jid, CREATE, "", "").await);
    let asked = form(&begun);
    let submitted = Form::new(FormType::Submit, CREATE);
    let submitted = fields.iter().fold(submitted, |form, (var, value)| {
        assert!(asked.values(var).is_some(), "{asked:?}");
        form.with(var, [*value])
    });
    let submitted = submitted.to_element().to_xml(ns::COMMANDS);
    let id = format!("sessionid='{}'", begun.attr("sessionid").unwrap());
    let mut said = Vec::new();
    for _ in 0..times {
        said.push(stage(node, jid, CREATE, &id, &submitted).await);
    }
    said
}

/// The account that the token may make, if any: the name that is kept and who becomes a contact.
async fn leads_to(node: &Node, token: &str) -> Option<(Option<BareJid>, Option<BareJid>)> {
    let shown = invite::shown(&node.storage, token, "example.org", NOW).await;
    shown.unwrap().map(|it| (it.reserved, it.contact))
}

#[tokio::test]
async fn re_5_a_user_s_invitation_is_for_a_contact_and_makes_accounts_if_that_is_permitted() {
    for (registration, inviters, of_user, of_admin) in [
        ("off", "users", false, false),
        ("invited", "nobody", false, false),
        ("invited", "admins", false, true),
        ("invited", "users", true, true),
        ("open", "nobody", true, true),
    ] {
        let sets = [
            &*format!("auth.registration={registration}"),
            &*format!("auth.invite={inviters}"),
        ];
        for (jid, may_register) in [(BOB, of_user), (ALICE, of_admin)] {
            // One node for each, as what is random there is always the same.
            let node = node(&sets).await;
            let (uri, token) = invited(&node, jid).await;
            let inviter = bare(jid.split('/').next().unwrap());
            let ibr = if may_register { ";ibr=y" } else { "" };
            assert_eq!(uri, format!("xmpp:{inviter}?roster;preauth={token}{ibr}"));
            let leads = leads_to(&node, &token).await;
            let expect = may_register.then(|| (None, Some(inviter.clone())));
            assert_eq!(leads, expect, "{registration} {inviters} {jid}");
        }
    }
}

#[tokio::test]
async fn re_5_an_invitation_says_when_it_ends_and_where_it_is_explained() {
    let web = ["web.listen=127.0.0.1:0", "web.url=wss://a.example/ws"];
    let sets = [&web[..], &["auth.invitation_lifetime=24h"]].concat();
    let node = node(&sets).await;
    let said = stage(&node, BOB, INVITE, "", "").await;
    let (_, token) = issued(&said);
    let form = form(&command(&said));
    let link = format!("https://a.example/invite#bob@example.org/{token}?roster");
    assert_eq!(form.value("landing-url"), Some(&*link));
    let until = crate::clock::text(NOW + DAY);
    assert_eq!(form.value("expire"), until.as_deref());
    let listed = node.storage.invitations("", 9, NOW + DAY - 1).await;
    assert_eq!(listed.unwrap().len(), 1);
}

#[tokio::test]
async fn re_5_accounts_are_for_those_to_invite_to_whom_the_operator_leaves_that() {
    let offered = async |sets: &[&str], jid: &str| {
        let node = node(sets).await;
        let (account, domain) = (session(&node, jid).account, bare("example.org"));
        let items = node.services.commands().items(&node, &account, &domain);
        let names = items.into_iter().filter_map(|item| item.node);
        let names = names.filter(|name| name.starts_with("urn:xmpp:invite#"));
        names.collect::<Vec<_>>()
    };
    let invited = "auth.registration=invited";
    let (one, both) = (vec![INVITE], vec![CREATE, INVITE]);
    assert_eq!(offered(&[], ALICE).await, one);
    assert_eq!(offered(&[invited], ALICE).await, both);
    assert_eq!(offered(&[invited], BOB).await, one);
    assert_eq!(offered(&[invited, "auth.invite=users"], BOB).await, both);
    assert_eq!(offered(&[invited, "auth.invite=nobody"], ALICE).await, one);
    let none = [invited, "auth.invite=users", "quotas.invitations=0"];
    assert!(offered(&none, BOB).await.is_empty());
    assert_eq!(offered(&none, ALICE).await, both);
    let node = node(&[invited]).await;
    let said = stage(&node, BOB, CREATE, "", "").await;
    assert!(said.contains("<forbidden "), "{said}");
}

#[tokio::test]
async fn re_5_an_account_is_invited_by_its_name_or_without_and_with_a_contact_or_without() {
    let invited = ["auth.registration=invited"];
    let alice = bare("alice@example.org");
    for (fields, address, contact) in [
        (
            &[("username", ""), ("roster-subscription", "0")][..],
            "",
            None,
        ),
        (&[("username", "Dora")], "dora@", None),
        (
            &[("username", "dora"), ("roster-subscription", "true")],
            "dora@",
            Some(alice),
        ),
    ] {
        let node = node(&invited).await;
        let said = created(&node, ALICE, fields, 2).await;
        let (uri, token) = issued(&said[1]);
        let expect = format!("xmpp:{address}example.org?register;preauth={token}");
        assert_eq!(uri, expect);
        let reserved = (!address.is_empty()).then(|| bare("dora@example.org"));
        let leads = leads_to(&node, &token).await;
        assert_eq!(leads, Some((reserved, contact)));
        // Of a form that came twice only the second answer counts.
        let (_, first) = issued(&said[0]);
        assert_eq!(leads_to(&node, &first).await, None);
    }
    let node = node(&invited).await;
    for (name, condition) in [("bob", "conflict"), ("a b", "bad-payload")] {
        let said = created(&node, ALICE, &[("username", name)], 1).await;
        assert!(said[0].contains(&format!("<{condition} ")), "{said:?}");
    }
}

#[tokio::test]
async fn re_5_a_user_has_a_bounded_number_of_invitations() {
    let node = node(&["quotas.invitations=1"]).await;
    let bob = session(&node, BOB);
    invited(&node, BOB).await;
    // Another wish has another number.
    let held = "UPDATE invitation SET id = 'other'";
    node.storage.database.raw(held.to_owned()).await.unwrap();
    let said = stage(&node, BOB, INVITE, "", "").await;
    assert!(said.contains("<resource-constraint "), "{said}");
    invited(&node, ALICE).await;
    let removed = node
        .storage
        .remove_account(&bob.account, NOW, crate::storage::Ends::ALL);
    assert!(removed.await.unwrap());
    let left = node.storage.invitations("", 9, NOW).await.unwrap();
    let alice = Some(bare("alice@example.org"));
    assert!(left.iter().all(|it| it.inviter == alice), "{left:?}");
}

#[tokio::test]
async fn re_6_who_shows_an_invitation_is_granted_and_asked_and_nobody_is_after_that() {
    let node = node(&[]).await;
    let (_, token) = invited(&node, BOB).await;
    let (alice, carol) = (
        session(&node, ALICE),
        session(&node, "carol@example.org/pad"),
    );
    let shows = format!(
        "<presence type='subscribe' to='bob@example.org' id='p'><preauth xmlns='{}' token='{token}'/></presence>",
        ns::PREAUTH
    );
    // Her client has granted in advance what she will be asked (XEP-0379 §3.4).
    says(&alice, "<presence type='subscribed' to='bob@example.org'/>").await;
    let lines = settle(&node, acts(&alice, &shows).await).await.concat();
    let both = "<item jid='bob@example.org' subscription='both' approved='true'/>";
    assert!(lines.contains(both), "{lines}");
    let both = "<item jid='alice@example.org' subscription='both'/>";
    assert!(lines.contains(both), "{lines}");
    assert!(!lines.contains("notice to available"), "{lines}");
    // To him it is a request like any other, with whatever his client may know it by.
    let lines = settle(&node, acts(&carol, &shows).await).await.concat();
    assert!(
        lines.contains("notice to available of bob@example.org: "),
        "{lines}"
    );
    assert!(lines.contains(&token), "{lines}");
}

#[tokio::test]
async fn re_6_who_has_granted_nothing_in_advance_is_asked() {
    let node = node(&[]).await;
    let (_, token) = invited(&node, BOB).await;
    let shows = format!(
        "<presence type='subscribe' to='bob@example.org'><preauth xmlns='{}' token='{token}'/></presence>",
        ns::PREAUTH
    );
    let alice = session(&node, ALICE);
    let lines = settle(&node, acts(&alice, &shows).await).await.concat();
    let item = "<item jid='bob@example.org' subscription='to'/>";
    assert!(lines.contains(item), "{lines}");
    let asked = "notice to available of alice@example.org: <presence to='alice@example.org' from='bob@example.org'";
    assert!(lines.contains(asked), "{lines}");
}
