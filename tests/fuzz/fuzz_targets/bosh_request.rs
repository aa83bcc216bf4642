//! A request of BOSH, which a stranger posts: however it is cut, the same comes out, and what is kept of it is XML (T-3).

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| proto::fuzzing::bosh_request(input));
