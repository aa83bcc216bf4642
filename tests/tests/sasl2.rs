//! SASL2 with Bind 2 and FAST over real processes: one round trip from TLS to a session, on whichever node.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proto::sasl::Mechanism;
use proto::sasl::ht::TokenMechanism;
use proto::{Element, ns};
use tests::client::{Client, PASSWORD, body, numbered};
use tests::cluster::Cluster;
use tests::process;
use tests::sasl2::{Device, failure, identity, request_token, token};
use tests::wire::{End, Wire};
use tests::{PATIENCE, until};

const PHONE: Device = Device {
    user: "alice",
    id: "9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b11",
};
const TABLET: Device = Device {
    user: "alice",
    id: "0c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b12",
};
const BIND: &str = "<bind xmlns='urn:xmpp:bind:0'><tag>App</tag><enable xmlns='urn:xmpp:carbons:2'/>\
    <inactive xmlns='urn:xmpp:csi:0'/><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>";
const EXPR: TokenMechanism = TokenMechanism::Exporter;
const NONE: TokenMechanism = TokenMechanism::Unbound;

/// What a login has led to.
struct Opened {
    wire: Wire,
    success: Element,
}

impl Opened {
    fn jid(&self) -> String {
        identity(&self.success)
    }

    fn bound(&self) -> &Element {
        let bound = self.success.child("bound", ns::BIND2);
        bound.unwrap_or_else(|| panic!("BI-5: {:?}", self.success))
    }

    /// The SM-ID.
    fn smid(&self) -> String {
        let enabled = self.bound().child("enabled", ns::SM).expect("SM-71");
        assert_eq!(enabled.attr("resume"), Some("true"), "{enabled:?}");
        enabled.attr("id").expect("SM-7").to_owned()
    }

    /// The next stanza; what else comes is not asked for here.
    async fn stanza(&mut self) -> Element {
        loop {
            let next = self.wire.next().await.unwrap();
            if next.ns() == ns::CLIENT {
                return next;
            }
        }
    }

    /// The body of the next message.
    async fn message(&mut self) -> String {
        loop {
            let stanza = self.stanza().await;
            if stanza.local() == "message" {
                return body(&stanza);
            }
        }
    }

    /// Becomes available, and waits until that has come back.
    async fn available(&mut self) {
        self.wire.send("<presence/>").await.unwrap();
        while self.stanza().await.local() != "presence" {}
    }
}

async fn connect(cluster: &Cluster, node: usize) -> Wire {
    let wire = Wire::direct(cluster.address(node), cluster.tls()).await;
    wire.unwrap()
}

/// Logs in with the password; the answer to the last step.
async fn answer(cluster: &Cluster, node: usize, device: Device, inline: &str) -> (Wire, Element) {
    let mut wire = connect(cluster, node).await;
    wire.send(&device.header()).await.unwrap();
    let features = wire.next().await.unwrap();
    let authentication = features.child("authentication", ns::SASL2);
    assert!(authentication.is_some(), "SA-1: {features:?}");
    let mechanism = Mechanism::ScramSha512;
    let answer = device.authenticate(&mut wire, mechanism, PASSWORD, inline);
    let answer = answer.await.unwrap();
    (wire, answer)
}

/// The same, where that must succeed.
async fn log_in(cluster: &Cluster, node: usize, device: Device, inline: &str) -> Opened {
    let (mut wire, success) = answer(cluster, node, device, inline).await;
    assert!(success.is("success", ns::SASL2), "{success:?}");
    if success.child("resumed", ns::SM).is_none() {
        let features = wire.next().await.unwrap();
        assert!(features.is("features", ns::STREAM), "SA-7: {features:?}");
    }
    Opened { wire, success }
}

/// Logs in with a token, all in one piece; the answer.
async fn fast_answer(
    cluster: &Cluster,
    node: usize,
    (device, token, mechanism): (Device, &str, TokenMechanism),
    inline: &str,
) -> Result<(Wire, Element), End> {
    let mut wire = Wire::direct(cluster.address(node), cluster.tls()).await?;
    let all = device.fast(&wire, token, mechanism, inline);
    wire.send(&all).await?;
    let features = wire.next().await?;
    assert!(features.is("features", ns::STREAM), "{features:?}");
    let answer = wire.next().await?;
    if answer.is("success", ns::SASL2) {
        device.check(&wire, token, mechanism, &answer);
    }
    Ok((wire, answer))
}

async fn fast(
    cluster: &Cluster,
    node: usize,
    login: (Device, &str, TokenMechanism),
    inline: &str,
) -> Opened {
    let (wire, success) = fast_answer(cluster, node, login, inline).await.unwrap();
    assert!(success.is("success", ns::SASL2), "{success:?}");
    Opened { wire, success }
}

/// Says something to a full or bare address, and knows that it is handled.
async fn say(client: &mut Client, to: &str, bodies: Vec<String>) {
    for body in bodies {
        client.say(to, &body).await;
    }
    client.settle().await.unwrap();
}

#[tokio::test]
async fn sa_6_and_sm_72_one_login_binds_switches_on_and_counts_from_there() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut bob = cluster.client(0, "bob").await;
    let mut alice = log_in(&cluster, 0, PHONE, BIND).await;
    let jid = alice.jid();
    let resource = jid.strip_prefix("alice@localhost/App/").expect("BI-3");
    assert!(
        resource.len() >= 12 && !resource.contains("9c1f6c1e"),
        "BI-3: {jid}"
    );
    alice.smid();
    let metadata = alice.bound().child("metadata", ns::MAM).expect("BI-5");
    assert_eq!(metadata.elements().count(), 0, "{metadata:?}");
    // Both counts begin behind `<success/>`, and the features are no stanza.
    say(&mut bob, &jid, numbered("to", 0..2)).await;
    assert_eq!(alice.message().await, "to 0");
    assert_eq!(alice.message().await, "to 1");
    let mine = "<message to='bob@localhost' type='chat'><body>from</body></message>";
    alice
        .wire
        .send(&format!("{mine}<r xmlns='urn:xmpp:sm:3'/>"))
        .await
        .unwrap();
    let ack = loop {
        let next = alice.wire.next().await.unwrap();
        if next.is("a", ns::SM) {
            break next;
        }
    };
    assert_eq!(ack.attr("h"), Some("1"), "SM-72");
    bob.expect(["from".to_owned()]).await;
    // Carbons are on without another word: what bob says to another session is copied.
    let mut desk = cluster.client_with(0, "alice", "desk").await;
    let desk_jid = desk.jid.to_string();
    say(&mut bob, &desk_jid, vec!["copied".to_owned()]).await;
    let copy = loop {
        let stanza = alice.stanza().await;
        if stanza.local() == "message" {
            break stanza;
        }
    };
    assert!(copy.child("received", ns::CARBONS).is_some(), "{copy:?}");
    desk.expect(["copied".to_owned()]).await;
}

#[tokio::test]
async fn sa_5_and_sa_8_and_sa_10_what_is_out_of_order_fails_on_a_real_stream() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut wire = connect(&cluster, 0).await;
    wire.send(&PHONE.header()).await.unwrap();
    wire.next().await.unwrap();
    let wrong = PHONE.authenticate(&mut wire, Mechanism::ScramSha256, "wrong", BIND);
    assert_eq!(failure(&wrong.await.unwrap()), "not-authorized");
    // The same stream may try again.
    let right = PHONE.authenticate(&mut wire, Mechanism::ScramSha1, PASSWORD, "");
    let right = right.await.unwrap();
    assert_eq!(identity(&right), "alice@localhost");
    let features = wire.next().await.unwrap();
    assert!(
        features.child("bind", ns::BIND).is_some(),
        "SA-7: {features:?}"
    );
    wire.bind("classic").await.unwrap();
    wire.send("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>")
        .await
        .unwrap();
    assert_eq!(wire.end().await.condition(), "policy-violation", "SA-10");

    let mut wire = connect(&cluster, 0).await;
    wire.send(&PHONE.header()).await.unwrap();
    wire.next().await.unwrap();
    wire.send("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>")
        .await
        .unwrap();
    assert!(wire.next().await.unwrap().is("challenge", ns::SASL2));
    wire.send("\n").await.unwrap();
    assert_eq!(wire.end().await.condition(), "policy-violation", "SA-5");
}

#[tokio::test]
async fn bi_4_a_client_that_comes_back_ends_its_older_session_and_no_other_device() {
    let cluster = Cluster::start(3, &["alice"], "").await;
    let mut first = log_in(&cluster, 0, PHONE, BIND).await;
    let mut tablet = log_in(&cluster, 1, TABLET, BIND).await;
    let again = log_in(&cluster, 2, PHONE, BIND).await;
    assert_eq!(again.jid(), first.jid(), "BI-3");
    assert_ne!(again.jid(), tablet.jid());
    assert_eq!(first.wire.end().await.condition(), "conflict", "BI-4");
    // The same client under another tag, while its session sleeps.
    let mut again = again;
    again.wire.cut();
    let other = BIND.replace("App", "Other");
    let last = log_in(&cluster, 0, PHONE, &other).await;
    let resource = |jid: String| jid.rsplit('/').next().unwrap().to_owned();
    assert_eq!(resource(last.jid()), resource(again.jid()));
    let resume = format!(
        "<resume xmlns='{}' previd='{}' h='0'/>",
        ns::SM,
        again.smid()
    );
    let late = log_in(&cluster, 1, PHONE, &resume).await;
    assert!(
        late.success.child("failed", ns::SM).is_some(),
        "{:?}",
        late.success
    );
    tablet.wire.ping("still").await.unwrap();
}

#[tokio::test]
async fn bi_2_and_bi_5_what_was_missed_is_in_the_archive_and_its_end_is_told() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut bob = cluster.client(1, "bob").await;
    say(&mut bob, "alice@localhost", numbered("missed", 0..3)).await;
    // Before that nobody knows whether the archive will have them, and they come of themselves.
    until("all rows are written", async || {
        cluster.sum("holdfast_pending_effects").await == 0
    })
    .await;
    let mut alice = log_in(&cluster, 0, PHONE, BIND).await;
    let metadata = alice.bound().child("metadata", ns::MAM).expect("BI-5");
    let end = metadata.child("end", ns::MAM).expect("BI-5: an end");
    let end = end.attr("id").unwrap().to_owned();
    // No copies come of themselves; the archive has them, up to the one that was named.
    alice.available().await;
    let query = "<query xmlns='urn:xmpp:mam:2' queryid='q'/>";
    let iq = format!("<iq type='set' id='mam'>{query}</iq>");
    alice.wire.send(&iq).await.unwrap();
    let mut found = Vec::new();
    loop {
        let stanza = alice.stanza().await;
        if stanza.attr("id") == Some("mam") {
            break;
        }
        let result = stanza.child("result", ns::MAM);
        let result = result.unwrap_or_else(|| panic!("BI-2: {stanza:?}"));
        found.push(result.attr("id").unwrap().to_owned());
    }
    assert_eq!((found.len(), found.last()), (3, Some(&end)));
}

#[tokio::test]
async fn bi_6_where_the_account_has_too_many_sessions_the_login_fails_for_the_time_being() {
    let cluster = Cluster::start(1, &["alice"], "[limits]\nsessions_per_account = 1\n").await;
    let _desk = cluster.bound(0, "alice", "desk").await;
    let (mut wire, failed) = answer(&cluster, 0, PHONE, BIND).await;
    assert_eq!(failure(&failed), "temporary-auth-failure");
    // The stream goes on, without anybody being logged in.
    wire.send("<presence/>").await.unwrap();
    assert_eq!(wire.end().await.condition(), "not-authorized");
}

#[tokio::test]
async fn sm_70_a_resumption_that_fails_becomes_a_new_session_in_the_same_round_trip() {
    let cluster = Cluster::start(3, &["alice"], "").await;
    let resume = format!("<resume xmlns='{}' previd='there-is-none' h='5'/>", ns::SM);
    // Whatever comes first in the request, the resumption is tried first (SM-68).
    let mut alice = log_in(&cluster, 1, PHONE, &format!("{BIND}{resume}")).await;
    let failed = alice.success.child("failed", ns::SM).expect("SM-70");
    assert!(
        failed.child("item-not-found", ns::STANZAS).is_some(),
        "{failed:?}"
    );
    alice.smid();
    alice.wire.ping("alive").await.unwrap();
}

#[tokio::test]
async fn sm_69_and_fa_11_a_session_goes_on_elsewhere_after_kill_9_in_one_round_trip_with_a_token() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut bob = cluster.client(1, "bob").await;
    let inline = request_token(EXPR) + BIND;
    let mut alice = log_in(&cluster, 0, PHONE, &inline).await;
    let (jid, smid) = (alice.jid(), alice.smid());
    let given = token(&alice.success).expect("FA-2");
    alice.available().await;
    say(&mut bob, &jid, numbered("before", 0..3)).await;
    for expected in numbered("before", 0..3) {
        assert_eq!(alice.message().await, expected);
    }
    cluster.kill(0);
    say(&mut bob, &jid, numbered("after", 0..3)).await;
    // One stanza was her own presence; of the messages she has acknowledged one.
    let resume = format!("<resume xmlns='{}' previd='{smid}' h='2'/>{BIND}", ns::SM);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut alice = loop {
        match fast_answer(&cluster, 2, (PHONE, &given, EXPR), &resume).await {
            Ok((wire, success)) => break Opened { wire, success },
            Err(end) if end.is_passing() && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(end) => panic!("{end}"),
        }
    };
    let resumed = alice.success.child("resumed", ns::SM);
    assert!(resumed.is_some(), "SM-69: {:?}", alice.success);
    assert_eq!(alice.jid(), jid, "SM-69");
    assert!(alice.success.child("bound", ns::BIND2).is_none(), "SM-69");
    let expected = [numbered("before", 1..3), numbered("after", 0..3)].concat();
    for expected in expected {
        assert_eq!(alice.message().await, expected);
    }
    alice.wire.ping("alive").await.unwrap();
}

#[tokio::test]
async fn fa_4_and_fa_5_a_token_is_one_clients_for_one_mechanism_and_works_on_every_node() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let first = log_in(&cluster, 0, PHONE, &request_token(NONE)).await;
    let first = token(&first.success).expect("FA-2");
    for node in 0..3 {
        let opened = fast(&cluster, node, (PHONE, &first, NONE), BIND).await;
        assert_eq!(token(&opened.success), None, "FA-6: it is fresh");
        assert!(opened.jid().starts_with("alice@localhost/App/"));
    }
    let bob = Device {
        user: "bob",
        ..PHONE
    };
    for login in [
        (TABLET, &*first, NONE),
        (PHONE, &*first, EXPR),
        (bob, &*first, NONE),
        (PHONE, "guess", NONE),
    ] {
        let (_, answer) = fast_answer(&cluster, 1, login, BIND).await.unwrap();
        assert_eq!(failure(&answer), "not-authorized", "FA-4: {login:?}");
    }
    // The next one is given; until it is used the old one works.
    let second = fast(&cluster, 1, (PHONE, &first, NONE), &request_token(NONE)).await;
    let second = token(&second.success).expect("FA-2");
    fast(&cluster, 2, (PHONE, &first, NONE), "").await;
    fast(&cluster, 0, (PHONE, &second, NONE), "").await;
    let (_, answer) = fast_answer(&cluster, 2, (PHONE, &first, NONE), "")
        .await
        .unwrap();
    assert_eq!(failure(&answer), "not-authorized", "FA-5");
    // It is given up.
    let invalidate = "<fast xmlns='urn:xmpp:fast:0' invalidate='true'/>";
    log_in(&cluster, 1, PHONE, invalidate).await;
    let (_, answer) = fast_answer(&cluster, 0, (PHONE, &second, NONE), "")
        .await
        .unwrap();
    assert_eq!(failure(&answer), "not-authorized", "FA-7");
}

#[tokio::test]
async fn fa_7_a_new_password_takes_the_tokens_and_the_sessions_with_it() {
    let cluster = Cluster::start(3, &["alice"], "").await;
    let mut alice = log_in(&cluster, 0, PHONE, &(request_token(NONE) + BIND)).await;
    let given = token(&alice.success).expect("FA-2");
    let mut second = fast(&cluster, 1, (PHONE, &given, NONE), BIND).await;
    assert_eq!(alice.wire.end().await.condition(), "conflict", "BI-4");
    let config = cluster.config(0).to_string_lossy().into_owned();
    let jid = "alice@localhost";
    let arguments = [
        "user",
        "passwd",
        jid,
        "--password-stdin",
        "--config",
        &config,
    ];
    let output = process::run(arguments, "another horse\n");
    assert!(output.status.success(), "{output:?}");
    for node in 0..3 {
        let login = (PHONE, &*given, NONE);
        let (_, answer) = fast_answer(&cluster, node, login, BIND).await.unwrap();
        assert_eq!(failure(&answer), "not-authorized", "FA-7");
    }
    assert_eq!(second.wire.end().await.condition(), "not-authorized");
}

#[tokio::test]
async fn fa_6_an_expired_token_is_told_from_a_wrong_one_and_none_are_given_where_they_are_off() {
    let cluster = Cluster::prepare(1, "[auth]\ntoken_lifetime = \"1s\"\n").unwrap();
    let cluster = cluster.started(&["alice"]).await;
    let alice = log_in(&cluster, 0, PHONE, &request_token(NONE)).await;
    let given = token(&alice.success).expect("FA-2");
    until("FA-6: the token expires", async || {
        let (_, answer) = fast_answer(&cluster, 0, (PHONE, &given, NONE), "")
            .await
            .unwrap();
        answer.is("failure", ns::SASL2) && failure(&answer) == "credentials-expired"
    })
    .await;
    let off = Cluster::start(1, &["alice"], "[auth]\ntoken_lifetime = \"0\"\n").await;
    let alice = log_in(&off, 0, PHONE, &request_token(NONE)).await;
    assert_eq!(token(&alice.success), None);
    let (_, answer) = fast_answer(&off, 0, (PHONE, &given, NONE), "")
        .await
        .unwrap();
    assert_eq!(failure(&answer), "invalid-mechanism", "FA-1");
}
