//! How often the code on a message's way asks the allocator for memory.
//!
//! The numbers are exact and the same on every machine, so that a copy too many is seen before it lands. Whoever saves
//! one lowers the number.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/chat.rs"]
mod chat;

use allocation_counter::measure;
use cluster::codec;
use cluster::session::Batch;
use proto::stanza::{Kind, MessageType, Stanza};
use proto::{Element, ns};

use self::chat::{BATCH, Chat, jid, packet};

/// Counts may be higher by this factor: a map that grows takes part in some batches and not in others.
const TOLERANCE: f64 = 1.1;

const XML: &str = "<message type='chat' to='bob@example.org' id='a1b2c3d4'>\
                   <body>How are you?</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>";

/// Does something a few times, and compares what the cheapest time has allocated for each message.
#[track_caller]
fn check(what: &str, at_most: f64, mut each: impl FnMut() -> u64) {
    let least = (0..8).map(|_| each()).min().unwrap_or_default();
    let found = least as f64 / BATCH as f64;
    println!("{what}: {found:.2}");
    assert!(
        found <= at_most * TOLERANCE,
        "{what}: {found:.2} allocations for each message, and {at_most} were enough"
    );
}

#[test]
fn a_stanza_is_read_and_written() {
    check("read", 32.0, || {
        let all = || {
            for _ in 0..BATCH {
                let elements = Element::parse_in(ns::CLIENT, XML).expect("well-formed");
                let stanza = elements.into_iter().next().map(Stanza::parse);
                let packed = stanza.expect("one").map(|stanza| stanza.pack());
                assert!(packed.is_ok());
            }
        };
        measure(all).count_total
    });
    let message = packet(Kind::Message(MessageType::Chat), "alice", Some(jid("bob")));
    check("written", 0.0, || {
        let mut out = Vec::with_capacity(1 << 20);
        let all = || (0..BATCH).for_each(|_| message.write(&[], &mut out));
        measure(all).count_total
    });
}

#[test]
fn a_message_is_encoded_and_decoded() {
    let batch = Chat::new().messages();
    check("encoded", 0.2, || {
        measure(|| drop(codec::encode(&batch))).count_total
    });
    let encoded = codec::encode(&batch);
    check("decoded", 7.1, || {
        measure(|| drop(codec::decode::<Batch>(&encoded))).count_total
    });
}

#[test]
fn a_message_is_applied_and_forgotten() {
    let mut chat = Chat::new();
    let mut applied = Vec::new();
    check("applied", 21.8, || {
        let batch = chat.messages();
        let count = measure(|| applied.push(chat.state.apply(batch))).count_total;
        let rest = chat.rest();
        chat.state.apply(rest);
        count
    });
    let delivered: usize = applied.iter().map(|applied| applied.outputs.len()).sum();
    assert_eq!(delivered, 8 * BATCH, "each was delivered");
    check("forgotten", 0.25, || {
        let batch = chat.messages();
        chat.state.apply(batch);
        let rest = chat.rest();
        measure(|| drop(chat.state.apply(rest))).count_total
    });
}

#[test]
fn a_view_of_a_state_copies_nothing_of_what_the_state_holds() {
    let mut chat = Chat::new();
    for _ in 0..64 {
        let batch = chat.messages();
        chat.state.apply(batch);
    }
    // A shard writes what it took at this moment, and goes on meanwhile.
    let (held, mut view) = (codec::encode(&chat.state).len() as u64, None);
    let taken = measure(|| view = Some(chat.state.clone())).bytes_total;
    println!("a view of {held} bytes: {taken}");
    assert!(taken < held / 10, "{taken} bytes for a view of {held}");
    let then = codec::encode(&view);
    let batch = chat.messages();
    chat.state.apply(batch);
    assert_eq!(codec::encode(&view), then, "it stays as it was");
}
