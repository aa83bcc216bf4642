//! What another node may send: frames, and the values inside them (T-68).
//!
//! A checksum keeps random bytes out, so the first byte also chooses to put the rest behind it: as the
//! content of a frame that is in order, or straight to the codec.

#![no_main]

use bytes::{Bytes, BytesMut};
use cluster::codec;
use cluster::inner::frame::{self, Frame, Kind, Role};
use cluster::inner::hello::Hello;
use cluster::session::{Batch, Command, ShardState};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    match choice % 3 {
        0 => frames(rest),
        1 => content(*choice, rest),
        _ => values(rest),
    }
});

/// What was taken for a frame is written as the bytes that it came from.
fn frames(input: &[u8]) {
    let mut bytes = BytesMut::from(input);
    let mut taken = 0;
    while let Ok(Some(found)) = frame::decode(&mut bytes) {
        let mut written = Vec::new();
        frame::encode(&found, &mut written);
        assert_eq!(written, &input[taken..taken + written.len()]);
        taken += written.len();
    }
}

/// A frame in order survives, also when it comes in two pieces.
fn content(choice: u8, payload: &[u8]) {
    let sent = Frame {
        kind: Kind::Propose,
        role: Role::Request,
        group: u64::from(choice),
        id: u64::MAX,
        payload: Bytes::copy_from_slice(payload),
    };
    let mut wire = Vec::new();
    frame::encode(&sent, &mut wire);
    let cut = usize::from(choice) % wire.len();
    let mut bytes = BytesMut::from(&wire[..cut]);
    assert_eq!(frame::decode(&mut bytes), Ok(None));
    bytes.extend_from_slice(&wire[cut..]);
    assert_eq!(frame::decode(&mut bytes), Ok(Some(sent)));
}

/// Whatever is taken for a value is written and read as the same value.
fn values(input: &[u8]) {
    value::<Hello>(input);
    value::<Vec<Command>>(input);
    value::<Batch>(input);
    value::<ShardState>(input);
}

fn value<T>(input: &[u8])
where
    T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
{
    if let Ok(value) = codec::decode::<T>(input) {
        let again = codec::decode::<T>(&codec::encode(&value));
        assert_eq!(again.ok().as_ref(), Some(&value));
    }
}
