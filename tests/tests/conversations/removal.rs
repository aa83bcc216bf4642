//! A user removes the account (XEP-0077 §3.2): whichever node dies meanwhile, it is gone everywhere, and its contacts are
//! told once.

use std::time::Duration;

use proto::ns;
use tests::PATIENCE;
use tests::client::{Client, PASSWORD};
use tests::contact::{await_presence, befriend};
use tests::login::can_log_in;
use tests::register::{account, outcome};
use tests::wire::{End, Wire};
use tokio::time::Instant;

use crate::accounts::told;
use crate::talk::{Talk, granted, id, iq};

/// The session of the account that may be gone: whether it goes on.
async fn comes_back(talk: &Talk<'_>, me: &mut Client) -> bool {
    let address = talk.cluster().address(talk.elsewhere());
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "nobody knows whether it is gone");
        // The login alone tells it, too; the client panics where that fails.
        let probe = async {
            let mut wire = Wire::direct(address, talk.cluster().tls()).await?;
            wire.open().await?;
            wire.authenticate(talk.account, PASSWORD).await
        };
        let login: Result<_, End> = probe.await;
        match login {
            Ok(answer) if answer.local() == "success" => {}
            Ok(answer) if answer.child("not-authorized", ns::SASL).is_some() => return false,
            Ok(_) | Err(End::Lost(_)) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            Err(end) => panic!("{end}"),
        }
        me.resume(address).await;
        return true;
    }
}

/// What the friend hears of the account: which sessions go, and what is cancelled.
async fn told_of(friend: &mut Client, count: usize) -> Vec<(String, String)> {
    let mut told = Vec::new();
    while told.len() < count {
        let presence = friend.presence().await.unwrap();
        let [from, kind] = ["from", "type"].map(|name| presence.attr(name).unwrap_or_default());
        told.push((kind.to_owned(), from.to_owned()));
    }
    told.sort();
    told
}

pub async fn conversation(talk: Talk<'_>) {
    let cluster = talk.cluster();
    let mut me = talk.client("desk").await;
    let mut friend = talk.friend().await;
    befriend(&mut me, &mut friend).await;
    let mut phone = talk.second("phone").await;
    let sessions = [me.jid.to_string(), phone.jid.to_string()];
    await_presence(&mut friend, None, &sessions[1]).await;
    friend.settle().await.unwrap();
    friend.presences();

    talk.middle().await;
    let remove = format!("<query xmlns='{}'><remove/></query>", ns::REGISTER);
    me.send(&iq("set", "", &id(), &remove)).await;
    let killed = talk.checkpoint(&mut []).await;
    // It is removed, or its owner asks for that once more.
    if !killed || comes_back(&talk, &mut me).await {
        let end = me.wire.end().await;
        assert_eq!(end.condition(), "not-authorized", "RE-3: {end}");
    }
    assert_eq!(phone.wire.end().await.condition(), "not-authorized", "RE-3");
    let mut expect = vec![
        ("unavailable".to_owned(), sessions[0].clone()),
        ("unavailable".to_owned(), sessions[1].clone()),
        ("unsubscribe".to_owned(), talk.own()),
        ("unsubscribed".to_owned(), talk.own()),
    ];
    expect.sort();
    assert_eq!(told_of(&mut friend, expect.len()).await, expect, "RE-3");
    for node in [talk.away(), talk.elsewhere()] {
        assert!(!can_log_in(cluster, node, talk.account, PASSWORD).await);
    }
    let name = account(talk.account, PASSWORD);
    assert_eq!(told(&talk, talk.elsewhere(), &[name]).await, "conflict");
    friend.say(&talk.own(), "are you there?").await;
    let returned = friend.message_element().await.unwrap();
    assert_eq!(returned.attr("type"), Some("error"), "{returned:?}");
    let asked = format!("<query xmlns='{}'/>", ns::ROSTER);
    let roster = granted(&mut friend, "get", "", &asked).await;
    let query = roster.child("query", ns::ROSTER).unwrap();
    let item = query.child("item", ns::ROSTER).unwrap();
    assert_eq!(item.attr("subscription"), Some("none"), "RE-3: {item:?}");
    friend.check_nothing_more().await;
    assert_eq!(friend.presences(), []);
    let taken = tests::register::register(cluster, talk.away(), talk.account).await;
    assert_eq!(outcome(&taken), "conflict", "RE-3");
}
