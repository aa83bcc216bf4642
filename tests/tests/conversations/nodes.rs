//! Publish-subscribe on accounts: who hears what was published, and how the server knows what a client wants to hear.

use proto::ns;
use tests::contact::befriend;
use tests::pep::{ask, hears, publish, read, show, show_and_tell};

use crate::talk::{Talk, answered, id, iq, so_far, with_child};

const MANY: [(&str, &str); 2] = [("max_items", "max"), ("persist_items", "true")];

pub async fn conversation(talk: Talk<'_>) {
    const NODE: &str = "urn:talk:pep";
    let own = talk.own();
    let mut me = talk.client("desk").await;
    let mut friend = talk.friend().await;
    befriend(&mut me, &mut friend).await;
    publish(&mut me, NODE, "0", "before", &MANY).await;
    show_and_tell(&mut friend, NODE).await;
    hears(&mut friend, &[(&own, NODE, "before")]).await;
    publish(&mut me, NODE, "1", "one", &[]).await;
    hears(&mut friend, &[(&own, NODE, "one")]).await;

    talk.middle().await;
    let ids = [id(), id(), id()];
    let texts = ["during 0", "during 1", "during 2"];
    for (id, text) in ids.iter().zip(texts) {
        let item = format!("<item id='{text}'><text xmlns='urn:text'>{text}</text></item>");
        let publish = format!(
            "<pubsub xmlns='{}'><publish node='{NODE}'>{item}</publish></pubsub>",
            ns::PUBSUB
        );
        me.send(&iq("set", "", id, &publish)).await;
    }
    talk.checkpoint(&mut [&mut me]).await;
    for id in &ids {
        let (answer, _) = answered(&mut me, id).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    }
    publish(&mut me, NODE, "2", "after", &[]).await;
    for text in texts.iter().chain(["after"].iter()) {
        hears(&mut friend, &[(&own, NODE, text)]).await;
    }
    friend.check_nothing_more().await;
    // The newest comes first (PE-12).
    let all = ["after", "during 2", "during 1", "during 0", "one", "before"];
    assert_eq!(read(&mut friend, &own, NODE).await, all);
    let delete = format!("<delete node='{NODE}'/>");
    let answer = ask(&mut me, "set", "", ns::PUBSUB_OWNER, &delete).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    hears(&mut friend, &[(&own, NODE, "delete")]).await;
    assert_eq!(read(&mut friend, &own, NODE).await, ["item-not-found"]);
}

pub async fn capabilities(talk: Talk<'_>) {
    const WANTED: &str = "urn:talk:wanted";
    const OTHER: &str = "urn:talk:other";
    let other = talk.other();
    let mut me = talk.client("desk").await;
    let mut friend = talk.friend().await;
    befriend(&mut me, &mut friend).await;
    publish(&mut friend, WANTED, "current", "before", &[]).await;
    publish(&mut friend, OTHER, "current", "before", &[]).await;
    show_and_tell(&mut me, WANTED).await;
    hears(&mut me, &[(&other, WANTED, "before")]).await;
    me.settle().await.unwrap();
    so_far(&mut me).await;

    talk.middle().await;
    publish(&mut friend, WANTED, "current", "during", &[]).await;
    talk.checkpoint(&mut [&mut me]).await;
    hears(&mut me, &[(&other, WANTED, "during")]).await;
    publish(&mut friend, OTHER, "current", "unheard", &[]).await;
    publish(&mut friend, WANTED, "current", "after", &[]).await;
    hears(&mut me, &[(&other, WANTED, "after")]).await;
    // A client of the same kind is not asked, at whichever node.
    let mut phone = talk.second("phone").await;
    show(&mut phone, WANTED).await;
    let heard = so_far(&mut phone).await;
    let asked = with_child(&heard, "query", ns::DISCO_INFO);
    assert!(asked.is_empty(), "PE-10: {asked:?}");
    let told = with_child(&heard, "event", ns::PUBSUB_EVENT).len();
    if told == 0 {
        hears(&mut phone, &[(&other, WANTED, "after")]).await;
    }
    // Whoever shows something else wants to hear of something else.
    show_and_tell(&mut me, OTHER).await;
    hears(&mut me, &[(&other, OTHER, "unheard")]).await;
    publish(&mut friend, WANTED, "current", "for the phone", &[]).await;
    publish(&mut friend, OTHER, "current", "for the desk", &[]).await;
    hears(&mut me, &[(&other, OTHER, "for the desk")]).await;
    hears(&mut phone, &[(&other, WANTED, "for the phone")]).await;
    for client in [&mut me, &mut phone] {
        client.check_nothing_more().await;
    }
}
