//! Invitations of users (XEP-0401, XEP-0445, XEP-0379): made before a node dies, used while it does, and each good once.

use proto::{Element, ns};
use tests::client::{Client, PASSWORD};
use tests::command::{completed, values};
use tests::contact::await_presence;
use tests::register::{account, ask, outcome, preauth, stranger};
use tests::wire::DOMAIN;

use crate::accounts::told;
use crate::talk::{Talk, answered, granted, id, iq};

/// Asks for an invitation.
fn invite() -> String {
    format!(
        "<command xmlns='{}' node='urn:xmpp:invite#invite' action='execute'/>",
        ns::COMMANDS
    )
}

/// The token of an invitation that may lead to an account.
fn token(answer: &Element) -> String {
    let uri = values(&completed(answer), "uri").remove(0);
    assert!(uri.ends_with(";ibr=y"), "RE-5: {uri}");
    let token = uri.split("preauth=").nth(1).unwrap();
    token.split(';').next().unwrap().to_owned()
}

/// Waits for the push of this contact with this subscription.
async fn await_push(client: &mut Client, contact: &str, subscription: &str) {
    loop {
        let stanza = client.stanza().await.unwrap();
        let query = stanza.child("query", ns::ROSTER);
        let item = query.and_then(|query| query.child("item", ns::ROSTER));
        let told = item.map(|item| (item.attr("jid"), item.attr("subscription")));
        client.keep(stanza.clone()).await;
        if told == Some((Some(contact), Some(subscription))) {
            return;
        }
    }
}

/// Each sees that the other is there.
async fn see_each_other(one: &mut Client, other: &mut Client) {
    let jids = [one.jid.to_string(), other.jid.to_string()];
    await_presence(one, None, &jids[1]).await;
    await_presence(other, None, &jids[0]).await;
}

pub async fn conversation(talk: Talk<'_>) {
    let cluster = talk.cluster();
    let name = talk.free("invitations-guest");
    let mut me = talk.client("desk").await;
    let mut friend = talk.friend().await;
    let roster = format!("<query xmlns='{}'/>", ns::ROSTER);
    granted(&mut me, "get", "", &roster).await;
    let first = token(&granted(&mut me, "set", DOMAIN, &invite()).await);

    talk.middle().await;
    let asked = id();
    me.send(&iq("set", DOMAIN, &asked, &invite())).await;
    let mut guest = stranger(cluster, talk.home()).await;
    let shown = ask(&mut guest, &preauth(&first)).await.unwrap();
    assert_eq!(outcome(&shown), "result", "RE-4");
    guest.send(&account(name, PASSWORD)).await.unwrap();
    talk.checkpoint(&mut [&mut me]).await;
    let (answer, pushed) = answered(&mut me, &asked).await;
    let second = token(&answer);
    // The guest has the account, or shows the invitation elsewhere: it is good, or has led to the account.
    if guest.next().await.is_err() {
        let shown = [preauth(&first), account(name, PASSWORD)];
        let last = told(&talk, talk.elsewhere(), &shown).await;
        assert!(["result", "conflict"].contains(&&*last), "RE-4: {last}");
    }
    let jid = format!("{name}@{DOMAIN}");
    let is_push = |stanza: &Element| {
        let query = stanza.child("query", ns::ROSTER);
        let item = query.and_then(|query| query.child("item", ns::ROSTER));
        item.is_some_and(|item| item.attr("subscription") == Some("both"))
    };
    if !pushed.iter().any(is_push) {
        await_push(&mut me, &jid, "both").await;
    }
    let mut guest = cluster.client(talk.elsewhere(), name).await;
    see_each_other(&mut guest, &mut me).await;
    let spent = [preauth(&first)];
    assert_eq!(told(&talk, talk.away(), &spent).await, "item-not-found");

    let (own, other) = (talk.own(), talk.other());
    let shows = format!(
        "<presence type='subscribe' to='{own}'><preauth xmlns='{}' token='{second}'/></presence>",
        ns::PREAUTH
    );
    friend
        .send(&format!("<presence type='subscribed' to='{own}'/>"))
        .await;
    friend.send(&shows).await;
    await_push(&mut me, &other, "both").await;
    see_each_other(&mut friend, &mut me).await;
    let spent = [preauth(&second)];
    assert_eq!(told(&talk, talk.away(), &spent).await, "item-not-found");
    for client in [&mut me, &mut guest, &mut friend] {
        client.check_nothing_more().await;
    }
}
