//! What becomes of a message after it was sent: receipts, markers, corrections, reactions and retractions, which are
//! carried, copied and kept (IM-85); and messages that wait for somebody who is away (IM-60, IM-61).

use proto::{Element, ns};
use tests::client::{Client, numbered};

use crate::talk::{Talk, answered, granted, id, iq};

/// What is said of a message, in the order of its life, and the namespace by which it is told.
const SAID: [(&str, &str, &str); 6] = [
    ("received", ns::RECEIPTS, ""),
    ("displayed", ns::MARKERS, ""),
    ("replace", ns::CORRECT, "<body>corrected</body>"),
    ("reactions", ns::REACTIONS, ""),
    ("composing", ns::CHATSTATES, ""),
    ("retract", ns::RETRACT, "<body>retracted</body>"),
];
/// The one of them that says nothing of lasting interest.
const PASSING: &str = "composing";

/// Something that is said of a message.
fn said(to: &str, (name, namespace, body): (&str, &str, &str)) -> String {
    format!(
        "<message type='chat' to='{to}' id='{name}'><{name} xmlns='{namespace}' id='original'/>{body}</message>"
    )
}

/// What a message says of another one, or its text.
fn word(message: &Element) -> String {
    let all = SAID.iter();
    let mut found = all.filter(|(name, namespace, _)| message.child(name, namespace).is_some());
    found
        .next()
        .map_or_else(|| tests::client::body(message), |it| it.0.to_owned())
}

/// The next messages, in a word each.
async fn next(client: &mut Client, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    for _ in 0..count {
        words.push(word(&client.message_element().await.unwrap()));
    }
    words
}

/// What copies say that were sent to another client of the same account.
async fn copies(client: &mut Client, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    for _ in 0..count {
        let message = client.message_element().await.unwrap();
        let copy = message.child("sent", ns::CARBONS);
        let copy = copy.unwrap_or_else(|| panic!("IM-76: {message:?}"));
        let forwarded = copy.child("forwarded", ns::FORWARD).unwrap();
        words.push(word(forwarded.child("message", ns::CLIENT).unwrap()));
    }
    words
}

/// All that an archive has, in a word each.
async fn archived(client: &mut Client) -> Vec<String> {
    let asked = id();
    let query = format!("<query xmlns='{}' queryid='{asked}'/>", ns::MAM);
    client.send(&iq("set", "", &asked, &query)).await;
    let (fin, stanzas) = answered(client, &asked).await;
    let fin = fin.child("fin", ns::MAM).expect("IM-91");
    assert_eq!(fin.attr("complete"), Some("true"), "{fin:?}");
    let results = stanzas.iter().filter_map(|it| it.child("result", ns::MAM));
    let results = results.map(|result| {
        let forwarded = result.child("forwarded", ns::FORWARD).unwrap();
        word(forwarded.child("message", ns::CLIENT).unwrap())
    });
    results.collect()
}

pub async fn conversation(talk: Talk<'_>) {
    let mut me = talk.client("desk").await;
    let mut phone = talk.second("phone").await;
    let mut friend = talk.friend().await;
    let enable = format!("<enable xmlns='{}'/>", ns::CARBONS);
    granted(&mut phone, "set", "", &enable).await;
    let to = friend.jid.to_string();
    me.say(&to, "original").await;
    assert_eq!(next(&mut friend, 1).await, ["original"]);
    assert_eq!(copies(&mut phone, 1).await, ["original"]);

    talk.middle().await;
    for one in SAID {
        me.send(&said(&to, one)).await;
    }
    talk.checkpoint(&mut [&mut me]).await;
    let words = SAID.map(|(name, ..)| name);
    assert_eq!(next(&mut friend, words.len()).await, words, "P1");
    assert_eq!(copies(&mut phone, words.len()).await, words, "IM-76");
    me.say(&to, "after").await;
    assert_eq!(next(&mut friend, 1).await, ["after"]);
    assert_eq!(copies(&mut phone, 1).await, ["after"]);
    let mut kept = vec!["original"];
    kept.extend(words.into_iter().filter(|word| *word != PASSING));
    kept.push("after");
    for client in [&mut me, &mut friend] {
        assert_eq!(archived(client).await, kept, "IM-85");
    }
    for client in [&mut me, &mut phone, &mut friend] {
        client.check_nothing_more().await;
    }
}

pub async fn waiting(talk: Talk<'_>) {
    let own = talk.own();
    let me = talk.client("desk").await;
    let mut friend = talk.friend().await;
    me.close().await.unwrap();
    for body in numbered("before", 0..3) {
        friend.say(&own, &body).await;
    }
    friend.settle().await.unwrap();

    talk.middle().await;
    for body in numbered("during", 0..3) {
        friend.say(&own, &body).await;
    }
    talk.checkpoint(&mut []).await;
    friend.say(&own, "after").await;
    friend.settle().await.unwrap();
    let cluster = talk.cluster();
    let mut me = cluster
        .client_with(talk.elsewhere(), talk.account, "desk")
        .await;
    let mut expect = numbered("before", 0..3);
    expect.extend(numbered("during", 0..3));
    expect.push("after".into());
    for body in expect {
        let message = me.message_element().await.unwrap();
        assert_eq!(tests::client::body(&message), body, "IM-61");
        let delay = message.child("delay", ns::DELAY);
        assert!(delay.is_some(), "IM-61: {message:?}");
    }
    friend.say(me.jid.as_str(), "welcome").await;
    me.expect(["welcome".to_owned()]).await;
    me.check_nothing_more().await;
    // They waited once, and not for every client.
    let mut phone = talk.second("phone").await;
    phone.check_nothing_more().await;
    friend.check_nothing_more().await;
}
