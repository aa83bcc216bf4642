//! Searches of the archive (XEP-0431): what is found before a node dies, by the search that was under way, and afterwards.

use proto::{Element, ns};
use tests::archive::{Page, page};
use tests::client::{Client, body};

use crate::talk::{Talk, answered, id, iq};

const FULLTEXT: &str = "{urn:xmpp:fulltext:0}fulltext";

fn bodies(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|it| it.body.as_str()).collect()
}

async fn find(client: &mut Client, words: &str, set: &str) -> Page {
    page(client, &[(FULLTEXT, words)], set).await.unwrap()
}

/// A search as it is sent.
fn query(id: &str, words: &str) -> String {
    let fields = [("FORM_TYPE", ns::MAM), (FULLTEXT, words)];
    let fields =
        fields.map(|(name, value)| format!("<field var='{name}'><value>{value}</value></field>"));
    format!(
        "<query xmlns='{}' queryid='{id}'><x xmlns='{}' type='submit'>{}</x></query>",
        ns::MAM,
        ns::DATA_FORM,
        fields.concat()
    )
}

/// What a result holds.
fn found(message: &Element) -> Option<String> {
    let result = message.child("result", ns::MAM)?;
    let forwarded = result.child("forwarded", ns::FORWARD)?;
    forwarded.child("message", ns::CLIENT).map(body)
}

pub async fn conversation(talk: Talk<'_>) {
    let mut me = talk.client("desk").await;
    let mut friend = talk.friend().await;
    let own = talk.own();
    let before = ["The first TRAIN leaves", "Nothing", "Der Zug fährt"];
    for text in before {
        friend.say(&own, text).await;
    }
    me.expect(before.map(str::to_owned)).await;
    assert_eq!(bodies(&find(&mut me, "train", "").await), [before[0]]);

    talk.middle().await;
    let asked = id();
    me.send(&iq("set", "", &asked, &query(&asked, "train")))
        .await;
    let during = ["trainspotting", "no such thing"];
    for text in during {
        friend.say(&own, text).await;
    }
    talk.checkpoint(&mut [&mut me]).await;
    let (fin, stanzas) = answered(&mut me, &asked).await;
    let fin = fin.child("fin", ns::MAM).expect("IM-91");
    assert_eq!(fin.attr("complete"), Some("true"), "{fin:?}");
    // What came meanwhile may be in it.
    let results: Vec<String> = stanzas.iter().filter_map(found).collect();
    let may_be = [before[0], during[0]];
    assert!(
        !results.is_empty() && may_be[..results.len()] == results[..],
        "IM-94: {results:?}"
    );
    let live = stanzas
        .iter()
        .filter(|stanza| stanza.local() == "message" && stanza.child("result", ns::MAM).is_none());
    let mut live: Vec<String> = live.map(body).collect();
    while live.len() < during.len() {
        live.push(me.message().await.unwrap());
    }
    assert_eq!(live, during, "P2");

    friend.say(&own, "a train of thought").await;
    me.expect(["a train of thought".to_owned()]).await;
    let expect = [before[0], during[0], "a train of thought"];
    let all = find(&mut me, "Train", "").await;
    assert_eq!(bodies(&all), expect, "IM-94");
    assert!(all.complete);
    assert_eq!(bodies(&find(&mut me, "faehrt", "").await), [""; 0]);
    assert_eq!(bodies(&find(&mut me, "FAHRT zug", "").await), [before[2]]);
    let mut set = "<max>1</max>".to_owned();
    for text in expect {
        let next = find(&mut me, "train", &set).await;
        assert_eq!(bodies(&next), [text], "IM-94");
        set = format!("<max>1</max><after>{}</after>", next.entries[0].id);
    }
    // Nobody finds what is in the archives of others only.
    me.say(friend.jid.as_str(), "a last train").await;
    friend.expect(["a last train".to_owned()]).await;
    assert_eq!(find(&mut friend, "train", "").await.entries.len(), 4);
    me.check_nothing_more().await;
    friend.check_nothing_more().await;
}
