//! What clients are told, and who is told nothing.

use std::io::Write as _;

use proto::{BareJid, Element, ns};

use super::good_until;
use crate::router::testing::{NOW, Node, edge, edge_with, says, session};

const SECRET: &str = "north";

/// A node with a relay whose secret stands in this file, and a server without one.
async fn node(file: &std::path::Path) -> Node {
    let relay = format!(
        "external.service=[{{type='turn', host='turn.example.org', port=3478, transport='udp', \
         secret_file='{}', lifetime='1h'}}, {{type='stun', host='stun.example.org'}}]",
        file.display()
    );
    edge_with(&[&relay]).await
}

fn secret() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{SECRET}").unwrap();
    file
}

async fn ask(node: &Node, jid: &str, payload: &str) -> Element {
    let iq = format!("<iq type='get' id='1' to='example.org'>{payload}</iq>");
    let said = says(&session(node, jid), &iq).await.concat();
    let xml = said.strip_prefix("reply ").unwrap();
    Element::parse_in(ns::CLIENT, xml).unwrap().remove(0)
}

const ALICE: &str = "alice@example.org/desk";
const ALL: &str = "<services xmlns='urn:xmpp:extdisco:2'/>";

#[tokio::test]
async fn di_6_a_relay_is_told_with_credentials_that_are_good_for_a_while() {
    let file = secret();
    let node = node(file.path()).await;
    let answer = ask(&node, ALICE, ALL).await;
    let all = answer.child("services", ns::EXTERNAL_SERVICES).unwrap();
    let [turn, stun] = &all.elements().collect::<Vec<_>>()[..] else {
        panic!("{all:?}");
    };
    let until = NOW / 1000 + 3_600;
    let alice = BareJid::new("alice@example.org").unwrap();
    let (name, password) = good_until(SECRET.as_bytes(), until, &alice);
    for (attribute, expect) in [
        ("host", "turn.example.org"),
        ("port", "3478"),
        ("transport", "udp"),
        ("restricted", "true"),
        ("username", &name),
        ("password", &password),
        ("expires", "2023-11-14T23:13:20Z"),
    ] {
        assert_eq!(turn.attr(attribute), Some(expect), "{turn:?}");
    }
    assert!(
        name.starts_with(&format!("{until}:")) && !name.contains("alice"),
        "{name}"
    );
    assert_eq!(
        (stun.attr("type"), stun.attr("username")),
        (Some("stun"), None)
    );
    let some = "<services xmlns='urn:xmpp:extdisco:2' type='stun'/>";
    let answer = ask(&node, ALICE, some).await;
    let some = answer.child("services", ns::EXTERNAL_SERVICES).unwrap();
    assert_eq!(some.attr("type"), Some("stun"));
    assert_eq!(some.elements().count(), 1);
}

#[test]
fn di_6_a_password_is_what_a_relay_computes() {
    // As `printf %s NAME | openssl dgst -sha1 -hmac north -binary | base64` says.
    let alice = BareJid::new("alice@example.org").unwrap();
    let (name, password) = good_until(SECRET.as_bytes(), 1_700_003_600, &alice);
    assert_eq!(name, NAME);
    assert_eq!(password, PASSWORD);
}

const NAME: &str = "1700003600:2a3caf980f2d2e32";
const PASSWORD: &str = "T6rviqynJchc7qiHOAOST4lVC7o=";

#[tokio::test]
async fn di_6_credentials_are_given_for_relays_to_users_of_this_server() {
    let file = secret();
    let node = node(file.path()).await;
    let of = |host: &str, kind: &str, more: &str| {
        format!(
            "<credentials xmlns='urn:xmpp:extdisco:2'><service host='{host}' type='{kind}'{more}/></credentials>"
        )
    };
    let turn = "turn.example.org";
    let answer = ask(&node, ALICE, &of(turn, "turn", " port='3478'")).await;
    let given = answer.child("credentials", ns::EXTERNAL_SERVICES).unwrap();
    assert!(given.elements().all(|one| one.attr("password").is_some()));
    let refusals = [
        (ALICE, of(turn, "turn", " port='1'"), "item-not-found"),
        (ALICE, of("stun.example.org", "stun", ""), "item-not-found"),
        (ALICE, of(turn, "turn", " port='x'"), "bad-request"),
        (ALICE, ALL.replace("services", "credentials"), "bad-request"),
        (
            "mallory@elsewhere.example/x",
            of(turn, "turn", ""),
            "forbidden",
        ),
        ("mallory@elsewhere.example/x", ALL.to_owned(), "forbidden"),
    ];
    for (jid, payload, expect) in refusals {
        let answer = ask(&node, jid, &payload).await;
        let error = answer.child("error", ns::CLIENT).unwrap();
        assert!(
            error.child(expect, ns::STANZAS).is_some(),
            "{payload}: {error:?}"
        );
    }
    let missing = file.path().to_owned();
    drop(file);
    assert!(!missing.exists());
    let answer = ask(&node, ALICE, ALL).await;
    let error = answer.child("error", ns::CLIENT).unwrap();
    assert_eq!(error.attr("type"), Some("wait"), "{error:?}");
}

#[tokio::test]
async fn without_services_there_is_no_such_thing() {
    let answer = ask(&edge().await, ALICE, ALL).await;
    let error = answer.child("error", ns::CLIENT).unwrap();
    assert!(error.child("service-unavailable", ns::STANZAS).is_some());
}
