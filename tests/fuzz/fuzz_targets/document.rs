//! A document of accounts, which an operator had from somewhere: however it is cut, it has the same parts (T-3).

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| proto::fuzzing::document(input));
