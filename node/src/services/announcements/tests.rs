//! What administrators have said, and who is told of it.

use proto::payload::form::{Form, FormType};
use proto::{Element, ns};

use super::MOST_TEXT;
use crate::router::testing::{Node, edge_with, says, session};

const ALICE: &str = "alice@example.org/desk";
const BOB: &str = "bob@example.org/phone";
/// Somebody who is not online yet.
const DORA: &str = "dora@example.org/phone";

async fn node() -> Node {
    edge_with(&["domain=example.org", "admin.jids=alice@example.org"]).await
}

/// Runs a command; what follows from its last stage. `None`: there is no form to be filled in.
async fn run(node: &Node, name: &str, text: Option<(&str, &str)>) -> Vec<String> {
    let stage = async |more: &str, form: &str| {
        let iq = format!(
            "<iq type='set' id='1' to='example.org'><command xmlns='{}' node='{}#{name}' {more}>{form}</command></iq>",
            ns::COMMANDS,
            ns::ADMIN
        );
        says(&session(node, ALICE), &iq).await
    };
    let begun = stage("", "").await;
    let Some((var, text)) = text else {
        return begun;
    };
    let xml = begun[0].strip_prefix("reply ").unwrap();
    let iq = Element::parse_in(ns::CLIENT, xml).unwrap().remove(0);
    let id = iq
        .child("command", ns::COMMANDS)
        .unwrap()
        .attr("sessionid")
        .unwrap();
    let form = Form::new(FormType::Submit, ns::ADMIN).with(var, text.lines());
    let form = form.to_element().to_xml(ns::COMMANDS);
    stage(&format!("sessionid='{id}'"), &form).await
}

async fn logs_in(node: &Node, jid: &str) -> Vec<String> {
    let mut said = says(&session(node, jid), "<presence/>").await;
    said.retain(|line| line.starts_with("message "));
    said
}

#[tokio::test]
async fn ad_2_an_announcement_is_for_everybody_and_has_a_bound() {
    let node = node().await;
    let said = run(&node, "announce", Some(("announcement", "one\ntwo"))).await;
    assert!(said[0].contains("status='completed'"), "{said:?}");
    let headline = "to everybody: <message from='example.org' id=";
    assert!(said[1].starts_with(headline), "{said:?}");
    assert!(
        said[1].contains("type='headline'><body>one\ntwo</body></message>"),
        "{said:?}"
    );
    for text in [" \n ", &*"x".repeat(MOST_TEXT + 1)] {
        let said = run(&node, "announce", Some(("announcement", text))).await;
        assert!(
            said.len() == 1 && said[0].contains("<bad-payload "),
            "{said:?}"
        );
    }
    let most = "x".repeat(MOST_TEXT);
    assert_eq!(
        run(&node, "announce", Some(("announcement", &most)))
            .await
            .len(),
        2
    );
}

#[tokio::test]
async fn ad_2_the_message_of_the_day_is_told_once_at_once_or_at_a_login() {
    let node = node().await;
    assert!(logs_in(&node, DORA).await.is_empty());
    let said = run(&node, "set-motd", Some(("motd", "Welcome"))).await;
    let headline = "to everybody: <message from='example.org' id=";
    assert!(said[1].starts_with(headline), "{said:?}");
    // Bob is online, and is not told again.
    assert!(logs_in(&node, BOB).await.is_empty());
    let told = logs_in(&node, DORA).await;
    let expect = "<body>Welcome</body></message>";
    assert!(told.len() == 1 && told[0].contains(expect), "{told:?}");
    assert!(
        told[0].contains("to='dora@example.org/phone' from='example.org'"),
        "{told:?}"
    );
    assert!(told[0].contains("type='headline'"), "{told:?}");
    assert!(logs_in(&node, "dora@example.org/desk").await.is_empty());
    let form = run(&node, "edit-motd", None).await.concat();
    assert!(form.contains("<value>Welcome</value>"), "{form}");
    let said = run(&node, "edit-motd", Some(("motd", "Hello"))).await;
    assert_eq!(said.len(), 1, "other words are told to nobody at once");
    assert!(logs_in(&node, DORA).await.is_empty());
    let told = logs_in(&node, "erik@example.org/x").await.concat();
    assert!(told.contains("<body>Hello</body>"), "{told}");
    let said = run(&node, "delete-motd", None).await.concat();
    assert!(said.contains("status='completed'"), "{said}");
    assert!(logs_in(&node, ALICE).await.is_empty());
    let said = run(&node, "delete-motd", None).await.concat();
    assert!(said.contains("There was none."), "{said}");
}

#[tokio::test]
async fn a_login_does_not_wait_for_a_database_that_is_away() {
    let node = node().await;
    run(&node, "set-motd", Some(("motd", "Welcome"))).await;
    assert_eq!(logs_in(&node, DORA).await.len(), 1);
    let greeter = super::motd::Greeter(Default::default());
    node.storage.close().await;
    let ctx = session(&node, DORA);
    let stanza = proto::stanza::Stanza::new(proto::stanza::Kind::Presence(
        proto::stanza::PresenceType::Available,
    ));
    let mut presence = crate::hooks::Presence::new(stanza, true);
    let turn = crate::hooks::Hook::turn(&greeter, ctx.sender(), &mut presence).await;
    assert!(turn.is_ok() && presence.follow.is_empty());
}
