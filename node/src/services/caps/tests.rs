//! What clients are asked, and what is believed of what they answer.

use crate::router::SessionContext;
use crate::router::testing::{edge, says, session};

/// A client with one node that it wants to hear of, and the hash of it.
const INFO: &str = "<identity category='client' type='pc'/><feature var='urn:mood+notify'/>\
                    <feature var='urn:ping'/>";

fn ver() -> String {
    let query = format!("<query xmlns='http://jabber.org/protocol/disco#info'>{INFO}</query>");
    let query = proto::Element::parse(query).unwrap();
    proto::payload::caps::hash("sha-1", &query).unwrap()
}

async fn presence(ctx: &SessionContext, hash: &str, ver: &str) -> Vec<String> {
    let c = format!("<c xmlns='http://jabber.org/protocol/caps' {hash} node='n' ver='{ver}'/>");
    let mut said = says(ctx, &format!("<presence>{c}</presence>")).await;
    assert!(said.pop().is_some_and(|last| last.starts_with("broadcast")));
    said
}

async fn answer(ctx: &SessionContext, id: &str, to: &str, info: &str) -> Vec<String> {
    let query = format!("<query xmlns='http://jabber.org/protocol/disco#info'>{info}</query>");
    says(
        ctx,
        &format!("<iq type='result' id='{id}'{to}>{query}</iq>"),
    )
    .await
}

#[tokio::test]
async fn pe_10_a_client_is_asked_once_and_what_it_says_is_known_everywhere() {
    let node = edge().await;
    let mut alice = session(&node, "alice@example.org/desk");
    let asked = presence(&alice, "hash='sha-1'", &ver()).await.concat();
    let id = format!("caps:sha-1:{}", ver());
    for part in [
        "from='alice@example.org'",
        "to='alice@example.org/desk'",
        &format!("id='{id}'"),
        &format!("node='n#{}'", ver()),
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    alice.available = true;
    assert_eq!(presence(&alice, "hash='sha-1'", &ver()).await, [""; 0]);
    let known = ["interested in [urn:mood]"];
    assert_eq!(answer(&alice, &id, "", INFO).await, known);
    // Others are not asked at all, and it is in the database, too.
    let bob = session(&node, "bob@example.org/x");
    assert_eq!(presence(&bob, "hash='sha-1'", &ver()).await, known);
    let nodes = node.storage.capabilities(&format!("sha-1:{}", ver())).await;
    assert_eq!(nodes.unwrap(), Some(vec!["urn:mood".into()]));
    // Another connection of the session says it again.
    let again = session(&node, "alice@example.org/desk");
    assert_eq!(presence(&again, "hash='sha-1'", &ver()).await, known);
}

#[tokio::test]
async fn di_3_a_hash_that_does_not_fit_is_believed_of_nobody_else() {
    let node = edge().await;
    let mallory = session(&node, "carol@example.org/x");
    let id = format!("caps:sha-1:{}", ver());
    let lie = "<identity category='client' type='pc'/><feature var='urn:tune+notify'/>";
    let own = answer(&mallory, &id, "", lie).await;
    assert_eq!(own, ["interested in [urn:tune]"]);
    let alice = session(&node, "alice@example.org/desk");
    let asked = presence(&alice, "hash='sha-1'", &ver()).await.concat();
    assert!(asked.contains("disco#info"), "{asked}");
    // Nobody answers for somebody else.
    let to = " to='alice@example.org'";
    assert_eq!(answer(&mallory, &id, to, INFO).await, [""; 0]);
    // What has no hash is asked of each session.
    for ctx in [&alice, &mallory] {
        let asked = presence(ctx, "", "1.0").await.concat();
        assert!(asked.contains("id='caps::1.0'"), "{asked}");
        assert_eq!(
            answer(ctx, "caps::1.0", "", INFO).await,
            ["interested in [urn:mood]"]
        );
    }
    let long = "v".repeat(200);
    assert_eq!(presence(&alice, "hash='sha-1'", &long).await, [""; 0]);
}
