//! What administrators do and are told, and everybody else is not.

use proto::payload::disco::Item;
use proto::payload::form::{Form, FormType};
use proto::{BareJid, Element, ns};

use crate::router::testing::{NOW, Node, edge_with, says, session};

const ALICE: &str = "alice@example.org/desk";
const BOB: &str = "bob@example.org/phone";

async fn node() -> Node {
    edge_with(&["domain=example.org", "admin.jids=alice@example.org"]).await
}

fn bare(jid: &str) -> BareJid {
    BareJid::new(jid).unwrap()
}

/// What follows from one stage, the answer last or first, and all as text.
async fn stage(node: &Node, jid: &str, name: &str, more: &str, form: &str) -> Vec<String> {
    let iq = format!(
        "<iq type='set' id='1' to='example.org'><command xmlns='{}' node='{}#{name}' {more}>{form}</command></iq>",
        ns::COMMANDS,
        ns::ADMIN
    );
    says(&session(node, jid), &iq).await
}

fn command(said: &[String]) -> Element {
    let reply = said.iter().find_map(|line| line.strip_prefix("reply "));
    let iq = Element::parse_in(ns::CLIENT, reply.expect("an answer"))
        .unwrap()
        .remove(0);
    let command = iq.child("command", ns::COMMANDS).cloned();
    command.unwrap_or_else(|| panic!("{iq:?}"))
}

/// Begins a command and fills in its form; what follows from that.
async fn run(node: &Node, name: &str, fields: &[(&str, &str)]) -> Vec<String> {
    let begun = stage(node, ALICE, name, "", "").await;
    let begun = command(&begun);
    assert_eq!(begun.attr("status"), Some("executing"), "{begun:?}");
    let asked = begun
        .child("x", ns::DATA_FORM)
        .and_then(Form::parse)
        .unwrap();
    for (var, _) in fields {
        assert!(
            asked.values(var).is_some(),
            "{var} is not asked for: {asked:?}"
        );
    }
    let id = begun.attr("sessionid").unwrap();
    let form = Form::new(FormType::Submit, ns::ADMIN);
    let form = fields
        .iter()
        .fold(form, |form, (var, value)| form.with(var, value.split(' ')));
    let form = form.to_element().to_xml(ns::COMMANDS);
    stage(node, ALICE, name, &format!("sessionid='{id}'"), &form).await
}

#[track_caller]
fn completed(said: &[String]) -> Element {
    let done = command(said);
    assert_eq!(done.attr("status"), Some("completed"), "{done:?}");
    done
}

#[track_caller]
fn refused(said: &[String], condition: &str) {
    let said = said.concat();
    assert!(said.contains(&format!("<{condition} ")), "{said}");
}

/// The values of a field of the result.
async fn told(node: &Node, name: &str, fields: &[(&str, &str)], var: &str) -> Vec<String> {
    let said = match fields {
        [] => stage(node, ALICE, name, "", "").await,
        fields => run(node, name, fields).await,
    };
    let done = completed(&said);
    let form = done
        .child("x", ns::DATA_FORM)
        .and_then(Form::parse)
        .unwrap();
    let values = form.values(var).unwrap_or_else(|| panic!("{form:?}"));
    values.to_vec()
}

#[tokio::test]
async fn ad_2_only_those_whom_the_configuration_names_are_administrators() {
    let node = node().await;
    for command in
        node.services
            .commands()
            .items(&node, &bare("alice@example.org"), &bare("example.org"))
    {
        let name = command.node.unwrap();
        let Some(name) = name.strip_prefix(ns::ADMIN) else {
            continue;
        };
        let name = name.trim_start_matches('#').to_owned();
        refused(&stage(&node, BOB, &name, "", "").await, "forbidden");
    }
    let bob = bare("bob@example.org");
    let items = node
        .services
        .commands()
        .items(&node, &bob, &bare("example.org"));
    let of_admin = |item: &Item| {
        item.node
            .as_deref()
            .is_some_and(|it| it.starts_with(ns::ADMIN))
    };
    assert!(!items.iter().any(of_admin), "{items:?}");
}

#[tokio::test]
async fn ad_2_an_account_is_made_once_also_by_a_form_that_comes_twice() {
    let node = node().await;
    let fields = [
        ("accountjid", "dora@example.org"),
        ("password", "secret"),
        ("password-verify", "secret"),
    ];
    let begun = command(&stage(&node, ALICE, "add-user", "", "").await);
    let id = format!("sessionid='{}'", begun.attr("sessionid").unwrap());
    let form = Form::new(FormType::Submit, ns::ADMIN);
    let form = fields
        .iter()
        .fold(form, |form, (var, value)| form.with(var, [*value]));
    let form = form.to_element().to_xml(ns::COMMANDS);
    for _ in 0..2 {
        let said = stage(&node, ALICE, "add-user", &id, &form).await;
        assert!(!said.concat().contains("secret"), "{said:?}");
        completed(&said);
    }
    let found = node
        .storage
        .find_account(&bare("dora@example.org"))
        .await
        .unwrap();
    assert_eq!(found.unwrap().created, NOW);
    // An account that is there already, by whomever it was made.
    let keys = crate::auth::derive_keys("x").unwrap();
    let erik = bare("erik@example.org");
    node.storage
        .create_account(&erik, &keys, NOW - 1)
        .await
        .unwrap();
    let taken = [("accountjid", "erik@example.org"), ("password", "y")];
    refused(&run(&node, "add-user", &taken).await, "conflict");
    let stored = node
        .storage
        .account_keys("erik", "example.org")
        .await
        .unwrap();
    assert_eq!(stored.unwrap().keys, keys);
}

#[tokio::test]
async fn ad_2_what_cannot_be_an_account_or_a_password_is_refused() {
    let node = node().await;
    for (jid, password, again) in [
        ("", "x", "x"),
        ("example.org", "x", "x"),
        ("dora@elsewhere.example", "x", "x"),
        ("dora@example.org/x", "x", "x"),
        ("a@example.org b@example.org", "x", "x"),
        ("do ra@", "x", "x"),
        ("dora@example.org", "", ""),
        ("dora@example.org", "x", "y"),
    ] {
        let fields = [
            ("accountjid", jid),
            ("password", password),
            ("password-verify", again),
        ];
        let said = run(&node, "add-user", &fields).await;
        refused(&said, "bad-payload");
    }
    assert_eq!(node.storage.count_accounts("example.org").await.unwrap(), 3);
}

#[tokio::test]
async fn ad_2_accounts_are_locked_unlocked_given_passwords_and_removed() {
    let node = node().await;
    let (bob, both) = ("bob@example.org", "bob@example.org nobody@example.org");
    let is_locked = async || {
        let found = node.storage.find_account(&bare(bob)).await.unwrap();
        found.map(|found| found.disabled)
    };
    let said = run(&node, "disable-user", &[("accountjids", both)]).await;
    let note = completed(&said);
    let note = note.child("note", ns::COMMANDS).unwrap().text();
    assert!(
        note.contains("nobody@example.org") && !note.contains(bob),
        "{note}"
    );
    assert_eq!(is_locked().await, Some(true));
    completed(&run(&node, "reenable-user", &[("accountjids", bob)]).await);
    assert_eq!(is_locked().await, Some(false));
    let fields = [("accountjid", bob), ("password", "new")];
    completed(&run(&node, "change-user-password", &fields).await);
    let stored = node
        .storage
        .account_keys("bob", "example.org")
        .await
        .unwrap()
        .unwrap();
    assert!(
        stored
            .keys
            .sha256
            .unwrap()
            .matches(proto::sasl::Digest::Sha256, "new")
    );
    // Each of these ends the sessions that rest on what was.
    let revoked = node.storage.revocations(100).await.unwrap();
    assert!(revoked.iter().any(|note| note.account == bare(bob)));
    for (name, jid, condition) in [
        ("delete-user", "nobody@example.org", "item-not-found"),
        ("disable-user", "nobody@example.org", "item-not-found"),
        ("delete-user", "alice@example.org", "not-allowed"),
        (
            "disable-user",
            "bob@example.org alice@example.org",
            "not-allowed",
        ),
    ] {
        refused(&run(&node, name, &[("accountjids", jid)]).await, condition);
    }
    assert_eq!(is_locked().await, Some(false));
    completed(&run(&node, "delete-user", &[("accountjids", bob)]).await);
    assert_eq!(is_locked().await, None);
}

#[tokio::test]
async fn ad_2_sessions_are_ended_by_the_shard_once_the_answer_is_on_its_way() {
    let node = node().await;
    let fields = [("accountjids", "bob@example.org/on carol@example.org")];
    let said = run(&node, "end-user-session", &fields).await;
    assert!(said[0].starts_with("reply "), "{said:?}");
    assert_eq!(
        said[1..],
        [
            "end bob@example.org/on: Admin",
            "end carol@example.org: Admin"
        ]
    );
    let gone = [("accountjids", "bob@example.org/gone")];
    refused(
        &run(&node, "end-user-session", &gone).await,
        "item-not-found",
    );
}

#[tokio::test]
async fn ad_2_numbers_and_lists_are_those_of_the_domain_and_have_a_bound() {
    let node = node().await;
    let registered = "get-registered-users-num";
    assert_eq!(
        told(&node, registered, &[], "registeredusersnum").await,
        ["3"]
    );
    assert_eq!(
        told(&node, "get-online-users-num", &[], "onlineusersnum").await,
        ["3"]
    );
    let (list, var) = ("get-registered-users-list", "registereduserjids");
    let all = ["alice@example.org", "bob@example.org", "carol@example.org"];
    assert_eq!(told(&node, list, &[("max_items", "none")], var).await, all);
    assert_eq!(
        told(&node, list, &[("max_items", "2")], var).await,
        all[..2]
    );
    let (online, var) = ("get-online-users-list", "onlineuserjids");
    assert_eq!(
        told(&node, online, &[("max_items", "1")], var).await,
        all[..1]
    );
    let said = run(&node, online, &[("max_items", "1")]).await.concat();
    assert!(said.contains("These are 1 of 3."), "{said}");
    for wrong in ["0", "-1", "many"] {
        refused(
            &run(&node, list, &[("max_items", wrong)]).await,
            "bad-payload",
        );
    }
}

#[tokio::test]
async fn ad_2_an_account_s_roster_and_numbers_are_told() {
    let node = node().await;
    let item = "<iq type='set' id='r'><query xmlns='jabber:iq:roster'>\
                <item jid='carol@example.org' name='C'/></query></iq>";
    says(&session(&node, BOB), item).await;
    let bob = ("accountjids", "bob@example.org");
    let said = run(&node, "get-user-roster", &[bob]).await.concat();
    assert!(said.contains("<query xmlns='jabber:iq:roster' "), "{said}");
    assert!(
        said.contains("<item jid='carol@example.org' subscription='none' name='C'/>"),
        "{said}"
    );
    let one = [("accountjid", "bob@example.org")];
    assert_eq!(told(&node, "user-stats", &one, "rostersize").await, ["1"]);
    assert_eq!(
        told(&node, "user-stats", &one, "onlineresources").await,
        ["on"]
    );
    let last = told(&node, "get-user-lastlogin", &[bob], "lastlogin").await;
    assert_eq!(last, ["2023-11-14T22:13:20Z"]);
    let nobody = [("accountjids", "nobody@example.org")];
    refused(
        &run(&node, "get-user-roster", &nobody).await,
        "item-not-found",
    );
}
