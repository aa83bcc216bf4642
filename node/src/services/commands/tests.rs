//! What clients are answered, by a command of three stages that remembers nothing.

use proto::payload::form::{Field, Form, FormType};
use proto::stanza::error::StanzaError;
use proto::{BareJid, Element, Jid, ns};

use super::session::{LIFETIME, Owner, Session};
use crate::hooks::command::{Ask, Done, MOST_CARRIED, Outcome, bad_payload};
use crate::hooks::{Call, Command, Edge, Service, Setup};
use crate::router::testing::{NOW, Node, says, session, with_service};

const GREET: &str = "urn:example:greet";
const FORM: &str = "urn:example:form";
const ALICE: &str = "alice@example.org/desk";
const BOB: &str = "bob@example.org/phone";

/// A command is one file and one line.
const SERVICE: Service = Service::new("greet", &[], register);

fn register(setup: &mut Setup<'_>) {
    setup.command(Command::new(GREET, "Greet somebody", alice_only, greet));
}

fn alice_only(_: &Edge, account: &BareJid) -> bool {
    account.local() == Some("alice")
}

async fn greet(call: Call) -> Result<Outcome, StanzaError> {
    let form = |var: &str| {
        let form = Form::new(FormType::Form, FORM);
        form.asking(Field::new(var, "text-single", "Fill it in").required())
    };
    let filled = |var| {
        let form = call.submitted(FORM)?;
        let value = form.value(var).filter(|value| !value.is_empty());
        value
            .map(str::to_owned)
            .ok_or_else(|| bad_payload("it is empty"))
    };
    Ok(match call.stage {
        0 => Outcome::Ask(Ask {
            form: form("greeting"),
            last: false,
            carried: String::new(),
        }),
        1 => Outcome::Ask(Ask {
            form: form("whom"),
            last: true,
            carried: filled("greeting")?,
        }),
        _ => Outcome::Done(Done {
            note: Some(format!("{} {}", call.carried, filled("whom")?)),
            ..Done::default()
        }),
    })
}

async fn node() -> Node {
    with_service(SERVICE, &[]).await
}

async fn ask(node: &Node, jid: &str, verb: &str, payload: &str) -> Element {
    let iq = format!("<iq type='{verb}' id='1' to='example.org'>{payload}</iq>");
    let said = says(&session(node, jid), &iq).await.concat();
    let xml = said.strip_prefix("reply ").expect("an answer");
    Element::parse_in(ns::CLIENT, xml).unwrap().remove(0)
}

/// Runs a stage: attributes of the command, and its content.
async fn run(node: &Node, jid: &str, attributes: &str, content: &str) -> Element {
    let command = format!(
        "<command xmlns='{}' {attributes}>{content}</command>",
        ns::COMMANDS
    );
    ask(node, jid, "set", &command).await
}

fn stage(answer: &Element) -> (&str, &str) {
    let command = answer.child("command", ns::COMMANDS);
    let command = command.unwrap_or_else(|| panic!("{answer:?}"));
    let attr = |name| command.attr(name).unwrap_or_default();
    (attr("status"), attr("sessionid"))
}

fn filled(var: &str, value: &str) -> String {
    format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{FORM}</value></field>\
         <field var='{var}'><value>{value}</value></field></x>"
    )
}

/// The condition of a refusal, and what the extension says about it.
fn refused(answer: &Element) -> String {
    let error = answer.child("error", ns::CLIENT);
    let error = error.unwrap_or_else(|| panic!("{answer:?}"));
    let names = error.elements().filter(|child| child.local() != "text");
    names.map(Element::local).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn ad_1_a_command_goes_on_where_it_was_on_a_node_that_has_never_heard_of_it() {
    let one = node().await;
    let begun = run(&one, ALICE, &format!("node='{GREET}'"), "").await;
    let (status, id) = stage(&begun);
    assert_eq!(status, "executing");
    let actions = begun.child("command", ns::COMMANDS).unwrap();
    let actions = actions.child("actions", ns::COMMANDS).unwrap();
    assert_eq!(actions.attr("execute"), Some("next"));
    // The same database, and nothing else.
    let other = with_service(SERVICE, &[]).await;
    let edge = Edge {
        trail: crate::trace::Trail::new(2, || 0),
        domains: one.domains.clone(),
        storage: one.storage.clone(),
        accounts: one.accounts.clone(),
        presences: one.presences.clone(),
        visibility: one.visibility.clone(),
        blocking: one.blocking.clone(),
        nodes: one.nodes.clone(),
        contacts: one.contacts.clone(),
        now: one.now,
        random: || 99,
        started: one.started,
        administrators: Vec::new(),
    };
    let other = Node {
        edge: edge.into(),
        services: other.services,
    };
    let next = format!("node='{GREET}' action='next' sessionid='{id}'");
    let second = run(&other, ALICE, &next, &filled("greeting", "Hello")).await;
    let (status, id) = stage(&second);
    assert_eq!(status, "executing");
    let complete = format!("node='{GREET}' action='complete' sessionid='{id}'");
    let third = run(&one, ALICE, &complete, &filled("whom", "world")).await;
    assert_eq!(stage(&third), ("completed", id));
    let command = third.child("command", ns::COMMANDS).unwrap();
    let note = command.child("note", ns::COMMANDS).unwrap();
    assert_eq!(
        (note.attr("type"), &*note.text()),
        (Some("info"), "Hello world")
    );
    assert_eq!(command.attr_ns("lang", ns::XML), Some("en"));
}

#[tokio::test]
async fn ad_1_a_command_is_given_up() {
    let node = node().await;
    let begun = run(
        &node,
        ALICE,
        &format!("node='{GREET}' action='execute'"),
        "",
    )
    .await;
    let (_, id) = stage(&begun);
    let cancel = format!("node='{GREET}' action='cancel' sessionid='{id}'");
    let canceled = run(&node, ALICE, &cancel, "").await;
    assert_eq!(stage(&canceled), ("canceled", id));
}

#[tokio::test]
async fn ad_1_what_does_not_fit_is_refused_by_its_condition() {
    let node = node().await;
    let begun = run(&node, ALICE, &format!("node='{GREET}'"), "").await;
    let id = stage(&begun).1;
    let on = |action: &str| format!("node='{GREET}' sessionid='{id}' action='{action}'");
    let here = format!("node='{GREET}'");
    let lang = format!("{here} xml:lang='not a language'");
    let (other, twice) = (format!("{here} sessionid='AAAA'"), filled("greeting", ""));
    let foreign = filled("greeting", "x").replace(FORM, "urn:example:other");
    for (attributes, content, expect) in [
        ("", "", "bad-request"),
        ("node='urn:example:none'", "", "item-not-found"),
        (
            &*format!("{here} action='dance'"),
            "",
            "bad-request malformed-action",
        ),
        (
            &*format!("{here} action='next'"),
            "",
            "bad-request bad-action",
        ),
        (
            &*format!("{here} action='complete'"),
            "",
            "bad-request bad-action",
        ),
        (
            &*format!("{here} action='cancel'"),
            "",
            "bad-request bad-sessionid",
        ),
        (&*on("prev"), "", "bad-request bad-action"),
        (
            &*on("complete"),
            &*filled("greeting", "x"),
            "bad-request bad-action",
        ),
        (&*lang, "", "bad-request bad-locale"),
        (&*other, "", "bad-request bad-sessionid"),
        (&*on("next"), "", "bad-request bad-payload"),
        (&*on("next"), &*twice, "bad-request bad-payload"),
        (&*on("next"), &*foreign, "bad-request bad-payload"),
        (
            &*on("next"),
            "<x xmlns='jabber:x:data' type='dance'/>",
            "bad-request bad-payload",
        ),
    ] {
        let answer = run(&node, ALICE, attributes, content).await;
        assert_eq!(refused(&answer), expect, "{attributes} {content}");
    }
    // After all that the session is what it was.
    let answer = run(&node, ALICE, &on("execute"), &filled("greeting", "Hello")).await;
    assert_eq!(stage(&answer).0, "executing");
    let long = filled("greeting", &"x".repeat(MOST_CARRIED + 1));
    let answer = run(&node, ALICE, &on("next"), &long).await;
    assert_eq!(refused(&answer), "resource-constraint");
    let huge = filled("greeting", &"x".repeat(70_000));
    let answer = run(&node, ALICE, &on("next"), &huge).await;
    assert_eq!(refused(&answer), "policy-violation");
}

#[tokio::test]
async fn ad_1_a_session_is_over_after_a_while_and_nobody_else_s() {
    let node = node().await;
    let begun = run(&node, ALICE, &format!("node='{GREET}'"), "").await;
    let id = stage(&begun).1;
    let key = node
        .storage
        .shared_secret("commands", [0; 32])
        .await
        .unwrap();
    let (alice, domain) = (
        Jid::new(ALICE).unwrap(),
        BareJid::new("example.org").unwrap(),
    );
    let owner = Owner {
        session: &alice,
        domain: &domain,
        node: GREET,
    };
    let fresh = Session::open(&key, owner, id).expect("it is the key");
    for (age, expect) in [
        (LIFETIME, "executing"),
        (LIFETIME + 1, "not-allowed session-expired"),
    ] {
        let session = Session {
            begun: NOW - age,
            ..fresh.clone()
        };
        let id = session.seal(&key, owner);
        let attributes = format!("node='{GREET}' sessionid='{id}'");
        let answer = run(&node, ALICE, &attributes, &filled("greeting", "x")).await;
        match answer.attr("type") {
            Some("result") => assert_eq!(stage(&answer).0, expect),
            _ => assert_eq!(refused(&answer), expect),
        }
    }
    let attributes = format!("node='{GREET}' sessionid='{id}'");
    let answer = run(&node, "alice@example.org/other", &attributes, "").await;
    assert_eq!(refused(&answer), "bad-request bad-sessionid");
    let answer = run(&node, BOB, &attributes, "").await;
    assert_eq!(refused(&answer), "forbidden");
}

#[tokio::test]
async fn ad_1_commands_are_listed_to_those_who_may_run_them() {
    let node = node().await;
    let items = format!(
        "<query xmlns='{}' node='{}'/>",
        ns::DISCO_ITEMS,
        ns::COMMANDS
    );
    let info = format!("<query xmlns='{}' node='{GREET}'/>", ns::DISCO_INFO);
    let listed = async |jid: &str| {
        let answer = ask(&node, jid, "get", &items).await;
        let query = answer.child("query", ns::DISCO_ITEMS).unwrap();
        let nodes = query.elements().filter_map(|item| item.attr("node"));
        // Services of the server have some of their own.
        let nodes = nodes.filter(|node| node.starts_with("urn:example:"));
        nodes.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed(ALICE).await, [GREET]);
    assert_eq!(listed(BOB).await, [""; 0]);
    let answer = ask(&node, ALICE, "get", &info).await;
    let query = answer.child("query", ns::DISCO_INFO).unwrap();
    let identity = query.child("identity", ns::DISCO_INFO).unwrap();
    assert_eq!(identity.attr("type"), Some("command-node"));
    assert_eq!(identity.attr("name"), Some("Greet somebody"));
    let answer = ask(&node, BOB, "get", &info).await;
    assert_eq!(refused(&answer), "item-not-found");
    let list = format!(
        "<query xmlns='{}' node='{}'/>",
        ns::DISCO_INFO,
        ns::COMMANDS
    );
    let answer = ask(&node, BOB, "get", &list).await;
    let query = answer.child("query", ns::DISCO_INFO).unwrap();
    let identity = query.child("identity", ns::DISCO_INFO).unwrap();
    assert_eq!(identity.attr("type"), Some("command-list"));
}
