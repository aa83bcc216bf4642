//! The first thing that a stranger's bytes meet: however they are cut, the same comes out, and what was
//! read survives being written (T-3, T-5).

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    proto::fuzzing::reader(input);
    proto::fuzzing::element(input);
    proto::fuzzing::stanza(input);
});
