//! Addresses: prepared once, they are prepared (T-46).

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    proto::fuzzing::jid(text);
    proto::fuzzing::stamp(text);
});
