//! A client in a browser, whose session goes on at another node, over a WebSocket (RFC 7395) or, begun anew there, over
//! BOSH (XEP-0206).

use proto::ns;
use tests::web_session::{Carrier, Session};

use crate::talk::Talk;

/// What the client has said so far, of which the server may not have counted all.
fn message(to: &str, text: &str) -> String {
    format!(
        "<message xmlns='{}' to='{to}' type='chat'><body>{text}</body></message>",
        ns::CLIENT
    )
}

pub async fn conversation<C: Carrier>(talk: Talk<'_>) {
    let mut friend = talk.friend().await;
    let (own, other) = (talk.own(), talk.other());
    let mut me = Session::<C>::start(talk.cluster(), talk.home(), talk.account).await;
    friend.say(&own, "before").await;
    assert_eq!(me.message().await, "before");
    let said = ["one", "two", "three"].map(|text| message(&other, text));
    me.web.send(&said[0]).await.unwrap();
    friend.expect(["one".to_owned()]).await;

    talk.middle().await;
    for message in &said[1..] {
        me.web.send(message).await.unwrap();
    }
    for body in ["during 0", "during 1"] {
        friend.say(&own, body).await;
    }
    if talk.checkpoint(&mut []).await {
        let h = me.resume(talk.cluster(), talk.elsewhere(), talk.account);
        // Its presence was the first.
        let h = h.await as usize - 1;
        for message in said.get(h..).expect("SM-28: no more than was said") {
            me.web.send(message).await.unwrap();
        }
    }
    for body in ["during 0", "during 1"] {
        assert_eq!(me.message().await, body, "P2");
    }
    friend.expect(["two", "three"].map(str::to_owned)).await;
    friend.say(&own, "after").await;
    assert_eq!(me.message().await, "after");
    me.web.send(&message(&other, "four")).await.unwrap();
    friend.expect(["four".to_owned()]).await;
    friend.check_nothing_more().await;
}
