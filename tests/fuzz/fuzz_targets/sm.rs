//! Stream Management: elements are understood as they were written, counters add up wherever they stand.
//!
//! The first nine bytes are counters, the rest is an element.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((counters, element)) = input.split_first_chunk::<9>() else {
        return;
    };
    let [a, b, c, d, e, f, g, h, in_flight] = *counters;
    let last = u32::from_le_bytes([a, b, c, d]);
    let far = u32::from_le_bytes([e, f, g, h]);
    let in_flight = usize::from(in_flight);
    proto::fuzzing::counts(last, far, in_flight);
    proto::fuzzing::counts(last, last.wrapping_add(far % 300), in_flight);
    proto::fuzzing::sm(element);
});
