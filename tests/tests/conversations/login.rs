//! Logins in one round trip (SASL2, Bind 2), and the return with a token (FAST).

use proto::sasl::Mechanism;
use proto::sasl::ht::TokenMechanism;
use proto::{Element, ns};
use tests::PATIENCE;
use tests::client::{PASSWORD, body, numbered};
use tests::sasl2::{Device, failure, identity, request_token, token};
use tests::wire::{End, Wire};
use tokio::time::Instant;

use crate::talk::Talk;

const BIND: &str = "<bind xmlns='urn:xmpp:bind:0'><tag>Talk</tag>\
    <enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>";
const MECHANISM: TokenMechanism = TokenMechanism::Exporter;

/// The next message, behind whatever else; so many stanzas have come with it.
async fn message(wire: &mut Wire, handled: &mut u32) -> Result<String, End> {
    loop {
        let element = wire.next().await?;
        if element.ns() == ns::CLIENT {
            *handled += 1;
            if element.local() == "message" {
                return Ok(body(&element));
            }
        }
    }
}

/// Logs in with a token in one piece; the answer.
async fn try_token(
    talk: &Talk<'_>,
    node: usize,
    (device, token): (Device, &str),
    inline: &str,
) -> Result<(Wire, Element), End> {
    let cluster = talk.cluster();
    let mut wire = Wire::direct(cluster.address(node), cluster.tls()).await?;
    wire.send(&device.fast(&wire, token, MECHANISM, inline))
        .await?;
    let features = wire.next().await?;
    assert!(features.is("features", ns::STREAM), "{features:?}");
    let answer = wire.next().await?;
    Ok((wire, answer))
}

/// The same as soon as the node can decide.
async fn with_token(
    talk: &Talk<'_>,
    node: usize,
    login: (Device, &str),
    inline: &str,
) -> (Wire, Element) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match try_token(talk, node, login, inline).await {
            Ok((_, answer))
                if answer.is("failure", ns::SASL2)
                    && failure(&answer) == "temporary-auth-failure"
                    && Instant::now() < deadline => {}
            Ok((wire, answer)) => {
                assert!(answer.is("success", ns::SASL2), "{answer:?}");
                login.0.check(&wire, login.1, MECHANISM, &answer);
                return (wire, answer);
            }
            Err(end) if end.is_passing() && Instant::now() < deadline => {}
            Err(end) => panic!("{end}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

pub async fn conversation(talk: Talk<'_>) {
    let device = Device {
        user: talk.account,
        id: "9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b11",
    };
    let mut friend = talk.friend().await;
    let cluster = talk.cluster();
    let wire = Wire::direct(cluster.address(talk.home()), cluster.tls());
    let mut wire = wire.await.unwrap();
    wire.send(&device.header()).await.unwrap();
    wire.next().await.unwrap();
    let inline = request_token(MECHANISM) + BIND;
    let success = device.authenticate(&mut wire, Mechanism::ScramSha256, PASSWORD, &inline);
    let success = success.await.unwrap();
    let (jid, given) = (identity(&success), token(&success).expect("FA-2"));
    let bound = success.child("bound", ns::BIND2).expect("BI-5");
    let enabled = bound.child("enabled", ns::SM).expect("SM-71");
    let smid = enabled.attr("id").unwrap();
    wire.send("<presence/>").await.unwrap();
    let mut handled = 0;
    friend.say(&jid, "before").await;
    assert_eq!(message(&mut wire, &mut handled).await.unwrap(), "before");

    talk.middle().await;
    for body in numbered("during", 0..5) {
        friend.say(&jid, &body).await;
    }
    let killed = talk.checkpoint(&mut []).await;
    friend.settle().await.unwrap();
    // With the token it goes on elsewhere, whether its node has died or not.
    drop(wire);
    let _ = killed;
    let resume = format!(
        "<resume xmlns='{}' previd='{smid}' h='{handled}'/>{BIND}",
        ns::SM
    );
    let (mut wire, success) = with_token(&talk, talk.elsewhere(), (device, &given), &resume).await;
    let resumed = success.child("resumed", ns::SM);
    let resumed = resumed.unwrap_or_else(|| panic!("SM-69: {success:?}"));
    assert_eq!(resumed.attr("h"), Some("1"), "its presence");
    assert_eq!(identity(&success), jid, "SM-69");
    assert!(success.child("bound", ns::BIND2).is_none(), "SM-69");
    friend.say(&jid, "after").await;
    for body in numbered("during", 0..5).into_iter().chain(["after".into()]) {
        assert_eq!(message(&mut wire, &mut handled).await.unwrap(), body, "P2");
    }
    wire.ping("no more").await.unwrap();

    // A new session in place of that one, at the third node, and no password for a token that is not there.
    let (mut second, success) = with_token(&talk, talk.away(), (device, &given), BIND).await;
    assert_eq!(identity(&success), jid, "BI-3");
    assert_eq!(wire.end().await.condition(), "conflict", "BI-4");
    second.ping("alive").await.unwrap();
    let guess = try_token(&talk, talk.away(), (device, "guess"), BIND).await;
    assert_eq!(failure(&guess.unwrap().1), "not-authorized", "FA-4");
}
