//! Accounts that people make and change themselves (XEP-0077): what a node has promised holds, and what was under way when
//! it died has come about once or can be asked for again.

use proto::{Element, ns};
use tests::PATIENCE;
use tests::client::PASSWORD;
use tests::login::can_log_in;
use tests::register::{account, ask, outcome, register, stranger};
use tests::wire::End;
use tokio::time::Instant;

use crate::talk::{Talk, answered, id, iq};

const NEW: &str = "battery staple";

/// A new password for an account.
fn password(name: &str, password: &str) -> String {
    let fields = format!("<username>{name}</username><password>{password}</password>");
    format!("<query xmlns='{}'>{fields}</query>", ns::REGISTER)
}

/// One attempt to do what a stranger does on a stream of his own.
async fn attempt(talk: &Talk<'_>, node: usize, requests: &[String]) -> Result<Element, End> {
    let mut wire =
        tests::wire::Wire::direct(talk.cluster().address(node), talk.cluster().tls()).await?;
    wire.open().await?;
    let mut answer = Err(End::Closed);
    for request in requests {
        answer = ask(&mut wire, request).await;
    }
    answer
}

/// What a stranger is told in the end, who comes back as long as the node has no answer.
pub async fn told(talk: &Talk<'_>, node: usize, requests: &[String]) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = match attempt(talk, node, requests).await {
            Ok(answer) => outcome(&answer),
            Err(end) if end.is_passing() => end.to_string(),
            Err(end) => panic!("{end}"),
        };
        if ["result", "conflict", "item-not-found", "not-allowed"].contains(&&*told) {
            return told;
        }
        assert!(Instant::now() < deadline, "RE-1: {told}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

pub async fn conversation(talk: Talk<'_>) {
    let cluster = talk.cluster();
    let [early, late] = [talk.free("accounts-early"), talk.free("accounts-late")];
    let made = register(cluster, talk.home(), early).await;
    assert_eq!(outcome(&made), "result");
    let mut me = cluster.client(talk.home(), early).await;
    let mut friend = talk.friend().await;
    me.say(friend.jid.as_str(), "before").await;
    friend.expect(["before".to_owned()]).await;
    let mut phone = cluster.client_with(talk.away(), early, "phone").await;
    let again = register(cluster, talk.away(), early).await;
    assert_eq!(outcome(&again), "conflict");

    talk.middle().await;
    // The same password, so that the client comes back whether the node had set it or not.
    let set = id();
    me.send(&iq("set", "", &set, &password(early, PASSWORD)))
        .await;
    let mut guest = stranger(cluster, talk.home()).await;
    guest.send(&account(late, PASSWORD)).await.unwrap();
    talk.checkpoint(&mut [&mut me]).await;
    // All other sessions end, and the one goes on that has done it (RE-2).
    let (answer, _) = answered(&mut me, &set).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    assert_eq!(phone.wire.end().await.condition(), "not-authorized", "RE-2");
    me.say(friend.jid.as_str(), "after").await;
    friend.expect(["after".to_owned()]).await;
    // The guest has the account, or asks for it again and is told that it is there: once.
    let first = match guest.next().await {
        Ok(answer) => outcome(&answer),
        Err(end) => {
            assert!(end.is_passing(), "{end}");
            told(&talk, talk.elsewhere(), &[account(late, PASSWORD)]).await
        }
    };
    assert!(["result", "conflict"].contains(&&*first), "{first}");
    let again = told(&talk, talk.away(), &[account(late, NEW)]).await;
    assert_eq!(again, "conflict", "RE-1");
    let mut guest = cluster.client(talk.elsewhere(), late).await;
    guest.say(friend.jid.as_str(), "it is me").await;
    friend.expect(["it is me".to_owned()]).await;

    let set = id();
    me.send(&iq("set", "", &set, &password(early, NEW))).await;
    let (answer, _) = answered(&mut me, &set).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    for node in [talk.away(), talk.elsewhere()] {
        assert!(can_log_in(cluster, node, early, NEW).await);
        assert!(!can_log_in(cluster, node, early, PASSWORD).await);
    }
    me.check_nothing_more().await;
    guest.check_nothing_more().await;
    friend.check_nothing_more().await;
}
