//! Two users who see each other (RFC 6121 §3).

use proto::{Element, ns};

use crate::client::Client;

/// Asks for the roster, so that its changes come too.
async fn roster(client: &mut Client) {
    let get = format!(
        "<iq type='get' id='roster'><query xmlns='{}'/></iq>",
        ns::ROSTER
    );
    let answer = client.request(&get, "roster").await.expect("a session");
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

/// Both see each other's presence from now on.
pub async fn befriend(one: &mut Client, other: &mut Client) {
    roster(one).await;
    roster(other).await;
    for _ in 0..2 {
        let (from, to) = (one.jid.bare().to_string(), other.jid.bare().to_string());
        one.send(&format!("<presence type='subscribe' to='{to}'/>"))
            .await;
        one.settle().await.expect("a session");
        await_presence(other, Some("subscribe"), &from).await;
        other
            .send(&format!("<presence type='subscribed' to='{from}'/>"))
            .await;
        other.settle().await.expect("a session");
        await_presence(one, Some("subscribed"), &to).await;
        let full = other.jid.to_string();
        await_presence(one, None, &full).await;
        std::mem::swap(one, other);
    }
}

/// Waits for a presence of this type, and for no unavailable one or error before it.
pub async fn await_presence(client: &mut Client, kind: Option<&str>, from: &str) -> Element {
    loop {
        let presence = client
            .presence()
            .await
            .unwrap_or_else(|end| panic!("{kind:?} from {from}: {end}"));
        if presence.attr("type") == kind && presence.attr("from") == Some(from) {
            return presence;
        }
        assert_ne!(presence.attr("type"), Some("unavailable"), "{presence:?}");
        assert_ne!(presence.attr("type"), Some("error"), "{presence:?}");
    }
}
