//! What each step of a message's way costs by itself: reading and writing XML, encoding, applying, framing.
//!
//! ```sh
//! cargo bench -p holdfast-cluster --bench message
//! ```
//!
//! Times are for a batch of 64 messages, or for one where the name says so.

#![allow(clippy::expect_used, reason = "a bench may panic")]

#[path = "../tests/support/chat.rs"]
mod chat;

use bytes::{Bytes, BytesMut};
use cluster::codec;
use cluster::format::Version;
use cluster::inner::frame::{self, Frame, Kind, Role};
use cluster::session::Batch;
use divan::{Bencher, black_box};
use proto::stanza::{Kind as StanzaKind, MessageType, Stanza};
use proto::{Element, Jid, ns};

use self::chat::{Chat, jid, packet};

const XML: &str = "<message type='chat' to='bob@example.org' id='a1b2c3d4'>\
                   <body>How are you?</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>";

fn main() {
    divan::main();
}

#[divan::bench]
fn read_one_stanza() -> bool {
    let elements = Element::parse_in(ns::CLIENT, black_box(XML)).expect("well-formed");
    let stanza = elements.into_iter().next().map(Stanza::parse);
    stanza.is_some_and(|stanza| stanza.is_ok())
}

#[divan::bench]
fn write_one_stanza(bencher: Bencher<'_, '_>) {
    let message = packet(
        StanzaKind::Message(MessageType::Chat),
        "alice",
        Some(jid("bob")),
    );
    let mut out = Vec::with_capacity(1 << 10);
    bencher.bench_local(move || {
        out.clear();
        message.write(&[], &mut out);
        out.len()
    });
}

#[divan::bench]
fn prepare_one_jid() -> bool {
    Jid::new(black_box("Alice.Müller@example.org/Phone")).is_ok()
}

#[divan::bench]
fn encode_a_batch(bencher: Bencher<'_, '_>) {
    let batch = Chat::new().messages();
    bencher.bench_local(|| codec::encode(&batch).len());
}

#[divan::bench]
fn decode_a_batch(bencher: Bencher<'_, '_>) {
    let batch = codec::encode(&Chat::new().messages());
    bencher.bench_local(|| codec::decode::<Batch>(&batch).is_ok());
}

/// With the acknowledgements and confirmations that remove it again.
#[divan::bench]
fn apply_a_batch(bencher: Bencher<'_, '_>) {
    let mut chat = Chat::new();
    bencher.bench_local(|| {
        let batch = chat.messages();
        let outputs = chat.state.apply(batch).outputs.len();
        let rest = chat.rest();
        chat.state.apply(rest);
        outputs
    });
}

#[divan::bench(args = [300, 30_000, 500_000])]
fn frame_and_unframe(bencher: Bencher<'_, '_>, bytes: usize) {
    let framed = Frame {
        version: Version::CURRENT,
        kind: Kind::Propose,
        role: Role::Request,
        id: 1,
        group: 1,
        payload: Bytes::from(vec![b'x'; bytes]),
    };
    bencher.bench_local(|| {
        let mut out = Vec::with_capacity(bytes + 64);
        frame::encode(&framed, &mut out);
        let mut read = BytesMut::from(&out[..]);
        frame::decode(&mut read).is_ok()
    });
}
