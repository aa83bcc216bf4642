//! What strangers and clients send that is wrong: the stream that it came on ends with the error of the
//! rule, and nothing else does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::ns;
use tests::client::{Client, PASSWORD, body};
use tests::cluster::Cluster;
use tests::wire::{End, Wire, header};

/// Sends this on a new connection; how the stream ends.
async fn stranger(cluster: &Cluster, bytes: &[u8]) -> End {
    let mut wire = Wire::direct(cluster.address(0), cluster.tls())
        .await
        .unwrap();
    // The server may have hung up before the last byte.
    drop(wire.send_bytes(bytes).await);
    wire.end().await
}

#[tokio::test]
async fn what_strangers_send_ends_their_stream_with_the_error_of_the_rule() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let open = header();
    let deep = "<a>".repeat(10_000);
    let long = format!("<a b='{}'/>", "x".repeat(300_000));
    let wrong_ns = open.replace(ns::CLIENT, "jabber:klient");
    let elsewhere = open.replace("localhost", "elsewhere.example");
    for (rule, text, condition) in [
        ("ST-84", format!("{open}<!-- x -->"), "restricted-xml"),
        ("ST-84", format!("{open}<a>&lol;</a>"), "restricted-xml"),
        (
            "ST-84",
            "<!DOCTYPE a [<!ENTITY b 'c'>]>".to_owned(),
            "restricted-xml",
        ),
        ("ST-86", format!("{open}<a></b>"), "not-well-formed"),
        ("ST-86", format!("{open}<x:a/>"), "not-well-formed"),
        ("ST-86", format!("{open}<a>&#0;</a>"), "not-well-formed"),
        ("T-7", format!("{open}{deep}"), "policy-violation"),
        ("ST-88", format!("{open}{long}"), "policy-violation"),
        ("ST-8", wrong_ns, "invalid-namespace"),
        ("ST-7", elsewhere, "host-unknown"),
        (
            "ST-15",
            format!("{open}<message to='alice@localhost'><body>x</body></message>"),
            "not-authorized",
        ),
    ] {
        let end = stranger(&cluster, text.as_bytes()).await;
        assert_eq!(end.condition(), condition, "{rule}: {:.60}: {end}", text);
    }
    alice.check_nothing_more().await;
}

#[tokio::test]
async fn what_is_no_xmpp_at_all_ends_its_connection() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let noise: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for bytes in [
        &noise[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0",
        b"<<<<<<",
        b"\xff\xfe<\0s\0",
    ] {
        let end = stranger(&cluster, bytes).await;
        assert!(!matches!(end, End::Silent), "{bytes:.20?}");
        // The same where TLS is not spoken yet, and where nothing but TLS is.
        for address in [cluster.starttls(0), cluster.address(0)] {
            let mut wire = Wire::plain(address).await.unwrap();
            drop(wire.send_bytes(bytes).await);
            let end = wire.end().await;
            assert!(!matches!(end, End::Silent), "{bytes:.20?}");
        }
    }
    alice.check_nothing_more().await;
}

#[tokio::test]
async fn st_12_what_is_pipelined_behind_starttls_is_not_heard() {
    let cluster = Cluster::start(1, &[], "").await;
    let mut wire = Wire::plain(cluster.starttls(0)).await.unwrap();
    let injected = format!("{}<starttls xmlns='{}'/><auth/>", header(), ns::TLS);
    wire.send(&injected).await.unwrap();
    let end = wire.end().await;
    assert!(!matches!(end, End::Silent), "{end}");
}

#[tokio::test]
async fn stanzas_before_the_session_end_the_stream() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut wire = Wire::direct(cluster.address(0), cluster.tls())
        .await
        .unwrap();
    wire.login("alice", PASSWORD).await.unwrap();
    wire.send("<message to='alice@localhost'><body>x</body></message>")
        .await
        .unwrap();
    assert_eq!(wire.end().await.condition(), "not-authorized");
}

#[tokio::test]
async fn sm_4_stream_management_out_of_turn_is_refused_and_the_stream_goes_on() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut wire = Wire::direct(cluster.address(0), cluster.tls())
        .await
        .unwrap();
    wire.login("alice", PASSWORD).await.unwrap();
    wire.send(&format!("<enable xmlns='{}'/>", ns::SM))
        .await
        .unwrap();
    let failed = wire.next().await.unwrap();
    assert!(
        failed.child("unexpected-request", ns::STANZAS).is_some(),
        "{failed:?}"
    );
    wire.bind("desk").await.unwrap();
    wire.send(&format!("<resume xmlns='{}' previd='x' h='0'/>", ns::SM))
        .await
        .unwrap();
    let failed = wire.next().await.unwrap();
    assert!(
        failed.child("unexpected-request", ns::STANZAS).is_some(),
        "{failed:?}"
    );
    wire.close().await;
}

#[tokio::test]
async fn sm_9_a_second_enable_changes_nothing() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    alice
        .wire
        .send(&format!("<enable xmlns='{}' resume='true'/>", ns::SM))
        .await
        .unwrap();
    // The server may have asked for an acknowledgement of her presence before.
    let failed = loop {
        let next = alice.wire.next().await.unwrap();
        if !next.is("r", ns::SM) {
            break next;
        }
    };
    assert!(
        failed.child("unexpected-request", ns::STANZAS).is_some(),
        "{failed:?}"
    );
    alice.wire.cut();
    alice.resume(cluster.address(0)).await;
}

#[tokio::test]
async fn st_87_half_a_stanza_is_not_handled() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    let to_bob = bob.jid.to_string();
    let whole = format!("<message to='{to_bob}' type='chat'><body>one piece</body></message>");
    for length in [1, 9, whole.len() / 2, whole.len() - 1] {
        alice.wire.send(&whole[..length]).await.unwrap();
        alice.wire.cut();
        alice.resume(cluster.address(0)).await;
    }
    alice.send(&whole).await;
    assert_eq!(bob.message().await.unwrap(), "one piece");
    alice.say(&to_bob, "end").await;
    bob.expect(["end".to_owned()]).await;
}

#[tokio::test]
async fn t_3_what_is_forwarded_is_written_anew_and_bears_the_true_sender() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    let to_bob = bob.jid.to_string();
    let odd = format!(
        "<x:message xmlns:x='{}'\n\tto = \"{to_bob}\" type='chat'><x:body><![CDATA[<&>]]>&#x21;</x:body></x:message>",
        ns::CLIENT
    );
    alice.send(&odd).await;
    let message = bob.message_element().await.unwrap();
    assert_eq!(body(&message), "<&>!");
    assert_eq!(message.attr("from"), Some(alice.jid.as_str()));
}

#[tokio::test]
async fn st_67_who_claims_to_be_someone_else_is_shown_as_oneself() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    let to_bob = bob.jid.to_string();
    alice
        .send(&format!(
            "<message from='carol@localhost' to='{to_bob}'><body>lie</body></message>"
        ))
        .await;
    let message = bob.message_element().await.unwrap();
    assert_eq!(message.attr("from"), Some(alice.jid.as_str()));
}

/// A client that reads nothing is no burden for the others, and gets everything later.
#[tokio::test]
async fn t_13_a_client_that_does_not_read_holds_nobody_up() {
    let unlimited = "[limits]\nstanzas_per_second = 0\nbytes_per_second = 0\n";
    let cluster = Cluster::start(1, &["alice", "bob", "carol"], unlimited).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut mute = cluster.client(0, "bob").await;
    let mut carol = cluster.client(0, "carol").await;
    let (to_mute, to_carol) = (mute.jid.to_string(), carol.jid.to_string());
    let filling = "x".repeat(10_000);
    for number in 0..300 {
        alice.say(&to_mute, &format!("{number} {filling}")).await;
    }
    alice.say(&to_carol, "through").await;
    carol.expect(["through".to_owned()]).await;
    mute.wire.cut();
    mute.resume(cluster.address(0)).await;
    read_all(&mut mute, 300).await;
}

async fn read_all(client: &mut Client, count: usize) {
    for number in 0..count {
        let body = client.message().await.unwrap();
        assert_eq!(body.split(' ').next(), Some(&*number.to_string()));
    }
}
