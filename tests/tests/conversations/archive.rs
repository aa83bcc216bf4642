//! The archive: what it has before a node dies, while it does, and afterwards.

use proto::{Element, ns};
use tests::archive::all_behind;
use tests::client::{body, numbered};

use crate::talk::{Talk, answered, id, iq};

pub async fn conversation(talk: Talk<'_>) {
    let mut me = talk.client("desk").await;
    let mut friend = talk.friend().await;
    let own = talk.own();
    for body in numbered("before", 0..5) {
        friend.say(&own, &body).await;
    }
    me.expect(numbered("before", 0..5)).await;
    let first = all_behind(&mut me, None).await.unwrap();
    let texts = |archived: &[tests::archive::Archived]| {
        let texts = archived.iter().map(|entry| entry.body.clone());
        texts.collect::<Vec<_>>()
    };
    assert_eq!(texts(&first), numbered("before", 0..5));

    talk.middle().await;
    let query = id();
    let asked = format!("<query xmlns='{}' queryid='{query}'/>", ns::MAM);
    me.send(&iq("set", "", &query, &asked)).await;
    for body in numbered("during", 0..5) {
        friend.say(&own, &body).await;
    }
    talk.checkpoint(&mut [&mut me]).await;
    let (fin, before) = answered(&mut me, &query).await;
    let fin = fin.child("fin", ns::MAM).expect("IM-91");
    assert_eq!(fin.attr("complete"), Some("true"), "{fin:?}");
    let is_result = |message: &&Element| message.child("result", ns::MAM).is_some();
    let (results, others): (Vec<_>, Vec<_>) = before.iter().partition(is_result);
    // All that had come when it was asked for, each once, and perhaps some that came meanwhile.
    let ids = results.iter().map(|message| {
        let result = message.child("result", ns::MAM).unwrap();
        result.attr("id")
    });
    let found: Vec<_> = ids.collect();
    let known: Vec<_> = first.iter().map(|entry| Some(entry.id.as_str())).collect();
    assert_eq!(&found[..known.len()], &known, "IM-90");
    // What came meanwhile came once as itself.
    let mut live: Vec<String> = others.iter().map(|message| body(message)).collect();
    while live.len() < 5 {
        live.push(me.message().await.unwrap());
    }
    assert_eq!(live, numbered("during", 0..5), "P2");

    friend.say(&own, "after").await;
    me.expect(["after".to_owned()]).await;
    let all = all_behind(&mut me, None).await.unwrap();
    let mut expect = numbered("before", 0..5);
    expect.extend(numbered("during", 0..5));
    expect.push("after".into());
    assert_eq!(texts(&all), expect);
    assert_eq!(all[..5], first, "an id stays");
    me.check_nothing_more().await;
    let theirs = all_behind(&mut friend, None).await.unwrap();
    assert_eq!(texts(&theirs), expect, "both have it");
}
