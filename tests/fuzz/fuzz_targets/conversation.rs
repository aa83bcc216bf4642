//! A client's stream from its first byte to its last, with a driver that does what it is asked.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| proto::fuzzing::conversation(input));
