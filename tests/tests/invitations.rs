//! Invitations: made by an operator or a user, shown by whoever was invited, used once (XEP-0445, XEP-0401, XEP-0379).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::payload::form::{Form, FormType};
use proto::{Element, ns};
use serde_json::Value;
use tests::client::{Client, PASSWORD};
use tests::cluster::Cluster;
use tests::command::{completed, refused, stage_at, values};
use tests::contact::await_presence;
use tests::register::{FIELDS, INVITED, account, ask, outcome, preauth, register, stranger};
use tests::wire::DOMAIN;
use tests::{process, until, web};

const INVITE: &str = "urn:xmpp:invite#invite";
const CREATE: &str = "urn:xmpp:invite#create-account";

/// `holdfast user` with these arguments: whether it succeeds, and what it says.
fn user(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    let config = cluster.config(0).to_string_lossy().into_owned();
    let arguments = [&["user"], arguments, &["--config", &config]].concat();
    let output = process::run(&arguments, "");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// An invitation, and its token.
fn invite(cluster: &Cluster, arguments: &[&str]) -> (Value, String) {
    let (made, said) = user(cluster, &[&["invite", "--json"], arguments].concat());
    assert!(made, "{said}");
    let issued: Value = serde_json::from_str(&said).unwrap();
    let token = issued["uri"].as_str().unwrap().rsplit('=').next().unwrap();
    let token = token.to_owned();
    (issued, token)
}

/// Changes of the roster come from now on.
async fn hear_of_contacts(client: &mut Client) {
    let roster = format!("<iq type='get' id='r'><query xmlns='{}'/></iq>", ns::ROSTER);
    client.request(&roster, "r").await.unwrap();
}

/// The next change of the roster is this contact.
async fn check_pushed(client: &mut Client, contact: &str, subscription: &str) {
    let push = loop {
        let stanza = client.stanza().await.unwrap();
        if stanza.local() == "iq" && stanza.child("query", ns::ROSTER).is_some() {
            break stanza;
        }
        client.keep(stanza).await;
    };
    let item = push.child("query", ns::ROSTER).unwrap();
    let item = item.child("item", ns::ROSTER).unwrap();
    let told = (item.attr("jid"), item.attr("subscription"));
    assert_eq!(told, (Some(contact), Some(subscription)));
}

/// Each sees that the other is there.
async fn check_contacts(one: &mut Client, other: &mut Client) {
    let jids = [one.jid.to_string(), other.jid.to_string()];
    await_presence(one, None, &jids[1]).await;
    await_presence(other, None, &jids[0]).await;
}

/// What a user's command has made: its address, its token and the page.
fn issued(answer: &Element) -> (String, String, Vec<String>) {
    let command = completed(answer);
    let uri = values(&command, "uri").remove(0);
    let token = uri.split("preauth=").nth(1).unwrap();
    let token = token.split(';').next().unwrap().to_owned();
    assert!(values(&command, "expire")[0].ends_with('Z'), "{command:?}");
    let form = command.child("x", ns::DATA_FORM).and_then(Form::parse);
    let page = form.and_then(|form| form.values("landing-url").map(<[_]>::to_vec));
    (uri, token, page.unwrap_or_default())
}

#[tokio::test]
async fn re_4_and_t_31_only_who_is_invited_gets_an_account_and_only_once() {
    let cluster = Cluster::start(3, &[], INVITED).await;
    assert_eq!(
        outcome(&register(&cluster, 0, "alice").await),
        "not-allowed"
    );
    let (_, token) = invite(&cluster, &[]);
    let mut wire = stranger(&cluster, 1).await;
    for wrong in ["no-such-token", &"x".repeat(200)] {
        let answer = ask(&mut wire, &preauth(wrong)).await.unwrap();
        assert_eq!(outcome(&answer), "item-not-found", "{wrong}");
    }
    let answer = ask(&mut wire, &preauth("")).await.unwrap();
    assert_eq!(outcome(&answer), "bad-request");
    let answer = ask(&mut wire, &account("alice", PASSWORD)).await.unwrap();
    assert_eq!(outcome(&answer), "not-allowed");

    // Another stream shows it too: it is used up by whoever gets an account, and not by a failure.
    let mut late = stranger(&cluster, 2).await;
    for wire in [&mut wire, &mut late] {
        let answer = ask(wire, &preauth(&token)).await.unwrap();
        assert_eq!(outcome(&answer), "result");
    }
    let answer = ask(&mut wire, &account("a b", PASSWORD)).await.unwrap();
    assert_eq!(outcome(&answer), "not-acceptable");
    let answer = ask(&mut wire, &account("alice", PASSWORD)).await.unwrap();
    assert_eq!(outcome(&answer), "result");
    let answer = ask(&mut late, &account("bob", PASSWORD)).await.unwrap();
    assert_eq!(outcome(&answer), "not-allowed");
    let answer = ask(&mut wire, &account("bob", PASSWORD)).await.unwrap();
    assert_eq!(
        outcome(&answer),
        "not-allowed",
        "once on the same stream, too"
    );
    let answer = ask(&mut late, &preauth(&token)).await.unwrap();
    assert_eq!(outcome(&answer), "item-not-found");
    cluster.client(0, "alice").await.check_nothing_more().await;

    let log = (0..3).map(|node| std::fs::read_to_string(cluster.log(node)).unwrap());
    let log: String = log.collect();
    assert!(
        log.contains("registration failed") && !log.contains(&token),
        "T-73: {log}"
    );
    let database = std::fs::read(cluster.path().join("holdfast.db")).unwrap();
    let found = database
        .windows(token.len())
        .any(|bytes| bytes == token.as_bytes());
    assert!(!found, "T-33");
}

#[tokio::test]
async fn re_4_a_name_is_kept_for_who_is_invited_and_both_become_contacts() {
    let cluster = Cluster::start(3, &["bob"], &INVITED.replace("invited", "open")).await;
    let mut bob = cluster.client(0, "bob").await;
    hear_of_contacts(&mut bob).await;
    let (issued, token) = invite(&cluster, &["--name", "alice", "--contact", "bob@localhost"]);
    let uri = issued["uri"].as_str().unwrap();
    assert_eq!(uri, format!("xmpp:alice@{DOMAIN}?register;preauth={token}"));
    assert_eq!(outcome(&register(&cluster, 1, "alice").await), "conflict");
    let (made, said) = user(&cluster, &["invite", "--name", "alice"]);
    assert!(!made && said.contains("kept for somebody"), "{said}");

    let mut wire = stranger(&cluster, 1).await;
    ask(&mut wire, &preauth(&token)).await.unwrap();
    let form = ask(&mut wire, FIELDS).await.unwrap();
    let query = form.child("query", ns::REGISTER).unwrap();
    assert_eq!(
        query.child("username", ns::REGISTER).unwrap().text(),
        "alice"
    );
    let answer = ask(&mut wire, &account("carol", PASSWORD)).await.unwrap();
    assert_eq!(outcome(&answer), "not-acceptable");
    let answer = ask(&mut wire, &account("alice", PASSWORD)).await.unwrap();
    assert_eq!(outcome(&answer), "result");

    // Bob's client is told, and each sees the other.
    check_pushed(&mut bob, "alice@localhost", "both").await;
    let mut alice = cluster.client(2, "alice").await;
    check_contacts(&mut alice, &mut bob).await;
    let (_, left) = user(&cluster, &["invitations"]);
    assert_eq!(left, "");
}

#[tokio::test]
async fn re_4_an_invitation_ends_is_taken_back_and_goes_with_who_has_made_it() {
    let cluster = Cluster::start(1, &["bob"], INVITED).await;
    let show = async |token: &str| {
        let mut wire = stranger(&cluster, 0).await;
        outcome(&ask(&mut wire, &preauth(token)).await.unwrap())
    };
    let list = || user(&cluster, &["invitations"]).1;
    let (_, ends) = invite(&cluster, &["--ttl", "2s"]);
    until("it has ended", async || {
        show(&ends).await == "item-not-found"
    })
    .await;
    let (issued, token) = invite(&cluster, &[]);
    assert_eq!(show(&token).await, "result");
    assert_eq!(list().lines().count(), 1, "{}", list());
    let id = issued["id"].as_str().unwrap();
    // Who has shown it and has no account yet gets none.
    let mut wire = stranger(&cluster, 0).await;
    ask(&mut wire, &preauth(&token)).await.unwrap();
    assert!(user(&cluster, &["uninvite", id]).0);
    assert!(!user(&cluster, &["uninvite", id]).0);
    assert_eq!(show(&token).await, "item-not-found");
    let answer = ask(&mut wire, &account("alice", PASSWORD)).await.unwrap();
    assert_eq!(outcome(&answer), "not-allowed");
    let (_, token) = invite(&cluster, &["--contact", "bob@localhost"]);
    assert!(user(&cluster, &["remove", "bob@localhost", "--yes"]).0);
    assert_eq!(show(&token).await, "item-not-found");
    assert_eq!(list(), "");
}

#[tokio::test]
async fn re_4_a_page_explains_an_invitation_and_never_hears_of_its_token() {
    let extra = format!("{INVITED}{}", web::WEB);
    let cluster = Cluster::start(1, &[], &extra).await;
    let (issued, token) = invite(&cluster, &[]);
    let link = issued["link"].as_str().unwrap();
    assert_eq!(link, format!("https://web.example/invite#{DOMAIN}/{token}"));
    let request = format!("GET /invite HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n");
    let answer = web::ask(web::address(&cluster, 0), cluster.tls(), &request);
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for part in [
        "\r\ncontent-security-policy: default-src 'none'; script-src 'sha256-",
        "\r\nreferrer-policy: no-referrer\r\n",
        "\";preauth=\" + told[2]",
    ] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    let (made, said) = user(&cluster, &["invite", "--set", "auth.registration=off"]);
    assert!(!made && said.contains("auth.registration"), "{said}");
}

#[tokio::test]
async fn re_5_a_user_invites_somebody_who_makes_an_account_and_both_are_contacts() {
    let extra = format!(
        "{INVITED}invite = \"users\"\n[quotas]\ninvitations = 1\n{}",
        web::WEB
    );
    let cluster = Cluster::start(3, &["bob"], &extra).await;
    let mut bob = cluster.client(0, "bob").await;
    hear_of_contacts(&mut bob).await;
    let answer = stage_at(&mut bob, INVITE, "action='execute'", "").await;
    let (uri, token, page) = issued(&answer);
    assert_eq!(
        uri,
        format!("xmpp:bob@{DOMAIN}?roster;preauth={token};ibr=y")
    );
    let link = format!("https://web.example/invite#bob@{DOMAIN}/{token}?roster;ibr=y");
    assert_eq!(page, [link]);
    let another = stage_at(&mut bob, INVITE, "", "").await;
    assert_eq!(refused(&another), "resource-constraint");
    let (_, listed) = user(&cluster, &["invitations"]);
    assert!(listed.contains(" a contact by bob@localhost"), "{listed}");

    let mut wire = stranger(&cluster, 1).await;
    ask(&mut wire, &preauth(&token)).await.unwrap();
    let answer = ask(&mut wire, &account("alice", PASSWORD)).await.unwrap();
    assert_eq!(outcome(&answer), "result");
    check_pushed(&mut bob, "alice@localhost", "both").await;
    let mut alice = cluster.client(2, "alice").await;
    check_contacts(&mut alice, &mut bob).await;
    let answer = ask(&mut wire, &preauth(&token)).await.unwrap();
    assert_eq!(outcome(&answer), "item-not-found");
    // There is room for another one.
    issued(&stage_at(&mut bob, INVITE, "", "").await);
}

#[tokio::test]
async fn re_5_an_administrator_invites_to_an_account_of_a_name() {
    let cluster = Cluster::prepare(1, INVITED).unwrap();
    cluster.add_to("[admin]", "jids = [\"bob@localhost\"]");
    let cluster = cluster.started(&["bob", "carol"]).await;
    let mut bob = cluster.client(0, "bob").await;
    let mut carol = cluster.client(0, "carol").await;
    let answer = stage_at(&mut carol, CREATE, "", "").await;
    assert_eq!(refused(&answer), "forbidden");
    let begun = stage_at(&mut bob, CREATE, "", "").await;
    let id = begun.child("command", ns::COMMANDS).unwrap();
    let id = format!("sessionid='{}'", id.attr("sessionid").unwrap());
    let form = Form::new(FormType::Submit, CREATE)
        .with("username", ["alice"])
        .with("roster-subscription", ["1"]);
    let form = form.to_element().to_xml(ns::COMMANDS);
    let (uri, token, _) = issued(&stage_at(&mut bob, CREATE, &id, &form).await);
    assert_eq!(uri, format!("xmpp:alice@{DOMAIN}?register;preauth={token}"));
    let mut wire = stranger(&cluster, 0).await;
    ask(&mut wire, &preauth(&token)).await.unwrap();
    let answer = ask(&mut wire, &account("alice", PASSWORD)).await.unwrap();
    assert_eq!(outcome(&answer), "result");
    let mut alice = cluster.client(0, "alice").await;
    check_contacts(&mut alice, &mut bob).await;
}

#[tokio::test]
async fn re_6_who_has_an_account_becomes_a_contact_by_an_invitation_that_is_good_once() {
    let cluster = Cluster::start(3, &["bob", "carol", "eve"], "").await;
    let mut bob = cluster.client(0, "bob").await;
    hear_of_contacts(&mut bob).await;
    let (uri, token, page) = issued(&stage_at(&mut bob, INVITE, "", "").await);
    assert_eq!(uri, format!("xmpp:bob@{DOMAIN}?roster;preauth={token}"));
    assert_eq!(page, [""; 0]);
    let shows = format!(
        "<presence type='subscribe' to='bob@localhost'><preauth xmlns='{}' token='{token}'/></presence>",
        ns::PREAUTH
    );
    let mut carol = cluster.client(1, "carol").await;
    carol
        .send("<presence type='subscribed' to='bob@localhost'/>")
        .await;
    carol.send(&shows).await;
    check_pushed(&mut bob, "carol@localhost", "from").await;
    check_pushed(&mut bob, "carol@localhost", "both").await;
    check_contacts(&mut carol, &mut bob).await;
    // It is no invitation any more, and Bob's client is asked.
    let mut eve = cluster.client(2, "eve").await;
    eve.send(&shows).await;
    let asked = await_presence(&mut bob, Some("subscribe"), "eve@localhost").await;
    assert!(asked.child("preauth", ns::PREAUTH).is_some(), "{asked:?}");
}
